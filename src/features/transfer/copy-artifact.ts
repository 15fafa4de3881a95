import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type Progress, silentProgress } from '../../core/base/progress.ts';
import { blobsOf, DOCUMENT_TYPES, parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type {
  ArtifactSink,
  ArtifactSource,
  BlobReference,
  ManifestDocument,
  PutBlobOutcome,
} from '../../core/format/artifact-place.ts';
import { layerPath, type OciDescriptor } from '../../core/format/oci.ts';
import { fromAny, readDocument } from './failover.ts';
import { inParallel } from './parallel.ts';
import { TransferMeter } from './transfer-meter.ts';

/** More connections gain nothing on one line and make a registry refuse. */
export const BLOBS_AT_ONCE = 3;
/** Entry → index → manifest is 2, a referrer of a referrer one or two more; this bounds a hostile chain. */
const DEPTH_MAX = 8;
/** Documents of one copy: thousands of referrers of one manifest are an attack, not an archive. */
const DOCUMENTS_MAX = 10_000;

export interface CopyOptions {
  readonly signal: AbortSignal;
  readonly progress?: Progress;
  /** What the progress is called. Default: the digest. */
  readonly label?: string;
  /** Written last, when everything that it needs is there; absent: the document can be reached by its digest only. */
  readonly tag?: string | undefined;
  /** Copies what refers to the documents as well; default true. */
  readonly withReferrers?: boolean;
  /** Repositories of the sink's registry from which blobs may be mounted. */
  readonly mountFrom?: readonly string[];
  /** Counts only. */
  readonly isDryRun?: boolean;
}

export interface CopyReport {
  /** Bytes that were sent, and of those that were already there (or in another repository of the same registry). */
  readonly writtenBytes: number;
  readonly presentBytes: number;
  readonly writtenBlobs: number;
  readonly presentBlobs: number;
  readonly documents: number;
}

/**
 * Copies a document and everything that hangs on it, unchanged: blobs first, then the documents that need them, the root
 * with its tag last, so that whoever sees a tag finds everything behind it. What is there is not sent again.
 * @param sources in order of preference; each blob comes from the first that gives it with the right digest
 * @throws SOURCES_EXHAUSTED or a single source's error, what the sink throws, MANIFEST_INVALID for a hostile document
 */
export async function copyArtifact(
  sources: readonly ArtifactSource[],
  sink: ArtifactSink,
  root: ManifestDocument,
  options: CopyOptions,
): Promise<CopyReport> {
  return new ArtifactCopy(sources, sink, options).run(root);
}

interface PlannedDocument {
  readonly document: ManifestDocument;
  readonly tag: string | undefined;
}

interface PlannedBlob extends BlobReference {
  /** Path of the file, or its digest. */
  readonly label: string;
}

class ArtifactCopy {
  readonly #sources: readonly ArtifactSource[];
  readonly #sink: ArtifactSink;
  readonly #options: CopyOptions;
  /** In the order in which they may be written: what is needed comes before what needs it. */
  readonly #documents = new Map<Digest, PlannedDocument>();
  readonly #blobs = new Map<Digest, PlannedBlob>();
  readonly #seen = new Set<Digest>();

  constructor(sources: readonly ArtifactSource[], sink: ArtifactSink, options: CopyOptions) {
    this.#sources = sources;
    this.#sink = sink;
    this.#options = options;
  }

  async run(root: ManifestDocument): Promise<CopyReport> {
    const { signal, isDryRun = false } = this.#options;
    await this.#plan(root, this.#options.tag, 0);
    const blobs = [...this.#blobs.values()];
    const { progress = silentProgress, label = root.digest } = this.#options;
    const meter = new TransferMeter(label, blobs, progress);
    const report = { writtenBytes: 0, presentBytes: 0, writtenBlobs: 0, presentBlobs: 0 };
    await inParallel(blobs, BLOBS_AT_ONCE, signal, async (blob, stop) => {
      const isThere = isDryRun && (await this.#sink.hasBlob(blob, stop));
      const outcome = isDryRun ? (isThere ? 'present' : 'written') : await this.#copyBlob(blob, meter, stop);
      if (outcome === 'written') {
        report.writtenBytes += blob.sizeBytes;
        report.writtenBlobs++;
      } else {
        report.presentBytes += blob.sizeBytes;
        report.presentBlobs++;
      }
    });
    if (!isDryRun) {
      for (const { document, tag } of this.#documents.values()) {
        if (tag === undefined && (await this.#sink.hasManifest(document.digest, signal))) continue;
        await this.#sink.putManifest(document, tag, signal);
      }
    }
    return { ...report, documents: this.#documents.size };
  }

  async #plan(document: ManifestDocument, tag: string | undefined, depth: number): Promise<void> {
    if (this.#seen.has(document.digest)) return;
    this.#seen.add(document.digest);
    if (depth > DEPTH_MAX || this.#seen.size > DOCUMENTS_MAX) {
      throw new FreeholdError(
        'MANIFEST_INVALID',
        `${document.digest}: more than ${DEPTH_MAX} documents deep, or ${DOCUMENTS_MAX} in all`,
      );
    }
    const parsed = parseArtifactDocument(document.bytes, document.digest);
    for (const child of parsed.manifests) await this.#planChild(child, depth);
    for (const blob of blobsOf(parsed)) this.#addBlob(blob);
    this.#documents.set(document.digest, { document, tag });
    if (this.#options.withReferrers !== false) await this.#planReferrers(document.digest, depth);
  }

  async #planChild(child: OciDescriptor, depth: number): Promise<void> {
    if (DOCUMENT_TYPES.includes(child.mediaType)) {
      await this.#plan(
        await readDocument(this.#sources, { digest: child.digest }, this.#options),
        undefined,
        depth + 1,
      );
    } else this.#addBlob(child);
  }

  #addBlob(blob: OciDescriptor): void {
    const label = layerPath(blob) ?? blob.digest;
    this.#blobs.set(blob.digest, { digest: blob.digest, sizeBytes: blob.size, label });
  }

  /** A place that lost its referrers still gives the artifact. */
  async #planReferrers(subject: Digest, depth: number): Promise<void> {
    const { signal } = this.#options;
    const referrers = await fromAny(this.#sources, `referrers of ${subject}`, this.#options, (source) =>
      source.referrers(subject, signal),
    );
    for (const referrer of referrers) {
      try {
        await this.#planChild(referrer, depth);
      } catch (error) {
        // Listed and gone: registries collect garbage, and copy tools drop such parts.
        if (!(error instanceof FreeholdError) || error.code !== 'NOT_FOUND') throw error;
      }
    }
  }

  async #copyBlob(blob: PlannedBlob, meter: TransferMeter, signal: AbortSignal): Promise<PutBlobOutcome> {
    const { progress = silentProgress, mountFrom } = this.#options;
    const options = {
      signal,
      ...(mountFrom === undefined ? {} : { mountFrom }),
      onBytes: meter.onBytes(blob),
    };
    const outcome = await fromAny(this.#sources, blob.label, { signal, progress }, (source) =>
      this.#sink.putBlob(blob, (startBytes) => source.blob(blob, { startBytes }, signal), options),
    );
    meter.done(blob, outcome !== 'written');
    return outcome;
  }
}
