import { randomBytes } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { BlobReference, PutBlobOptions, PutBlobOutcome } from '../../core/format/artifact-place.ts';
import { makeFolder, syncFolder } from '../files/folder.ts';
import { fillResumedFile } from '../files/resumed-file.ts';
import { onDisk } from './disk-access.ts';

export interface BlobFile {
  readonly file: string;
  /** Folder for what is not finished. */
  readonly partials: string;
  readonly blob: BlobReference;
  open(startBytes: number): AsyncIterable<Uint8Array>;
}

/**
 * Writes a blob of a layout: continues what an earlier call or process left, hashes it, and gives it its name last.
 * @throws DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL, PERMISSION_DENIED, the signal's reason, whatever the stream throws
 */
export async function writeBlobFile(
  order: BlobFile,
  { signal, onBytes }: PutBlobOptions,
): Promise<PutBlobOutcome> {
  const { file, partials, blob } = order;
  signal.throwIfAborted();
  const isThere = () => isFileThere(file, blob);
  if (await isThere()) return 'present';
  await onDisk('write', partials, () => makeFolder(partials, 0o755));
  const partialPath = path.join(partials, path.basename(file));
  return fillResumedFile({
    expected: blob,
    partialPath,
    path: file,
    mode: 0o644,
    isThere,
    open: (startBytes) => order.open(startBytes),
    signal,
    onBytes,
    // Whoever waits for this lock, or opens a new one, finds the blob there.
    onWritten: () => rm(`${partialPath}.lock`, { force: true }),
  });
}

async function isFileThere(file: string, blob: BlobReference): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  return found?.isFile() === true && found.size === blob.sizeBytes;
}

/** Replaces a small file as one step, flushed. @throws DISK_FULL, PERMISSION_DENIED */
export async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
  const temp = `${file}.${randomBytes(6).toString('hex')}.partial`;
  await onDisk('write', file, async () => {
    try {
      const handle = await open(temp, 'wx', 0o644);
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temp, file);
      await syncFolder(path.dirname(file));
    } finally {
      await rm(temp, { force: true }).catch(() => {});
    }
  });
}
