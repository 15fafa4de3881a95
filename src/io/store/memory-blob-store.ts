import type { BlobExpectation, BlobInfo, BlobStore } from '../../core/base/blob-store.ts';
import { collectBytes, memoryByteSource } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { requireExpected, requireSmall } from './blob-expectation.ts';

/** A BlobStore in memory, for tests and for documents on their way to a real one. */
export function memoryBlobStore(): BlobStore {
  const blobs = new Map<Digest, Buffer>();

  function stored(digest: Digest): Buffer {
    const bytes = blobs.get(digest);
    if (bytes === undefined)
      throw new FreeholdError('NOT_FOUND', `no blob ${digest}`, { detail: { digest } });
    return bytes;
  }

  return {
    async has(digest) {
      return blobs.has(digest);
    },
    async info(digest) {
      return { digest, sizeBytes: stored(digest).byteLength };
    },
    async open(digest) {
      return { ...memoryByteSource(stored(digest)), close: async () => {} };
    },
    async readAll(digest, bytesMax) {
      const bytes = stored(digest);
      requireSmall(digest, bytes.byteLength, bytesMax);
      return Buffer.from(bytes);
    },
    async write(bytes, expect = {}) {
      const copy = bytes instanceof Uint8Array ? Buffer.from(bytes) : await collectBytes(bytes, cap(expect));
      const info: BlobInfo = { digest: Digest.of(copy), sizeBytes: copy.byteLength };
      requireExpected(info, expect);
      blobs.set(info.digest, copy);
      return info;
    },
  };
}

function cap(expect: BlobExpectation): number {
  return expect.sizeBytes ?? Number.MAX_SAFE_INTEGER;
}
