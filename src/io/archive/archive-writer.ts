import { rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import {
  encodePartsList,
  FAT_FILE_BYTES_MAX,
  partName,
  partSizes,
  partsListName,
  SPLIT_HINT,
} from '../../core/format/archive-parts.ts';
import {
  encodeTarHeader,
  TAR_END_BYTES,
  tarEntryBytes,
  tarPaddingBytes,
} from '../../core/format/archive-tar.ts';
import { withFileLock } from '../files/file-lock.ts';
import { isSystemError, systemRefusal } from '../files/system-refusal.ts';
import type { PlannedEntry } from './archive-draft.ts';
import { PartWriter, type WrittenPart } from './part-writer.ts';

/** `statfs(2)`, "MSDOS_SUPER_MAGIC": FAT12 to FAT32. exFAT has another one, and no such limit. */
const FAT_FILE_SYSTEM = 0x4d44;

export interface WriteArchiveOptions {
  /** Splits the archive into numbered files of at most this size; absent: one file. */
  readonly partBytes?: number;
  readonly signal: AbortSignal;
  readonly onBytes?: (doneBytes: number, totalBytes: number) => void;
}

export interface WrittenArchive {
  readonly sizeBytes: number;
  /** The file, or the parts in order and then their list. */
  readonly files: readonly string[];
  /** SHA-256 of the file; of parts, of their list. */
  readonly digest: Digest;
}

/** So many bytes will an archive have. */
export function archiveBytes(entries: readonly PlannedEntry[]): number {
  return entries.reduce((sum, entry) => sum + tarEntryBytes(entry.sizeBytes), TAR_END_BYTES);
}

/**
 * Writes an archive so that it appears when it is complete and flushed: under `.partial` names first; of parts the list
 * comes last. What a killed run left is overwritten. Every blob is hashed on its way in.
 * @throws ALREADY_EXISTS, BUSY when another process writes the same archive, DISK_FULL, PERMISSION_DENIED, NOT_FOUND,
 *   DIGEST_MISMATCH and SIZE_MISMATCH for a source that gives other bytes, USAGE for too many parts
 */
export async function writeArchive(
  file: string,
  entries: readonly PlannedEntry[],
  options: WriteArchiveOptions,
): Promise<WrittenArchive> {
  const sizeBytes = archiveBytes(entries);
  const { partBytes } = options;
  const files =
    partBytes === undefined
      ? [{ path: file, sizeBytes }]
      : partSizes(sizeBytes, partBytes).map((size, index) => ({
          path: partName(file, index),
          sizeBytes: size,
        }));
  const list = partBytes === undefined ? undefined : partsListName(file);
  // First of all: the lock would make the folder of a mistyped path.
  await freeBytesOf(file);
  const lock = `${file}.lock`;
  return withFileLock(lock, 'exclusive', 0, async () => {
    const writer = new PartWriter(files);
    try {
      // Before anything is removed or written.
      await requireAbsent(list ?? file);
      await writer.removeLeftovers();
      await requireRoom(file, files);
      const written = await writeEntries(writer, entries, sizeBytes, options);
      const listed = list === undefined ? undefined : { path: list, bytes: encodePartsList(written) };
      await writer.publish(listed);
      return {
        sizeBytes,
        files: [...files.map((item) => item.path), ...(list === undefined ? [] : [list])],
        digest: listed === undefined ? (written[0]?.digest ?? Digest.of('')) : Digest.of(listed.bytes),
      };
    } finally {
      await writer.discard();
      // Whoever opens a new lock from here on finds the archive there, or nothing at all.
      await rm(lock, { force: true }).catch(() => {});
    }
  });
}

async function writeEntries(
  writer: PartWriter,
  entries: readonly PlannedEntry[],
  totalBytes: number,
  { signal, onBytes }: WriteArchiveOptions,
): Promise<readonly WrittenPart[]> {
  const write = async (bytes: Uint8Array) => {
    signal.throwIfAborted();
    await writer.write(bytes);
    onBytes?.(writer.doneBytes, totalBytes);
  };
  for (const entry of entries) {
    const { name, sizeBytes } = entry;
    await write(encodeTarHeader({ name, sizeBytes, isExecutable: name.endsWith('.sh') }));
    await writeData(entry, write);
    await write(Buffer.alloc(tarPaddingBytes(sizeBytes)));
  }
  await write(Buffer.alloc(TAR_END_BYTES));
  return writer.finish();
}

/** What is altered on its way into an archive would be found on the other side only, where nobody can mend it. */
async function writeData(entry: PlannedEntry, write: (bytes: Uint8Array) => Promise<void>): Promise<void> {
  const { name, sizeBytes, digest } = entry;
  const hash = Digest.begin();
  let doneBytes = 0;
  for await (const bytes of entry.open()) {
    doneBytes += bytes.byteLength;
    if (doneBytes > sizeBytes) break;
    hash.update(bytes);
    await write(bytes);
  }
  if (doneBytes !== sizeBytes) {
    const count = doneBytes > sizeBytes ? 'more' : `${doneBytes}`;
    throw new FreeholdError('SIZE_MISMATCH', `${name}: ${count} bytes came, declared are ${sizeBytes}`);
  }
  const actual = Digest.finish(hash);
  if (digest !== undefined && actual !== digest) {
    throw new FreeholdError('DIGEST_MISMATCH', `${name}: the bytes that came have ${actual}`, {
      detail: { expected: digest, actual },
    });
  }
}

async function requireAbsent(file: string): Promise<void> {
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) return;
  throw new FreeholdError('ALREADY_EXISTS', `${file} exists already`, {
    hint: 'choose another name, or remove the old archive first',
  });
}

/** Before the first byte: a stick that is too small, or whose file system holds no file of this size. */
async function requireRoom(
  file: string,
  files: readonly { readonly path: string; readonly sizeBytes: number }[],
): Promise<void> {
  const { folder, freeBytes, isFat } = await freeBytesOf(file);
  const largest = Math.max(...files.map((item) => item.sizeBytes));
  if (isFat && largest > FAT_FILE_BYTES_MAX) {
    throw new FreeholdError(
      'DISK_FULL',
      `${folder} is a FAT file system, which holds files up to 4 GiB - 1`,
      {
        hint: SPLIT_HINT,
        detail: { bytes: largest, bytesMax: FAT_FILE_BYTES_MAX },
      },
    );
  }
  const wanted = files.reduce((sum, item) => sum + item.sizeBytes, 0);
  if (wanted <= freeBytes) return;
  throw new FreeholdError('DISK_FULL', `the archive needs ${wanted} bytes, and ${folder} has ${freeBytes}`, {
    hint: 'choose a larger disk, name fewer models, or write only what is new (--since OLDER_ARCHIVE)',
    detail: { bytes: wanted, freeBytes },
  });
}

async function freeBytesOf(
  file: string,
): Promise<{ readonly folder: string; readonly freeBytes: number; readonly isFat: boolean }> {
  const folder = path.dirname(path.resolve(file));
  try {
    const disk = await statfs(folder);
    return { folder, freeBytes: disk.bavail * disk.bsize, isFat: disk.type === FAT_FILE_SYSTEM };
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw systemRefusal(error, 'write', folder) ?? error;
    throw new FreeholdError('NOT_FOUND', `there is no folder ${folder}`, { cause: error });
  }
}
