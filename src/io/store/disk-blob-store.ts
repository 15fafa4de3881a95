import type { FileHandle } from 'node:fs/promises';
import { lstat } from 'node:fs/promises';
import type { BlobStore } from '../../core/base/blob-store.ts';
import type { ByteSource } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { fileByteSource, readExactly } from '../files/file-range.ts';
import { isSystemError } from '../files/system-refusal.ts';
import { requireSmall } from './blob-expectation.ts';
import { writeBlob } from './blob-writing.ts';
import { corrupt, onDisk } from './disk-error.ts';
import type { Layout } from './layout.ts';
import { openPlainFile } from './plain-file.ts';

/** Runs work while gc is kept out. */
export type WithLease = <T>(work: () => Promise<T>) => Promise<T>;

/** The blobs of one layout. Reading takes no lock and writes nothing, so a read-only disk is fine. */
export function diskBlobStore(layout: Layout, withLease: WithLease): BlobStore {
  return {
    async has(digest) {
      const file = layout.blobPath(digest);
      return onDisk('look at', file, async () => {
        try {
          return (await lstat(file)).isFile();
        } catch (thrown) {
          if (isSystemError(thrown, 'ENOENT')) return false;
          throw thrown;
        }
      });
    },
    async info(digest) {
      const file = layout.blobPath(digest);
      const found = await onDisk('look at', file, () => lstat(file).catch(refuseAbsent(digest)));
      if (!found.isFile()) throw corrupt(file, 'is not a plain file');
      return { digest, sizeBytes: found.size };
    },
    open: (digest) => openBlobSource(layout, digest),
    readAll: (digest, bytesMax) => readDocument(layout, digest, bytesMax),
    write: (bytes, expect = {}) => withLease(() => writeBlob(layout, bytes, expect)),
  };
}

/** @throws NOT_FOUND, STORE_CORRUPT when it is not a plain file, PERMISSION_DENIED */
export async function openBlob(layout: Layout, digest: Digest): Promise<FileHandle> {
  const file = layout.blobPath(digest);
  return onDisk('read', file, () => openPlainFile(file).catch(refuseAbsent(digest)));
}

function refuseAbsent(digest: Digest) {
  return (thrown: unknown): never => {
    if (!isSystemError(thrown, 'ENOENT')) throw thrown;
    throw new FreeholdError('NOT_FOUND', `no blob ${digest} in the store`, {
      cause: thrown,
      detail: { digest },
    });
  };
}

async function openBlobSource(
  layout: Layout,
  digest: Digest,
): Promise<ByteSource & { close(): Promise<void> }> {
  const handle = await openBlob(layout, digest);
  const source = await fileByteSource(handle, digest);
  return {
    sizeBytes: source.sizeBytes,
    read: (offset, length, into) =>
      onDisk('read', layout.blobPath(digest), () => source.read(offset, length, into)),
    close: () => handle.close(),
  };
}

async function readDocument(layout: Layout, digest: Digest, bytesMax: number): Promise<Buffer> {
  const handle = await openBlob(layout, digest);
  try {
    const { size } = await handle.stat();
    requireSmall(digest, size, bytesMax);
    const bytes = await onDisk('read', layout.blobPath(digest), () => readExactly(handle, 0, size, digest));
    const actual = Digest.of(bytes);
    if (actual !== digest) {
      throw new FreeholdError('DIGEST_MISMATCH', `blob ${digest} is damaged: its bytes have ${actual}`, {
        detail: { expected: digest, actual, path: layout.blobPath(digest) },
      });
    }
    return bytes;
  } finally {
    await handle.close();
  }
}
