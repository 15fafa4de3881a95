import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { SIGNATURE_PATHS } from '../crypto/model-signing.ts';
import {
  ANNOTATION,
  encodeJson,
  MEDIA_TYPE,
  type ModelManifest,
  type OciDescriptor,
  type VersionIndex,
} from './oci.ts';
import {
  DESCRIPTOR_PATH,
  encodePackageDescriptor,
  type FileRole,
  inPathOrder,
  type PackageDescriptor,
} from './package-descriptor.ts';

const MEDIA_TYPE_OF_ROLE: Readonly<Record<FileRole, string>> = {
  weights: MEDIA_TYPE.weight,
  'chat-template': MEDIA_TYPE.weightConfig,
  doc: MEDIA_TYPE.doc,
};

export interface SignatureFile {
  /** One of `SIGNATURE_PATHS`. */
  readonly path: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export interface Document {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

export interface EncodedPackage {
  readonly descriptor: Document;
  readonly config: Document;
  readonly manifest: Document;
}

/**
 * The OCI documents of one variant, a pure function of its descriptor and its signatures: building twice gives the
 * same digests, and verification compares what it received with what this function says.
 * Layers: `freehold.json`, then the files by path, then the signatures.
 */
export function encodePackage(
  descriptor: PackageDescriptor,
  signatures: readonly SignatureFile[] = [],
): EncodedPackage {
  const descriptorDocument = documentOf(encodePackageDescriptor(descriptor));
  const layers: OciDescriptor[] = [
    layerOf(DESCRIPTOR_PATH, MEDIA_TYPE.doc, descriptorDocument.digest, descriptorDocument.bytes.byteLength),
    ...inPathOrder(descriptor.files).map((file) =>
      layerOf(file.path, MEDIA_TYPE_OF_ROLE[file.role], file.digest, file.size),
    ),
    ...inOrder(signatures).map((file) => layerOf(file.path, MEDIA_TYPE.doc, file.digest, file.sizeBytes)),
  ];
  const config = documentOf(encodeJson(modelConfig(descriptor, layers)));
  const manifest: ModelManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    artifactType: MEDIA_TYPE.modelManifest,
    config: { mediaType: MEDIA_TYPE.modelConfig, digest: config.digest, size: config.bytes.byteLength },
    layers,
    annotations: packageAnnotations(descriptor),
  };
  return { descriptor: descriptorDocument, config, manifest: documentOf(encodeJson(manifest)) };
}

/** `model.sig`, then the co-signatures by number: one set of signatures has one manifest. */
function inOrder(signatures: readonly SignatureFile[]): SignatureFile[] {
  return signatures.toSorted(
    (left, right) => SIGNATURE_PATHS.indexOf(left.path) - SIGNATURE_PATHS.indexOf(right.path),
  );
}

function documentOf(bytes: Buffer): Document {
  return { bytes, digest: Digest.of(bytes) };
}

function layerOf(path: string, mediaType: string, digest: Digest, sizeBytes: number): OciDescriptor {
  return {
    mediaType,
    digest,
    size: sizeBytes,
    annotations: { [ANNOTATION.filePath]: path, [ANNOTATION.title]: path },
  };
}

/** ModelPack config: no field of ours has room there (`additionalProperties: false` everywhere). */
function modelConfig(descriptor: PackageDescriptor, layers: readonly OciDescriptor[]): unknown {
  const isEmbedder = descriptor.model.purpose === 'embed';
  return {
    descriptor: {
      name: descriptor.name,
      version: descriptor.version,
      licenses: [descriptor.license],
      ...(descriptor.description === undefined ? {} : { description: descriptor.description }),
    },
    config: {
      architecture: descriptor.model.architecture,
      format: descriptor.model.format,
      paramSize: parameterSize(descriptor.model.parameterCount),
      quantization: descriptor.model.quantization,
      capabilities: { inputTypes: ['text'], outputTypes: [isEmbedder ? 'embedding' : 'text'] },
    },
    // Raw layers are not compressed: the diffId is the layer digest.
    modelfs: { type: 'layers', diffIds: layers.map((layer) => layer.digest) },
  };
}

/** `135M`, `1.5B`: the notation of the ModelPack specification's examples. */
export function parameterSize(count: number): string {
  if (count >= 1e9) return `${trimmed(count / 1e9)}B`;
  if (count >= 1e6) return `${trimmed(count / 1e6)}M`;
  return `${trimmed(count / 1e3)}K`;
}

function trimmed(value: number): string {
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toFixed(1)));
}

/** Annotations of a variant's manifest and of its entry in an index; for selection and display, never for trust. */
export function packageAnnotations(descriptor: PackageDescriptor): Record<string, string> {
  return {
    [ANNOTATION.version]: descriptor.version,
    [ANNOTATION.licenses]: descriptor.license,
    [ANNOTATION.name]: descriptor.name,
    [ANNOTATION.variant]: descriptor.variant,
    [ANNOTATION.quantization]: descriptor.model.quantization,
    [ANNOTATION.memoryBytes]: String(descriptor.memoryBytes),
    [ANNOTATION.sealed]: String(descriptor.protection.sealed),
  };
}

/** `acme/triage:1.4.0-q4_0`, the tag of one variant; without a variant, of the whole version. */
export function referenceName(name: string, version: string, variant?: string): string {
  return variant === undefined ? `${name}:${version}` : `${name}:${version}-${variant}`;
}

/** The descriptor of a variant's manifest, as an index lists it. */
export function variantEntry(descriptor: PackageDescriptor, manifest: Document): OciDescriptor {
  return {
    mediaType: MEDIA_TYPE.manifest,
    artifactType: MEDIA_TYPE.modelManifest,
    digest: manifest.digest,
    size: manifest.bytes.byteLength,
    annotations: packageAnnotations(descriptor),
  };
}

/**
 * The image index of one version: one entry per variant, in the order of their names.
 * @throws PACKAGE_INVALID when two variants have one name
 */
export function encodeVersionIndex(variants: readonly OciDescriptor[]): Document {
  const byName = new Map<string, OciDescriptor>();
  for (const variant of variants) {
    const name = variant.annotations?.[ANNOTATION.variant] ?? '';
    if (byName.has(name)) throw new FreeholdError('PACKAGE_INVALID', `two variants are named ${name}`);
    byName.set(name, variant);
  }
  const index: VersionIndex = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.index,
    artifactType: MEDIA_TYPE.modelManifest,
    manifests: [...byName.entries()]
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([, entry]) => entry),
  };
  return documentOf(encodeJson(index));
}
