import { z } from 'zod';
import { collectBytes } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { describeIssues } from '../../core/base/json-document.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import type { ArtifactPlace, ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import {
  ANNOTATION,
  JSON_DEPTH_MAX,
  MANIFEST_BYTES_MAX,
  type OciDescriptor,
  ociDescriptorSchema,
} from '../../core/format/oci.ts';
import { artifactManifest, EMPTY_CONFIG_BYTES } from '../../core/format/referrer.ts';
import {
  type ChannelFileSource,
  type ChannelFiles,
  METADATA_BYTES_MAX,
  rootVersionsAmong,
  TIMESTAMP_TITLE,
} from './channel-files.ts';

/** The tag of the artifact in a package's repository. */
export const CHANNELS_TAG = 'freehold-channels';
export const CHANNELS_ARTIFACT_TYPE = 'application/vnd.freehold.channels.v1';
/** TUF metadata. */
const METADATA_MEDIA_TYPE = 'application/vnd.freehold.channels.metadata.v1+json';
/** What they vouch for: channels, advisories, withdrawn versions. */
const DOCUMENT_MEDIA_TYPE = 'application/vnd.freehold.channels.document.v1+json';
/** 256 roots, as many documents as may be, and three more. */
const LAYERS_MAX = 450;

const manifestSchema = z.looseObject({
  schemaVersion: z.literal(2),
  artifactType: z.literal(CHANNELS_ARTIFACT_TYPE),
  config: ociDescriptorSchema,
  layers: z.array(ociDescriptorSchema).max(LAYERS_MAX),
});

/** The artifact as it lies in a place: its manifest's digest tells whether somebody else has published meanwhile. */
export interface ChannelArtifact extends ChannelFileSource {
  readonly digest: Digest;
}

/**
 * Finds the channels of a repository. Trusts nothing of it: layers are hashed, what they say is for the session.
 * @returns undefined when the repository has none
 * @throws CHANNEL_INVALID, NETWORK, AUTHENTICATION_FAILED
 */
export async function openChannelArtifact(
  place: ArtifactSource,
  signal: AbortSignal,
): Promise<ChannelArtifact | undefined> {
  const document = await place.manifest({ tag: CHANNELS_TAG }, signal);
  if (document === undefined) return undefined;
  const layers = layersByTitle(document.bytes, place.label);
  return {
    label: place.label,
    digest: document.digest,
    rootVersions: async () => rootVersionsAmong(layers.keys()),
    async read(title, bytesMax) {
      const layer = layers.get(title);
      return layer === undefined ? undefined : readLayer(place, layer, title, bytesMax, signal);
    },
  };
}

const numberedSchema = z.looseObject({
  signed: z.looseObject({ version: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER) }),
});

/**
 * The numbers by which one state is later than another: of the newest root, and of the timestamp under it. Nothing is
 * verified: enough to leave channels alone, never to believe them.
 * @throws CHANNEL_INVALID, NETWORK
 */
export async function channelVersions(
  artifact: ChannelFileSource,
): Promise<readonly [root: number, timestamp: number]> {
  const label = `${TIMESTAMP_TITLE} of ${artifact.label}`;
  const root = (await artifact.rootVersions()).at(-1);
  const bytes = await artifact.read(TIMESTAMP_TITLE, METADATA_BYTES_MAX.timestamp);
  if (root === undefined || bytes === undefined) {
    throw new FreeholdError('CHANNEL_INVALID', `${artifact.label} has no root or no ${TIMESTAMP_TITLE}`);
  }
  const code = 'CHANNEL_INVALID';
  const bytesMax = METADATA_BYTES_MAX.timestamp;
  const result = numberedSchema.safeParse(
    parseStrictJson(bytes, { bytesMax, depthMax: JSON_DEPTH_MAX, code, label }),
  );
  if (!result.success) throw new FreeholdError(code, `${label}: ${describeIssues(result.error)}`);
  return [root, result.data.signed.version];
}

function layersByTitle(bytes: Buffer, label: string): ReadonlyMap<string, OciDescriptor> {
  const json = parseStrictJson(bytes, {
    bytesMax: MANIFEST_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
    code: 'CHANNEL_INVALID',
    label: `${CHANNELS_TAG} of ${label}`,
  });
  const result = manifestSchema.safeParse(json);
  if (!result.success) {
    throw new FreeholdError(
      'CHANNEL_INVALID',
      `${CHANNELS_TAG} of ${label}: ${describeIssues(result.error)}`,
    );
  }
  const layers = new Map<string, OciDescriptor>();
  for (const layer of result.data.layers) {
    const title = layer.annotations?.[ANNOTATION.title] ?? '';
    if (layers.has(title)) {
      throw new FreeholdError(
        'CHANNEL_INVALID',
        `${CHANNELS_TAG} of ${label}: two layers are named ${title}`,
      );
    }
    layers.set(title, layer);
  }
  return layers;
}

