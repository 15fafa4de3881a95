import { collectBytes } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { blobsOf, DOCUMENT_BYTES_MAX, parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type {
  ArtifactPlace,
  ArtifactSource,
  BlobReference,
  ManifestDocument,
} from '../../core/format/artifact-place.ts';
import {
  CHUNK_MAP_BYTES_MAX,
  CHUNK_MAP_TYPE,
  type ChunkMap,
  chunkBlob,
  encodeChunkMap,
  MAPPED_BLOB_BYTES_MIN,
  parseChunkMap,
} from '../../core/format/chunk-map.ts';
import { MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { artifactManifest, EMPTY_CONFIG_BLOB, EMPTY_CONFIG_BYTES } from '../../core/format/referrer.ts';
import { copyArtifact } from './copy-artifact.ts';

/** Digest of the blob that a layer is the map of, so that nobody fetches a map to learn that. */
const MAPPED_BLOB_ANNOTATION = 'org.freehold.chunk-map.blob';
/** Anybody may add referrers: more of them are not looked at. */
const MAP_REFERRERS_MAX = 4;

/** A manifest with the blobs that must be there before it. */
export interface ArtifactDocuments {
  readonly manifest: ManifestDocument;
  readonly blobs: readonly MapBlob[];
}

interface MapBlob {
  readonly blob: BlobReference;
  readonly bytes: Buffer;
}

/**
 * The chunk maps of a variant's weights as a referrer of its manifest: one layer for each large blob. The same manifest
 * gives the same documents. Reads all weights once, at about 400 MB/s.
 * @param source where the manifest's blobs are: the store
 * @returns undefined when the variant has no blob that is worth a map
 * @throws SIZE_MISMATCH, NOT_FOUND, whatever the source throws
 */
export async function makeChunkMaps(
  source: ArtifactSource,
  manifest: ManifestDocument,
  signal: AbortSignal,
): Promise<ArtifactDocuments | undefined> {
  const layers: OciDescriptor[] = [];
  const blobs: MapBlob[] = [{ blob: EMPTY_CONFIG_BLOB, bytes: EMPTY_CONFIG_BYTES }];
  for (const blob of mappedBlobs(manifest)) {
    const bytes = encodeChunkMap(await chunkBlob(blob, source.blob(blob, { startBytes: 0 }, signal)));
    const digest = Digest.of(bytes);
    const annotations = { [MAPPED_BLOB_ANNOTATION]: blob.digest };
    blobs.push({ blob: { digest, sizeBytes: bytes.length }, bytes });
    layers.push({ mediaType: CHUNK_MAP_TYPE, digest, size: bytes.length, annotations });
  }
  if (layers.length === 0) return undefined;
  return { manifest: artifactManifest(CHUNK_MAP_TYPE, layers, { subject: manifest }), blobs };
}

/** The blobs of a variant that have maps: weights, the large ones, each once. */
export function mappedBlobs(manifest: ManifestDocument): BlobReference[] {
  const { layers } = parseArtifactDocument(manifest.bytes, 'a manifest');
  const blobs = layers
    .filter(({ mediaType, size }) => mediaType === MEDIA_TYPE.weight && size >= MAPPED_BLOB_BYTES_MIN)
    .map(({ digest, size }) => ({ digest, sizeBytes: size }));
  return [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
}

/**
 * Looks for the map of a blob among the referrers of its manifest. They are unsigned and whoever may write to the
 * repository may add some, so whatever cannot be read as the map of exactly this blob is passed over; and since a map
 * only saves bytes, so is a place that does not answer: whoever asks it for the weights learns why.
 * @throws only when the caller gave up
 */
export async function findChunkMap(
  source: ArtifactSource,
  manifest: Digest,
  blob: BlobReference,
  signal: AbortSignal,
): Promise<ChunkMap | undefined> {
  for (const { digest } of await mapCandidates(source, manifest, signal)) {
    const map = await orNone(() => readChunkMap(source, digest, blob, signal), signal);
    if (map !== undefined) return map;
  }
  return undefined;
}

/** Referrers that may be maps; first those that say so, since some registries list referrers without their types. */
async function mapCandidates(
  source: ArtifactSource,
  manifest: Digest,
  signal: AbortSignal,
): Promise<readonly OciDescriptor[]> {
  const referrers = await orNone(() => source.referrers(manifest, signal), signal);
  return (referrers ?? [])
    .filter(({ artifactType = CHUNK_MAP_TYPE }) => artifactType === CHUNK_MAP_TYPE)
    .toSorted(
      (left, right) => Number(right.artifactType !== undefined) - Number(left.artifactType !== undefined),
    )
    .slice(0, MAP_REFERRERS_MAX);
}

/** Undefined where the work fails with one of our errors; a bug stays one. */
export async function orNone<Value>(
  work: () => Promise<Value>,
  signal: AbortSignal,
): Promise<Value | undefined> {
  try {
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof FreeholdError)) throw error;
    return undefined;
  }
}

async function readChunkMap(
  source: ArtifactSource,
  referrer: Digest,
  blob: BlobReference,
  signal: AbortSignal,
): Promise<ChunkMap | undefined> {
  const document = await source.manifest({ digest: referrer }, signal);
  if (document === undefined) return undefined;
  const { layers, artifactType } = parseArtifactDocument(document.bytes, 'a chunk map');
  if (artifactType !== CHUNK_MAP_TYPE) return undefined;
  const layer = layers.find(({ annotations }) => annotations?.[MAPPED_BLOB_ANNOTATION] === blob.digest);
  if (layer === undefined || layer.size > CHUNK_MAP_BYTES_MAX) return undefined;
  const reference = { digest: layer.digest, sizeBytes: layer.size };
  const bytes = await collectBytes(source.blob(reference, { startBytes: 0 }, signal), layer.size);
  return parseChunkMap(bytes, blob);
}

/**
 * Keeps the chunk maps of a variant beside it, so that the next update need not read all of its bytes to find them.
 * Whatever goes wrong is no loss: they are made anew when they are needed.
 */
export async function keepChunkMaps(
  sources: readonly ArtifactSource[],
  place: ArtifactPlace,
  manifest: Digest,
  signal: AbortSignal,
): Promise<void> {
  for (const source of sources) {
    const maps = await mapCandidates(source, manifest, signal);
    for (const { digest, size } of maps) {
      if (size > DOCUMENT_BYTES_MAX || (await place.hasManifest(digest, signal))) continue;
      await orNone(() => keepChunkMap(source, place, digest, signal), signal);
    }
    if (maps.length > 0) return;
  }
}

async function keepChunkMap(
  source: ArtifactSource,
  place: ArtifactPlace,
  digest: Digest,
  signal: AbortSignal,
): Promise<void> {
  const document = await source.manifest({ digest }, signal);
  if (document === undefined) return;
  const parsed = parseArtifactDocument(document.bytes, digest);
  if (parsed.artifactType !== CHUNK_MAP_TYPE) return;
  const blobs = blobsOf(parsed);
  // Unsigned: a false one must not fill the disk.
  const totalBytes = blobs.reduce((sum, { size }) => sum + size, 0);
  if (totalBytes <= CHUNK_MAP_BYTES_MAX)
    await copyArtifact([source], place, document, { signal, withReferrers: false });
}
