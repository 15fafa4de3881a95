import { z } from 'zod';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { parseJsonDocument } from '../base/json-document.ts';
import type { ManifestDocument } from './artifact-place.ts';
import { JSON_DEPTH_MAX, MEDIA_TYPE, type OciDescriptor } from './oci.ts';

/** OCI distribution 1.1, "Pushing manifests": registries take manifests up to 4 MiB. */
export const DOCUMENT_BYTES_MAX = 4 << 20;
/** Per document. Registries in the field refuse manifests with more than about 500 layers. */
const CHILDREN_MAX = 10_000;

/** Docker's names for the same two documents; copy tools and registries still write them. */
const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json';
const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
/** Documents that list manifests. */
const INDEX_TYPES: readonly string[] = [MEDIA_TYPE.index, DOCKER_INDEX];
/** Documents that list blobs. */
export const MANIFEST_TYPES: readonly string[] = [MEDIA_TYPE.manifest, DOCKER_MANIFEST];
/** Documents that refer to further ones; all else is bytes. */
export const DOCUMENT_TYPES: readonly string[] = [...INDEX_TYPES, ...MANIFEST_TYPES];

// Loose, unlike our own formats: referrers and foreign manifests may have fields that we never heard of.
const childSchema = z.looseObject({
  mediaType: z.string().max(255),
  digest: z.string(),
  size: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  artifactType: z.string().max(255).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
const documentSchema = z.looseObject({
  mediaType: z.string().max(255).optional(),
  artifactType: z.string().max(255).optional(),
  manifests: z.array(childSchema).max(CHILDREN_MAX).optional(),
  config: childSchema.optional(),
  layers: z.array(childSchema).max(CHILDREN_MAX).optional(),
  subject: childSchema.optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});

/** What any manifest or image index refers to, whoever wrote it and whatever for. Nothing in it is trusted. */
export interface ArtifactDocument {
  readonly kind: 'index' | 'manifest';
  readonly mediaType: string;
  /** OCI image specification 1.1: without one of its own a manifest has the type of its config. */
  readonly artifactType: string | undefined;
  /** Of an index. */
  readonly manifests: readonly OciDescriptor[];
  /** Of a manifest. */
  readonly config: OciDescriptor | undefined;
  readonly layers: readonly OciDescriptor[];
  readonly subject: Digest | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

/**
 * Reads a manifest or an image index of any tool.
 * @param label for messages
 * @throws MANIFEST_INVALID
 */
export function parseArtifactDocument(bytes: Uint8Array, label: string): ArtifactDocument {
  const document = parseJsonDocument(bytes, documentSchema, {
    bytesMax: DOCUMENT_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
    code: 'MANIFEST_INVALID',
    label,
  });
  const { manifests, config, layers, subject, annotations = {} } = document;
  const kind = manifests === undefined ? 'manifest' : 'index';
  return {
    kind,
    mediaType: document.mediaType ?? (kind === 'index' ? MEDIA_TYPE.index : MEDIA_TYPE.manifest),
    artifactType: document.artifactType ?? config?.mediaType,
    manifests: (manifests ?? []).map((child) => descriptorOf(child, label)),
    config: config === undefined ? undefined : descriptorOf(config, label),
    layers: (layers ?? []).map((child) => descriptorOf(child, label)),
    subject: subject === undefined ? undefined : descriptorOf(subject, label).digest,
    annotations,
  };
}

/** The blobs that a document names: a manifest's config and layers. */
export function blobsOf({ config, layers }: ArtifactDocument): OciDescriptor[] {
  return config === undefined ? [...layers] : [config, ...layers];
}

/** All that a document needs, in the order in which it stands there; not its subject. */
export function childrenOf(document: ArtifactDocument): OciDescriptor[] {
  return [...document.manifests, ...blobsOf(document)];
}

/** The media type that a document's own bytes say. @throws MANIFEST_INVALID */
export function documentMediaType(bytes: Uint8Array): string {
  return parseArtifactDocument(bytes, 'a document').mediaType;
}

/** A document with the digest and media type that follow from its bytes. @throws MANIFEST_INVALID */
export function manifestDocument(bytes: Buffer): ManifestDocument {
  return { bytes, digest: Digest.of(bytes), mediaType: documentMediaType(bytes) };
}

function descriptorOf(child: z.infer<typeof childSchema>, label: string): OciDescriptor {
  if (!Digest.is(child.digest))
    throw invalid(label, `refers to ${quoted(child.digest)}, not a sha256 digest`);
  return {
    mediaType: child.mediaType,
    digest: child.digest,
    size: child.size,
    ...(child.artifactType === undefined ? {} : { artifactType: child.artifactType }),
    ...(child.annotations === undefined ? {} : { annotations: child.annotations }),
  };
}

function invalid(label: string, reason: string): FreeholdError {
  return new FreeholdError('MANIFEST_INVALID', `${label}: ${reason}`);
}