/** An endless stream ends at the declared size, and one that declares too much is not begun. */
async function readLayer(
  place: ArtifactSource,
  layer: OciDescriptor,
  title: string,
  bytesMax: number,
  signal: AbortSignal,
): Promise<Buffer> {
  if (layer.size > bytesMax) {
    throw new FreeholdError(
      'CHANNEL_INVALID',
      `${title} of ${place.label}: ${layer.size} bytes, at most ${bytesMax} are read`,
    );
  }
  const blob = { digest: layer.digest, sizeBytes: layer.size };
  const bytes = await collectBytes(place.blob(blob, { startBytes: 0 }, signal), layer.size).catch(
    (error: unknown) => {
      if (!(error instanceof FreeholdError) || !['SIZE_MISMATCH', 'NOT_FOUND'].includes(error.code))
        throw error;
      throw new FreeholdError('CHANNEL_INVALID', `${title} of ${place.label}: ${error.message}`, {
        cause: error,
      });
    },
  );
  const actual = Digest.of(bytes);
  if (actual === layer.digest) return bytes;
  throw new FreeholdError('CHANNEL_INVALID', `${title} of ${place.label} is not what its digest says`, {
    detail: { expected: layer.digest, actual },
  });
}

/** Whether a layer is a part of channels: small, and needed to verify any other. */
export const isChannelLayer = ({ mediaType }: OciDescriptor) =>
  mediaType === METADATA_MEDIA_TYPE || mediaType === DOCUMENT_MEDIA_TYPE;

/** The artifact's manifest and its blobs, the config among them. */
export interface EncodedChannels {
  readonly manifest: ManifestDocument;
  readonly blobs: readonly Buffer[];
}

/** A pure function of the files: the same channels have the same digest everywhere. */
export function encodeChannelArtifact(files: ChannelFiles, name: string): EncodedChannels {
  const entries = [...files].sort(([left], [right]) => (left < right ? -1 : 1));
  const layers = entries.map(([title, bytes]) => descriptorOf(bytes, mediaTypeOf(title), title));
  return {
    manifest: artifactManifest(CHANNELS_ARTIFACT_TYPE, layers, { annotations: { [ANNOTATION.name]: name } }),
    blobs: [EMPTY_CONFIG_BYTES, ...entries.map(([, bytes]) => bytes)],
  };
}

const mediaTypeOf = (title: string) =>
  title === TIMESTAMP_TITLE || /^\d+\.(?:root|targets|snapshot)\.json$/.test(title)
    ? METADATA_MEDIA_TYPE
    : DOCUMENT_MEDIA_TYPE;

const descriptorOf = (bytes: Buffer, mediaType: string, title?: string): OciDescriptor => ({
  mediaType,
  digest: Digest.of(bytes),
  size: bytes.byteLength,
  ...(title === undefined ? {} : { annotations: { [ANNOTATION.title]: title } }),
});

/**
 * Puts the channels into a repository; the tag moves last.
 * @param expected the artifact that the new one follows from; absent: there was none
 * @throws BUSY when somebody else has published meanwhile, NETWORK, AUTHENTICATION_FAILED
 */
export async function pushChannels(
  place: ArtifactPlace,
  files: ChannelFiles,
  name: string,
  expected: Digest | undefined,
  signal: AbortSignal,
): Promise<Digest> {
  const { manifest, blobs } = encodeChannelArtifact(files, name);
  for (const bytes of blobs) {
    const blob = { digest: Digest.of(bytes), sizeBytes: bytes.byteLength };
    await place.putBlob(blob, (startBytes) => piecesOf(bytes.subarray(startBytes)), { signal });
  }
  // OCI distribution has no compare-and-swap for tags; this leaves a window of one request.
  const now = await place.manifest({ tag: CHANNELS_TAG }, signal);
  if (now?.digest !== expected && now?.digest !== manifest.digest) {
    throw new FreeholdError('BUSY', `somebody else has changed the channels in ${place.label} meanwhile`, {
      hint: 'look at them (freehold channel list), then try again',
    });
  }
  await place.putManifest(manifest, CHANNELS_TAG, signal);
  return manifest.digest;
}

async function* piecesOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  if (bytes.byteLength > 0) yield bytes;
}
