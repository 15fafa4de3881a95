import { randomBytes } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import type { BlobReference, PutBlobOptions, PutBlobOutcome } from '../../core/format/artifact-place.ts';
import { withFileLock } from '../files/file-lock.ts';
import { makeFolder, syncFolder } from '../files/folder.ts';
import { openPartialFile, type PartialFile } from '../files/partial-file.ts';
import { onDisk } from './disk-access.ts';

/** A blob is the same from wherever it comes: what one source began, any other continues. */
const ANY_SOURCE = 'blob';

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
export async function writeBlobFile(order: BlobFile, options: PutBlobOptions): Promise<PutBlobOutcome> {
  const { file, partials, blob } = order;
  const { signal } = options;
  signal.throwIfAborted();
  if (await isThere(file, blob)) return 'present';
  await onDisk('write', partials, () => makeFolder(partials, 0o755));
  const partialFile = path.join(partials, path.basename(file));
  const lock = `${partialFile}.lock`;
  const work = async (): Promise<PutBlobOutcome> => {
    if (await isThere(file, blob)) return 'present';
    const partial = await openPartialFile(partialFile, blob);
    try {
      await fillTwice(partial, order, options);
      await partial.commit(file, 0o644);
      return 'written';
    } catch (error) {
      if (isWrongContent(error)) await partial.wipe();
      throw error;
    } finally {
      await partial.close();
    }
  };
  return withFileLock(
    lock,
    'exclusive',
    Number.POSITIVE_INFINITY,
    async () => {
      const outcome = await work();
      // Whoever waits for this lock, or opens a new one, finds the blob there.
      await rm(lock, { force: true });
      return outcome;
    },
    { signal },
  );
}

async function isThere(file: string, blob: BlobReference): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  return found?.isFile() === true && found.size === blob.sizeBytes;
}

/** Pieces of several runs may not belong together (a power cut): then once more from the beginning. */
async function fillTwice(partial: PartialFile, order: BlobFile, options: PutBlobOptions): Promise<void> {
  await partial.resume(ANY_SOURCE, undefined, options.signal);
  try {
    await fill(partial, order, options);
  } catch (error) {
    if (!partial.isPieced || !isWrongContent(error)) throw error;
    await partial.wipe();
    await fill(partial, order, options);
  }
}

async function fill(
  partial: PartialFile,
  { blob, open: from }: BlobFile,
  { signal, onBytes }: PutBlobOptions,
) {
  const resumedBytes = partial.sizeBytes;
  await partial.describe({ source: ANY_SOURCE }, resumedBytes > 0);
  onBytes?.(resumedBytes, resumedBytes);
  if (resumedBytes < blob.sizeBytes || resumedBytes === 0) {
    for await (const bytes of from(resumedBytes)) {
      signal.throwIfAborted();
      await partial.append(bytes);
      onBytes?.(partial.sizeBytes, resumedBytes);
    }
  }
  partial.verify();
}

const isWrongContent = (error: unknown) =>
  error instanceof FreeholdError && (error.code === 'DIGEST_MISMATCH' || error.code === 'SIZE_MISMATCH');

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
