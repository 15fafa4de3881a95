import type { Digest } from '../base/digest.ts';
import type { OciDescriptor } from './oci.ts';

/** A manifest or an image index with the very bytes that were read, so that its digest is of what was really there. */
export interface ManifestDocument {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
}

/** What names a blob: whoever asks for it knows both from a document that was verified. */
export interface BlobReference {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** Half-open: from `startBytes` up to, not including, `endBytes` (absent: to the end). */
export interface BlobRange {
  readonly startBytes: number;
  readonly endBytes?: number;
}

/** `tag` as in OCI distribution 1.1 ("Pulling manifests"), or the digest of exactly one document. */
export type ManifestReference = { readonly tag: string } | { readonly digest: Digest };

/**
 * Where artifacts can be read: one repository of a registry, an OCI image layout on disk, an archive, the store. Every
 * adapter passes the one suite in `tests/conformance/`.
 */
export interface ArtifactSource {
  /** For messages and progress: `registry.acme.example/acme/triage`, `archive triage.tar`. */
  readonly label: string;
  /**
   * The document under a tag or a digest; one asked for by digest was hashed against it. At most 4 MiB.
   * @returns undefined when the place has none (a registry's 404)
   * @throws NETWORK, AUTHENTICATION_FAILED, DIGEST_MISMATCH, SIZE_MISMATCH
   */
  manifest(reference: ManifestReference, signal: AbortSignal): Promise<ManifestDocument | undefined>;
  /**
   * Bytes of a blob, unhashed: the caller hashes. A source that can lose its connection resumes by itself and never
   * yields a byte twice; it yields exactly the length of the range, or throws. A piece is valid until the next one is
   * asked for: who keeps it copies it.
   * @throws NOT_FOUND, NETWORK, SIZE_MISMATCH
   */
  blob(blob: BlobReference, range: BlobRange, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** All tags, in no order that means anything. */
  tags(signal: AbortSignal): Promise<readonly string[]>;
  /**
   * Descriptors of manifests whose `subject` is this document (OCI distribution 1.1, "Listing Referrers"), by the API or
   * by the fallback tag `sha256-<hex>`. Unsigned hints: copy tools drop them, anybody may add one.
   */
  referrers(subject: Digest, signal: AbortSignal): Promise<readonly OciDescriptor[]>;
}

export interface PutBlobOptions {
  readonly signal: AbortSignal;
  /** Bytes of this blob that are in the place so far; the first call says how many were there before (resume). */
  readonly onBytes?: (doneBytes: number, resumedBytes: number) => void;
  /** Repositories of the same registry that probably have the blob (OCI distribution 1.1, "Mounting a blob"). */
  readonly mountFrom?: readonly string[];
}

/** How a blob got there. */
export type PutBlobOutcome = 'present' | 'mounted' | 'written';

/** Where artifacts can be written. Blobs first, then the manifests that need them, then the index, tags last. */
export interface ArtifactSink {
  readonly label: string;
  hasBlob(blob: BlobReference, signal: AbortSignal): Promise<boolean>;
  hasManifest(digest: Digest, signal: AbortSignal): Promise<boolean>;
  /**
   * Writes a blob, unless it is there. Resumes what an earlier call or process left, and hashes what it writes.
   * @param open gives the bytes from an offset on, in pieces as of `ArtifactSource.blob`; may be called again with
   *   another offset
   * @throws DIGEST_MISMATCH, SIZE_MISMATCH, NETWORK, DISK_FULL, PERMISSION_DENIED; whatever `open`'s stream throws
   */
  putBlob(
    blob: BlobReference,
    open: (startBytes: number) => AsyncIterable<Uint8Array>,
    options: PutBlobOptions,
  ): Promise<PutBlobOutcome>;
  /**
   * Writes a document, under its digest and, if given, a tag. With `subject` in it, the place lists it as a referrer
   * (where the registry has no API for that, by the fallback tag).
   * @throws NETWORK, AUTHENTICATION_FAILED, MANIFEST_INVALID when something that it refers to is missing
   */
  putManifest(document: ManifestDocument, tag: string | undefined, signal: AbortSignal): Promise<void>;
}

export type ArtifactPlace = ArtifactSource & ArtifactSink;
