import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import {
  blobName,
  encodeLayoutFile,
  encodeLayoutName,
  encodeReferrersIndex,
  INDEX_FILE,
  LAYOUT_FILE,
  type LayoutName,
} from '../../core/format/archive-layout.ts';
import { parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSink, BlobReference, ManifestDocument } from '../../core/format/artifact-place.ts';
import { ANNOTATION, encodeJson, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { fallbackTag, referrerDescriptor } from '../../core/format/referrer.ts';

/** An entry to be written: its size is known before its bytes are read. */
export interface PlannedEntry {
  readonly name: string;
  readonly sizeBytes: number;
  /** Absent for the few entries without one: `oci-layout`, `index.json`, `restore.sh`. */
  readonly digest?: Digest;
  open(): AsyncIterable<Uint8Array>;
}

interface DraftBlob extends BlobReference {
  open(): AsyncIterable<Uint8Array>;
}

/**
 * What shall be in an archive. A tar is written from front to back and its first entry names all others, so artifacts are
 * noted first: the sink reads no blob, it remembers where the bytes can be had.
 */
export class ArchiveDraft {
  readonly #blobs = new Map<Digest, DraftBlob>();
  readonly #documents = new Map<Digest, ManifestDocument>();
  readonly #names = new Map<string, Digest>();
  readonly #referrers = new Map<Digest, OciDescriptor[]>();

  /** Documents that were noted so far. */
  get documents(): Iterable<ManifestDocument> {
    return this.#documents.values();
  }

  get blobs(): Iterable<BlobReference> {
    return this.#blobs.values();
  }

  /** Takes artifacts under names of this repository. */
  sink(repository: string): ArtifactSink {
    return {
      label: `the archive's ${repository}`,
      hasBlob: async ({ digest }) => this.#blobs.has(digest),
      hasManifest: async (digest) => this.#documents.has(digest),
      putBlob: async (blob, open) => {
        if (this.#blobs.has(blob.digest)) return 'present';
        this.addBlob(blob, () => open(0));
        return 'written';
      },
      putManifest: async (document, tag) => {
        this.addDocument(document, tag === undefined ? undefined : { repository, tag });
      },
    };
  }

  addBlob({ digest, sizeBytes }: BlobReference, open: () => AsyncIterable<Uint8Array>): void {
    this.#blobs.set(digest, { digest, sizeBytes, open });
  }

  /** A small blob that is in memory. */
  addBytes(bytes: Buffer, mediaType: string, path?: string): OciDescriptor {
    const digest = Digest.of(bytes);
    this.addBlob({ digest, sizeBytes: bytes.byteLength }, () => only(bytes));
    return describe(mediaType, { digest, sizeBytes: bytes.byteLength }, path);
  }

  addDocument(document: ManifestDocument, name?: LayoutName): void {
    if (Digest.of(document.bytes) !== document.digest) {
      throw new FreeholdError('DIGEST_MISMATCH', `a document has not the digest ${document.digest}`);
    }
    this.#documents.set(document.digest, document);
    if (name !== undefined) this.#names.set(encodeLayoutName(name), document.digest);
    const { subject } = parseArtifactDocument(document.bytes, document.digest);
    if (subject === undefined) return;
    const listed = this.#referrers.get(subject) ?? [];
    if (listed.some(({ digest }) => digest === document.digest)) return;
    this.#referrers.set(subject, [...listed, referrerDescriptor(document.bytes, document.digest)]);
  }

  /**
   * The entries in the order in which they are written, a function of what was noted and not of when: the layout, the
   * script, documents, then blobs from small to large, so that a reader meets signatures before weights.
   * @param isLeftOut blobs that an earlier archive holds
   */
  plan(isLeftOut: (digest: Digest) => boolean, script?: { name: string; bytes: Buffer }): PlannedEntry[] {
    const fallbacks = this.#fallbackIndexes();
    const documents = new Map(this.#documents);
    for (const { document } of fallbacks) documents.set(document.digest, document);
    const index = encodeJson({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.index,
      manifests: this.#indexEntries(fallbacks),
    });
    const blobs = [...this.#blobs.values()].filter(
      ({ digest }) => !documents.has(digest) && !isLeftOut(digest),
    );
    return [
      { name: LAYOUT_FILE, ...inMemory(encodeLayoutFile()) },
      { name: INDEX_FILE, ...inMemory(index) },
      ...(script === undefined ? [] : [{ name: script.name, ...inMemory(script.bytes) }]),
      ...[...documents.values()]
        .sort(byDigest)
        .map(({ digest, bytes }) => ({ name: blobName(digest), digest, ...inMemory(bytes) })),
      ...blobs
        .sort((left, right) => left.sizeBytes - right.sizeBytes || byDigest(left, right))
        .map((blob) => ({ ...blob, name: blobName(blob.digest) })),
    ];
  }

  #fallbackIndexes(): { name: string; document: ManifestDocument }[] {
    return [...this.#referrers].map(([subject, referrers]) => {
      const bytes = encodeReferrersIndex(referrers);
      const document = { bytes, digest: Digest.of(bytes), mediaType: MEDIA_TYPE.index };
      return { name: fallbackTag(subject), document };
    });
  }

  #indexEntries(fallbacks: readonly { name: string; document: ManifestDocument }[]): OciDescriptor[] {
    const named = [...this.#names].flatMap(([name, digest]) => {
      const document = this.#documents.get(digest);
      return document === undefined ? [] : [{ name, document }];
    });
    return [...named, ...fallbacks]
      .sort((left, right) => (left.name < right.name ? -1 : 1))
      .map(({ name, document }) => {
        const descriptor = referrerDescriptor(document.bytes, document.digest);
        return { ...descriptor, annotations: { ...descriptor.annotations, [ANNOTATION.refName]: name } };
      });
  }
}

/** The descriptor of a blob; with a path it carries both annotations by which tools find file names. */
export function describe(
  mediaType: string,
  { digest, sizeBytes }: BlobReference,
  path?: string,
): OciDescriptor {
  const annotations =
    path === undefined ? undefined : { [ANNOTATION.filePath]: path, [ANNOTATION.title]: path };
  return { mediaType, digest, size: sizeBytes, ...(annotations === undefined ? {} : { annotations }) };
}

const byDigest = (left: { digest: Digest }, right: { digest: Digest }) =>
  left.digest < right.digest ? -1 : 1;

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

const inMemory = (bytes: Buffer) => ({ sizeBytes: bytes.byteLength, open: () => only(bytes) });
