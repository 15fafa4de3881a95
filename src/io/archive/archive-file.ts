import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ByteSource } from '../../core/base/byte-source.ts';
import { requireRange } from '../../core/base/byte-source.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { archiveInvalid } from '../../core/format/archive-entries.ts';
import {
  type ArchivePart,
  archiveOfPart,
  PARTS_LIST_BYTES_MAX,
  parsePartsList,
  partName,
  partsListName,
} from '../../core/format/archive-parts.ts';
import { hashOpenFile } from '../files/file-hash.ts';
import { readExactly } from '../files/file-range.ts';
import { isSystemError, systemRefusal } from '../files/system-refusal.ts';

/** The bytes of an archive, from one file or from its parts. */
export interface ArchiveBytes extends ByteSource {
  /** `archive triage.tar`. */
  readonly label: string;
  /** Absent where the archive is one file. */
  readonly parts: readonly ArchivePart[] | undefined;
  /** Hashes every part. @throws ARCHIVE_INVALID naming the altered one */
  verifyParts(signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens an archive: the file itself, or by its name, that of its list or that of any part, the numbered parts.
 * @throws NOT_FOUND, PERMISSION_DENIED, ARCHIVE_INVALID when a part is missing or has another size than the list says
 */
export async function openArchiveBytes(file: string): Promise<ArchiveBytes> {
  const base = archiveOfPart(file);
  if (base === undefined) {
    const whole = await openPlain(file);
    if (whole !== undefined) return bytesOver(labelOf(file), [whole], undefined);
  }
  return openParts(base ?? file);
}

const labelOf = (file: string) => `archive ${path.basename(file)}`;

async function openParts(archive: string): Promise<ArchiveBytes> {
  const label = labelOf(archive);
  const list = await openPlain(partsListName(archive));
  if (list === undefined) throw await whyNoList(archive);
  const parts = await readList(list, label);
  const handles: FileHandle[] = [];
  try {
    for (const [index, part] of parts.entries()) {
      const name = partName(archive, index);
      const handle = await openPlain(name);
      const shown = path.basename(name);
      if (handle === undefined)
        throw archiveInvalid(label, shown, 'is missing: all parts must lie in one folder');
      handles.push(handle);
      const { size } = await handle.stat();
      if (size !== part.size) throw archiveInvalid(label, shown, `has ${size} bytes instead of ${part.size}`);
    }
    return bytesOver(label, handles, parts);
  } catch (error) {
    await closeAll(handles);
    throw error;
  }
}

async function whyNoList(archive: string): Promise<FreeholdError> {
  const first = await openPlain(partName(archive, 0));
  if (first === undefined) return new FreeholdError('NOT_FOUND', `${archive} does not exist`);
  await first.close();
  return archiveInvalid(
    labelOf(archive),
    path.basename(partsListName(archive)),
    'is missing: it lists the parts, and is written last',
  );
}

async function readList(handle: FileHandle, label: string): Promise<readonly ArchivePart[]> {
  try {
    const { size } = await handle.stat();
    if (size > PARTS_LIST_BYTES_MAX) throw archiveInvalid(label, undefined, 'its list of parts is too long');
    return parsePartsList(await readFile(handle), `${label}: the list of parts`);
  } finally {
    await handle.close();
  }
}

/** Without O_NONBLOCK, opening a named pipe would wait for a writer. @returns undefined when there is no such file */
async function openPlain(file: string): Promise<FileHandle | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw systemRefusal(error, 'read', file) ?? notPlain(file, error);
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw notPlain(file);
}

const notPlain = (file: string, cause?: unknown) =>
  new FreeholdError('NOT_FOUND', `${file} is not a plain file`, { cause });

async function closeAll(handles: readonly FileHandle[]): Promise<void> {
  for (const handle of handles) await handle.close();
}

async function bytesOver(
  label: string,
  handles: readonly FileHandle[],
  parts: readonly ArchivePart[] | undefined,
): Promise<ArchiveBytes> {
  const pieces: { handle: FileHandle; start: number; end: number }[] = [];
  let sizeBytes = 0;
  for (const handle of handles) {
    const { size } = await handle.stat();
    pieces.push({ handle, start: sizeBytes, end: sizeBytes + size });
    sizeBytes += size;
  }
  return {
    label,
    parts,
    sizeBytes,
    async read(offset, length) {
      requireRange(offset, length, sizeBytes);
      const found: Buffer[] = [];
      for (const { handle, start, end } of pieces) {
        const [from, to] = [Math.max(start, offset), Math.min(end, offset + length)];
        if (from < to) found.push(await readPiece(handle, from - start, to - from, label));
      }
      return found.length === 1 && found[0] !== undefined ? found[0] : Buffer.concat(found);
    },
    async verifyParts(signal) {
      for (const [index, part] of (parts ?? []).entries()) {
        const handle = handles[index];
        if (handle === undefined) continue;
        const { digest } = await hashOpenFile(handle, { signal });
        if (digest !== part.digest) throw alteredPart(label, index, digest, part);
      }
    },
    close: () => closeAll(handles),
  };
}

/** The error for a part whose bytes are others. */
export function alteredPart(label: string, index: number, actual: Digest, part: ArchivePart): FreeholdError {
  const name = `part ${String(index + 1).padStart(3, '0')}`;
  return archiveInvalid(label, name, `was altered, or is another part: ${actual} instead of ${part.digest}`);
}

async function readPiece(handle: FileHandle, offset: number, length: number, label: string): Promise<Buffer> {
  try {
    return await readExactly(handle, offset, length, label);
  } catch (error) {
    if (error instanceof FreeholdError) throw error;
    // A stick that was pulled out, a disk that fails: EIO, ENODEV.
    throw new FreeholdError('ARCHIVE_INVALID', `${label} cannot be read at byte ${offset}`, { cause: error });
  }
}
