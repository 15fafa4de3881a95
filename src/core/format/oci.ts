import { z } from 'zod';
import { Digest } from '../base/digest.ts';
import { parseJsonDocument } from '../base/json-document.ts';
import { textParsedBy } from '../base/schema-text.ts';

/** Media types of OCI image specification 1.1 and CNCF ModelPack that Freehold writes or reads. */
export const MEDIA_TYPE = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  modelManifest: 'application/vnd.cncf.model.manifest.v1+json',
  modelConfig: 'application/vnd.cncf.model.config.v1+json',
  weight: 'application/vnd.cncf.model.weight.v1.raw',
  weightConfig: 'application/vnd.cncf.model.weight.config.v1.raw',
  doc: 'application/vnd.cncf.model.doc.v1.raw',
} as const;

export const ANNOTATION = {
  /** OCI image specification, "Pre-defined annotation keys". */
  title: 'org.opencontainers.image.title',
  refName: 'org.opencontainers.image.ref.name',
  version: 'org.opencontainers.image.version',
  licenses: 'org.opencontainers.image.licenses',
  description: 'org.opencontainers.image.description',
  /** ModelPack: some tools read only this, others only `title`, so every layer carries both. */
  filePath: 'org.cncf.model.filepath',
  name: 'org.freehold.name',
  variant: 'org.freehold.variant',
  quantization: 'org.freehold.quantization',
  memoryBytes: 'org.freehold.memory.bytes',
  sealed: 'org.freehold.sealed',
  /** Names of `/proc/cpuinfo`, joined by commas; no variant that this version builds needs any. */
  cpuFeatures: 'org.freehold.cpu.features',
  /** `required`, or absent. */
  gpu: 'org.freehold.gpu',
  contentDigest: 'org.freehold.content.digest',
} as const;

/** Held in memory before its signature is checked; a package of 500 files needs about 200 KiB. */
export const MANIFEST_BYTES_MAX = 1 << 20;
/** A ModelPack config lists one digest per layer. */
export const CONFIG_BYTES_MAX = 1 << 20;
/** Registries in the field refuse manifests with more layers than about this. */
export const LAYERS_MAX = 500;
/** Deeper nesting than any OCI document has. */
export const JSON_DEPTH_MAX = 32;

export const digestSchema = textParsedBy(Digest.parse);
/** Bytes of a file; larger numbers are not exact. */
export const sizeSchema = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const annotationsSchema = z.record(z.string(), z.string());

/** OCI content descriptor (image specification 1.1, "descriptor.md"). */
export const ociDescriptorSchema = z.strictObject({
  mediaType: z.string().min(1).max(255),
  artifactType: z.string().min(1).max(255).optional(),
  digest: digestSchema,
  size: sizeSchema,
  annotations: annotationsSchema.optional(),
});
export type OciDescriptor = z.infer<typeof ociDescriptorSchema>;

const manifestSchema = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: z.literal(MEDIA_TYPE.manifest),
  artifactType: z.literal(MEDIA_TYPE.modelManifest),
  config: ociDescriptorSchema,
  layers: z.array(ociDescriptorSchema).min(1).max(LAYERS_MAX),
  annotations: annotationsSchema.optional(),
});
export type ModelManifest = z.infer<typeof manifestSchema>;

const indexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.literal(MEDIA_TYPE.index),
  manifests: z.array(ociDescriptorSchema).max(LAYERS_MAX),
});
export type VersionIndex = z.infer<typeof indexSchema>;

/**
 * Reads a variant's manifest. Fields that Freehold never writes (`subject`, `urls`, `data`, `platform`) are refused:
 * bytes outside of what a signature covers have no place in it.
 * @throws MANIFEST_INVALID
 */
export function parseModelManifest(bytes: Uint8Array): ModelManifest {
  return parseDocument(bytes, manifestSchema, 'manifest', MANIFEST_BYTES_MAX);
}

/** Reads a version's image index; other tools may have added fields. @throws MANIFEST_INVALID */
export function parseVersionIndex(bytes: Uint8Array): VersionIndex {
  return parseDocument(bytes, indexSchema, 'image index', MANIFEST_BYTES_MAX);
}

function parseDocument<T>(bytes: Uint8Array, schema: z.ZodType<T>, label: string, bytesMax: number): T {
  return parseJsonDocument(bytes, schema, {
    bytesMax,
    depthMax: JSON_DEPTH_MAX,
    code: 'MANIFEST_INVALID',
    label,
  });
}

/** JSON as UTF-8 in the order in which the keys were put in; absent keys are left out. Digests are over these bytes. */
export function encodeJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value), 'utf8');
}

/** @returns the file path of a layer, from either annotation */
export function layerPath(layer: OciDescriptor): string | undefined {
  return layer.annotations?.[ANNOTATION.filePath] ?? layer.annotations?.[ANNOTATION.title];
}
