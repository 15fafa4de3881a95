import type { BlobExpectation, BlobInfo } from '../../core/base/blob-store.ts';
import { Digest } from '../../core/base/digest.ts';
import { hashOpenFile } from '../files/file-hash.ts';
import { requireExpected, requireSizeSoFar } from './blob-expectation.ts';
import type { Layout } from './layout.ts';
import { openPlainFile } from './plain-file.ts';
import { createTempFile, type TempFile } from './temp-file.ts';

/** Nobody, not even we, has a reason to write into a blob again. */
export const BLOB_MODE = 0o444;

/**
 * Streams bytes into a temporary file, hashing and counting them on the way, and makes them visible last.
 * The caller holds the lease.
 * @param name of the source, for messages
 * @throws DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL, PERMISSION_DENIED, whatever the stream throws
 */
export async function writeBlob(
  layout: Layout,
  bytes: AsyncIterable<Uint8Array> | Uint8Array,
  expect: BlobExpectation,
  name?: string,
): Promise<BlobInfo> {
  const temp = await createTempFile(layout);
  try {
    const hash = Digest.begin();
    let sizeBytes = 0;
    for await (const part of bytes instanceof Uint8Array ? [bytes] : bytes) {
      sizeBytes += part.byteLength;
      requireSizeSoFar(sizeBytes, expect, name);
      hash.update(part);
      await temp.fill(part);
    }
    const info = { digest: Digest.finish(hash), sizeBytes };
    requireExpected(info, expect, name);
    await placeBlob(layout, temp, info);
    return info;
  } finally {
    await temp.discard();
  }
}

/**
 * Makes a finished temporary file visible under its digest. A sound blob that is there already stays, since a running
 * engine may have it mapped; a damaged one is replaced, so that installing again repairs.
 */
export async function placeBlob(layout: Layout, temp: TempFile, info: BlobInfo): Promise<void> {
  // Of one that is there the writer may have been killed before its name was flushed; `updateEntries` sees to that.
  if ((await soundBlob(layout, info.digest)) !== undefined) return;
  await temp.publish(layout.blobPath(info.digest), BLOB_MODE);
}

/** The blob, if it is there and its bytes have the digest of its name. */
export async function soundBlob(layout: Layout, digest: Digest): Promise<BlobInfo | undefined> {
  try {
    const handle = await openPlainFile(layout.blobPath(digest));
    try {
      const hashed = await hashOpenFile(handle);
      return hashed.digest === digest ? hashed : undefined;
    } finally {
      await handle.close();
    }
  } catch {
    // Absent, a symbolic link, unreadable: the rename replaces it, or reports what keeps it from doing so.
    return undefined;
  }
}
