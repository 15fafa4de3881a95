import { Digest } from '../base/digest.ts';
import { parseArtifactDocument } from './artifact-documents.ts';
import type { BlobReference, ManifestDocument } from './artifact-place.ts';
import { encodeJson, MEDIA_TYPE, type OciDescriptor } from './oci.ts';

/** OCI image specification 1.1, "Guidance for an Empty Descriptor". */
export const EMPTY_CONFIG_BYTES = Buffer.from('{}');
export const EMPTY_CONFIG: OciDescriptor = {
  mediaType: 'application/vnd.oci.empty.v1+json',
  digest: Digest.of(EMPTY_CONFIG_BYTES),
  size: EMPTY_CONFIG_BYTES.length,
};
export const EMPTY_CONFIG_BLOB: BlobReference = {
  digest: EMPTY_CONFIG.digest,
  sizeBytes: EMPTY_CONFIG.size,
};
/** How a signature bundle is found among the referrers of a manifest. */
export const BUNDLE_ARTIFACT_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/**
 * A manifest of something that is no image (OCI image specification 1.1, "Guidelines for Artifact Usage"): a type, layers,
 * the empty config.
 * @param more `subject`: what it says something about, which makes it a referrer of that
 */
export function artifactManifest(
  artifactType: string,
  layers: readonly OciDescriptor[],
  more: { readonly subject?: ManifestDocument; readonly annotations?: Record<string, string> } = {},
): ManifestDocument {
  const { subject, annotations } = more;
  const bytes = encodeJson({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    artifactType,
    config: EMPTY_CONFIG,
    layers,
    ...(subject === undefined
      ? {}
      : {
          subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.bytes.length },
        }),
    ...(annotations === undefined ? {} : { annotations }),
  });
  return { bytes, digest: Digest.of(bytes), mediaType: MEDIA_TYPE.manifest };
}

/** OCI distribution 1.1, "Referrers Tag Schema": where a registry without the API lists what refers to a document. */
export function fallbackTag(subject: Digest): string {
  return `sha256-${Digest.hex(subject)}`;
}

/** What a registry's API says of a referrer. */
export function referrerDescriptor(bytes: Buffer, digest: Digest): OciDescriptor {
  const { mediaType, artifactType, annotations } = parseArtifactDocument(bytes, digest);
  return {
    mediaType,
    digest,
    size: bytes.byteLength,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  };
}
