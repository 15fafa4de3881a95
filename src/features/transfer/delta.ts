import type { BlobStore } from '../../core/base/blob-store.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type {
  ArtifactSink,
  ArtifactSource,
  BlobReference,
  ManifestDocument,
  PutBlobOptions,
  PutBlobOutcome,
} from '../../core/format/artifact-place.ts';
import { type ChunkMap, chunkBlob, MAPPED_BLOB_BYTES_MIN } from '../../core/format/chunk-map.ts';
import { type DeltaParts, deltaBytes } from './delta-bytes.ts';
import { findChunkMap, mappedBlobs, orNone } from './delta-maps.ts';
import { ChunkIndex, type DeltaPlan, planDelta, REUSE_BYTES_MIN } from './delta-plan.ts';

/** A variant that is here and probably shares bytes with the wanted one: an earlier version of the same package. */
export interface DeltaBase {
  readonly manifest: ManifestDocument;
  /** Where its referrers and blobs can be read: `storePlace(store, name)`. */
  readonly source: ArtifactSource;
  readonly blobs: Pick<BlobStore, 'open'>;
}

export interface DeltaRequest {
  /** Of the wanted variant. */
  readonly manifest: Digest;
  /** The likeliest first: of chunks that several have, that of the first is read. */
  readonly bases: readonly DeltaBase[];
}

/** Of all blobs that were put together; those that were pulled as a whole are not in it. */
export interface DeltaReport {
  readonly fetchedBytes: number;
  readonly reusedBytes: number;
  /** Chunk maps, fetched beside. */
  readonly mapBytes: number;
}

/** The blobs of one variant, as far as they can be put together of what is here. */
export interface Delta {
  readonly report: DeltaReport;
  /**
   * @param source where the blob and its map are pulled from
   * @returns what `ArtifactSink.putBlob` takes as `open`; undefined when there is no map of the blob or nothing to reuse
   * @throws only when the caller gave up
   */
  open(
    blob: BlobReference,
    source: ArtifactSource,
    signal: AbortSignal,
  ): Promise<((startBytes: number) => AsyncIterable<Uint8Array>) | undefined>;
  /** The blob was pulled as a whole after all: it counts in the report no more. */
  forget(blob: BlobReference): void;
}

/** Nothing is read before the first `open`. */
export function openDelta(request: DeltaRequest): Delta {
  return new VariantDelta(request);
}

/**
 * Writes a blob, by delta where that is possible. A map is an unsigned hint: where the bytes put together have another
 * digest than the blob, it is pulled as a whole, so that a false map costs time and nothing else.
 * @throws as `ArtifactSink.putBlob` and `ArtifactSource.blob`
 */
export async function putBlobByDelta(
  sink: ArtifactSink,
  blob: BlobReference,
  { source, delta, ...options }: PutBlobOptions & { source: ArtifactSource; delta: Delta | undefined },
): Promise<PutBlobOutcome> {
  const { signal } = options;
  const whole = (startBytes: number) => source.blob(blob, { startBytes }, signal);
  const open =
    delta === undefined || (await sink.hasBlob(blob, signal))
      ? undefined
      : await delta.open(blob, source, signal);
  if (open === undefined) return sink.putBlob(blob, whole, options);
  try {
    return await sink.putBlob(blob, open, options);
  } catch (error) {
    const isWrong =
      error instanceof FreeholdError && (error.code === 'DIGEST_MISMATCH' || error.code === 'SIZE_MISMATCH');
    if (!isWrong) throw error;
    delta?.forget(blob);
    return sink.putBlob(blob, whole, options);
  }
}

/** A blob that is here, with its chunks. */
interface LocalMap {
  readonly base: DeltaBase;
  readonly map: ChunkMap;
}

class VariantDelta implements Delta {
  readonly #request: DeltaRequest;
  /** By digest of the blob. */
  readonly #tallies = new Map<Digest, { fetched: number; reused: number }>();
  #mapBytes = 0;
  #local: Promise<{ readonly maps: readonly LocalMap[]; readonly index: ChunkIndex }> | undefined;

  constructor(request: DeltaRequest) {
    this.#request = request;
  }

  get report(): DeltaReport {
    const tallies = [...this.#tallies.values()];
    return {
      fetchedBytes: tallies.reduce((sum, { fetched }) => sum + fetched, 0),
      reusedBytes: tallies.reduce((sum, { reused }) => sum + reused, 0),
      mapBytes: this.#mapBytes,
    };
  }

  forget({ digest }: BlobReference): void {
    this.#tallies.delete(digest);
  }

  async open(blob: BlobReference, source: ArtifactSource, signal: AbortSignal) {
    const { manifest, bases } = this.#request;
    if (bases.length === 0 || blob.sizeBytes < MAPPED_BLOB_BYTES_MIN) return undefined;
    const wanted = await findChunkMap(source, manifest, blob, signal);
    if (wanted === undefined) return undefined;
    this.#mapBytes += wanted.digests.length + wanted.lengths.byteLength;
    this.#local ??= localMaps(bases, signal);
    const { maps, index } = await this.#local;
    const plan = planDelta(wanted, index);
    if (plan.reuseBytes < REUSE_BYTES_MIN) return undefined;
    return (startBytes: number) =>
      this.#bytes(plan, maps, startBytes, (range) => source.blob(blob, range, signal));
  }

  #bytes(
    plan: DeltaPlan,
    maps: readonly LocalMap[],
    startBytes: number,
    fetch: DeltaParts['fetch'],
  ): AsyncGenerator<Uint8Array> {
    const { digest } = plan.wanted.blob;
    const tally = this.#tallies.get(digest) ?? { fetched: 0, reused: 0 };
    this.#tallies.set(digest, tally);
    const parts: DeltaParts = {
      plan,
      fetch,
      openLocal: (number) => {
        const local = maps[number];
        if (local === undefined) throw new FreeholdError('INTERNAL', `a plan names the local map ${number}`);
        return local.base.blobs.open(local.map.blob.digest);
      },
      onBytes: (how, bytes) => {
        tally[how] += bytes;
      },
    };
    return deltaBytes(parts, startBytes);
  }
}

/** The maps of what is here: kept ones where there are, else made by reading the blobs. Damaged ones are passed over. */
async function localMaps(bases: readonly DeltaBase[], signal: AbortSignal) {
  const maps: LocalMap[] = [];
  for (const base of bases) {
    for (const blob of mappedBlobs(base.manifest)) {
      const { source, manifest } = base;
      const map =
        (await findChunkMap(source, manifest.digest, blob, signal)) ??
        (await orNone(() => chunkBlob(blob, source.blob(blob, { startBytes: 0 }, signal)), signal));
      if (map !== undefined) maps.push({ base, map });
    }
  }
  return { maps, index: new ChunkIndex(maps.map(({ map }) => map)) };
}
