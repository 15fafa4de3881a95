import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import type { BlobReference, PutBlobOptions, PutBlobOutcome } from '../../core/format/artifact-place.ts';
import { makeFolder } from '../files/folder.ts';
import { fillResumedFile } from '../files/resumed-file.ts';
import { BLOB_MODE, soundBlob } from './blob-writing.ts';
import { onDisk } from './disk-error.ts';
import type { Layout } from './layout.ts';

/**
 * Fills a blob from a stream that can begin anywhere; what arrived stays in `partial/`. The caller holds the lease.
 * @throws what `fillResumedFile` throws
 */
export async function downloadBlob(
  layout: Layout,
  blob: BlobReference,
  open: (startBytes: number) => AsyncIterable<Uint8Array>,
  { signal, onBytes }: PutBlobOptions,
): Promise<PutBlobOutcome> {
  for (const folder of [layout.partialFolder, layout.blobFolder]) {
    await onDisk('create', folder, () => makeFolder(folder));
  }
  return fillResumedFile({
    expected: blob,
    partialPath: partialPath(layout, blob.digest),
    path: layout.blobPath(blob.digest),
    mode: BLOB_MODE,
    isThere: () => isSound(layout, blob),
    open,
    signal,
    onBytes,
  });
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
