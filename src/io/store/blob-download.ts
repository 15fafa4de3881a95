import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { BlobReference, PutBlobOptions, PutBlobOutcome } from '../../core/format/artifact-place.ts';
import { withFileLock } from '../files/file-lock.ts';
import { makeFolder } from '../files/folder.ts';
import { openPartialFile, type PartialFile } from '../files/partial-file.ts';
import { BLOB_MODE, soundBlob } from './blob-writing.ts';
import { onDisk } from './disk-error.ts';
import type { Layout } from './layout.ts';

/** The stream ended too early; nothing says that what came is wrong. */
class ShortStreamError extends FreeholdError {}

/** A blob is the same from wherever it comes: what one source began, any other continues. */
const ANY_SOURCE = 'blob';

/**
 * Fills a blob from a stream that can begin anywhere. What arrived stays in `partial/` when the stream breaks or the
 * process dies, and is hashed and continued by the next call; the blob gets its name last, with the right digest only.
 * Two processes that want the same blob take turns, and the second finds it there. The caller holds the lease.
 * @throws DIGEST_MISMATCH, SIZE_MISMATCH (what arrived is thrown away), DISK_FULL, PERMISSION_DENIED, the signal's reason,
 *   whatever the stream throws
 */
export async function downloadBlob(
  layout: Layout,
  blob: BlobReference,
  open: (startBytes: number) => AsyncIterable<Uint8Array>,
  options: PutBlobOptions,
): Promise<PutBlobOutcome> {
  await onDisk('create', layout.partialFolder, () => makeFolder(layout.partialFolder));
  const file = partialPath(layout, blob.digest);
  const { signal } = options;
  const work = async (): Promise<PutBlobOutcome> => {
    if (await isSound(layout, blob)) return 'present';
    const partial = await openPartialFile(file, blob);
    try {
      await fillTwice(partial, open, options);
      await onDisk('create', layout.blobFolder, () => makeFolder(layout.blobFolder));
      await partial.commit(layout.blobPath(blob.digest), BLOB_MODE);
      return 'written';
    } catch (thrown) {
      if (isWrongContent(thrown)) await partial.wipe();
      throw thrown;
    } finally {
      await partial.close();
    }
  };
  return withFileLock(`${file}.lock`, 'exclusive', Number.POSITIVE_INFINITY, work, { signal });
}

const partialPath = (layout: Layout, digest: Digest) => path.join(layout.partialFolder, Digest.hex(digest));

/** How much of a blob an unfinished download left. */
export async function partialBytes(layout: Layout, digest: Digest): Promise<number> {
  const found = await lstat(partialPath(layout, digest)).catch(() => undefined);
  return found?.isFile() === true ? found.size : 0;
}

/** Whether the blob is there with the right bytes. @throws PERMISSION_DENIED */
export async function isSound(layout: Layout, blob: BlobReference): Promise<boolean> {
  return (await soundBlob(layout, blob.digest))?.sizeBytes === blob.sizeBytes;
}

/** Pieces of several runs may not belong together (a power cut, a lying source): then once more from the beginning. */
async function fillTwice(
  partial: PartialFile,
  open: (startBytes: number) => AsyncIterable<Uint8Array>,
  options: PutBlobOptions,
): Promise<void> {
  await partial.resume(ANY_SOURCE, undefined, options.signal);
  try {
    await fill(partial, open, options);
  } catch (thrown) {
    if (!partial.isPieced || !isWrongContent(thrown)) throw thrown;
    await partial.wipe();
    await fill(partial, open, options);
  }
}

async function fill(
  partial: PartialFile,
  open: (startBytes: number) => AsyncIterable<Uint8Array>,
  { signal, onBytes }: PutBlobOptions,
): Promise<void> {
  const resumedBytes = partial.sizeBytes;
  onBytes?.(resumedBytes, resumedBytes);
  await partial.describe({ source: ANY_SOURCE }, resumedBytes > 0);
  // A blob said to be empty is asked for as well: its source may have bytes.
  if (resumedBytes === 0 || resumedBytes < partial.expected.sizeBytes) {
    for await (const bytes of open(resumedBytes)) {
      signal.throwIfAborted();
      await partial.append(bytes);
      onBytes?.(partial.sizeBytes, resumedBytes);
    }
  }
  const { sizeBytes, expected } = partial;
  // What arrived may be right: it is kept, and the next source continues.
  if (sizeBytes < expected.sizeBytes) {
    throw new ShortStreamError(
      'SIZE_MISMATCH',
      `the bytes ended after ${sizeBytes} of ${expected.sizeBytes}`,
    );
  }
  partial.verify();
}

function isWrongContent(thrown: unknown): boolean {
  if (thrown instanceof ShortStreamError) return false;
  return (
    thrown instanceof FreeholdError && (thrown.code === 'DIGEST_MISMATCH' || thrown.code === 'SIZE_MISMATCH')
  );
}
