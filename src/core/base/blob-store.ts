import type { ByteSource } from './byte-source.ts';
import type { Digest } from './digest.ts';

export interface BlobInfo {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** What the writer promises about the bytes; both are checked while they stream, before the blob becomes visible. */
export interface BlobExpectation {
  readonly digest?: Digest;
  readonly sizeBytes?: number;
}

/**
 * Content-addressed bytes. Every adapter passes the one suite in `tests/conformance/`.
 *
 * A blob that `has` reports is complete: writers hash while they write, fsync, and make it visible last.
 */
export interface BlobStore {
  has(digest: Digest): Promise<boolean>;
  /** @throws NOT_FOUND */
  info(digest: Digest): Promise<BlobInfo>;
  /** Random access without verification: for readers that hash by themselves. Close it. @throws NOT_FOUND */
  open(digest: Digest): Promise<ByteSource & { close(): Promise<void> }>;
  /**
   * All bytes, hashed against the digest before they are returned; for documents only.
   * @throws NOT_FOUND, DIGEST_MISMATCH, SIZE_MISMATCH when larger than `bytesMax`
   */
  readAll(digest: Digest, bytesMax: number): Promise<Buffer>;
  /** Stores a stream. Storing what is there already is no error. @throws DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL, PERMISSION_DENIED */
  write(bytes: AsyncIterable<Uint8Array> | Uint8Array, expect?: BlobExpectation): Promise<BlobInfo>;
}
