import { collectBytes } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { isFallbackTag, type LayoutEntry, layoutRepositories } from '../../core/format/archive-layout.ts';
import {
  DOCUMENT_BYTES_MAX,
  DOCUMENT_TYPES,
  documentMediaType,
  parseArtifactDocument,
} from '../../core/format/artifact-documents.ts';
import type {
  ArtifactSource,
  ManifestDocument,
  ManifestReference,
} from '../../core/format/artifact-place.ts';
import type { OciDescriptor } from '../../core/format/oci.ts';
import { fallbackTag, referrerDescriptor } from '../../core/format/referrer.ts';

/** An OCI image layout as its bytes can be had: a folder, an archive. */
export interface LayoutContent {
  readonly label: string;
  /** Of `index.json`, as it is now. */
  index(): Promise<readonly LayoutEntry[]>;
  /** @returns undefined when the blob is not there */
  sizeOf(digest: Digest): Promise<number | undefined>;
  /** Exactly these bytes of a blob that is there. */
  read(digest: Digest, startBytes: number, endBytes: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** The error for a blob that is not there. */
  absent(digest: Digest): FreeholdError;
}

/**
 * One repository of a layout.
 * @param repository as names in `index.json` say it, `''` for names that are tags only; undefined: whatever has the tag,
 *   as long as only one document has
 */
export function layoutSource(content: LayoutContent, repository: string | undefined): ArtifactSource {
  const { label } = content;
  return {
    label: repository === undefined || repository === '' ? label : `${label} (${repository})`,
    async manifest(reference, signal) {
      const digest = await digestOf(content, repository, reference);
      return digest === undefined ? undefined : readManifest(content, digest, signal);
    },
    async *blob({ digest, sizeBytes }, { startBytes, endBytes = sizeBytes }, signal) {
      signal.throwIfAborted();
      const found = await content.sizeOf(digest);
      if (found === undefined) throw content.absent(digest);
      if (found !== sizeBytes || endBytes > found || startBytes > endBytes) {
        throw new FreeholdError('SIZE_MISMATCH', `${label}: ${digest} has ${found} bytes, not ${sizeBytes}`, {
          detail: { digest, expected: sizeBytes, actual: found },
        });
      }
      yield* content.read(digest, startBytes, endBytes, signal);
    },
    async tags() {
      return namesOf(await content.index(), repository).map(({ tag }) => tag);
    },
    referrers: (subject, signal) => readReferrers(content, subject, signal),
  };
}

/** Names of this repository, without the tags under which referrers are listed. */
function namesOf(index: readonly LayoutEntry[], repository: string | undefined) {
  return index.flatMap(({ name, descriptor }) => {
    const isMeant = name !== undefined && (repository === undefined || name.repository === repository);
    return isMeant && !isFallbackTag(name.tag) ? [{ ...name, digest: descriptor.digest }] : [];
  });
}

async function digestOf(
  content: LayoutContent,
  repository: string | undefined,
  reference: ManifestReference,
): Promise<Digest | undefined> {
  if ('digest' in reference) return reference.digest;
  const index = await content.index();
  const named = namesOf(index, repository).filter(({ tag }) => tag === reference.tag);
  const digests = [...new Set(named.map(({ digest }) => digest))];
  if (digests.length <= 1) return digests[0];
  const repositories = layoutRepositories(index).join(', ');
  throw new FreeholdError(
    'REFERENCE_INVALID',
    `${content.label} has the tag ${reference.tag} several times`,
    {
      hint: `name one of its repositories: ${repositories}`,
    },
  );
}

async function readManifest(
  content: LayoutContent,
  digest: Digest,
  signal: AbortSignal,
): Promise<ManifestDocument | undefined> {
  const sizeBytes = await content.sizeOf(digest);
  if (sizeBytes === undefined) return undefined;
  if (sizeBytes > DOCUMENT_BYTES_MAX) {
    throw new FreeholdError(
      'SIZE_MISMATCH',
      `${content.label}: ${digest} is no document: ${sizeBytes} bytes`,
    );
  }
  const bytes = await collectBytes(content.read(digest, 0, sizeBytes, signal), sizeBytes);
  const actual = Digest.of(bytes);
  if (actual !== digest) {
    throw new FreeholdError('DIGEST_MISMATCH', `${content.label}: ${digest} was altered: it has ${actual}`, {
      detail: { expected: digest, actual },
    });
  }
  return { bytes, digest, mediaType: documentMediaType(bytes) };
}

/** Under the fallback tag, and as other tools keep them: among the entries, without a name. */
async function readReferrers(
  content: LayoutContent,
  subject: Digest,
  signal: AbortSignal,
): Promise<readonly OciDescriptor[]> {
  const found = new Map<Digest, OciDescriptor>();
  for (const { name, descriptor } of await content.index()) {
    if (!DOCUMENT_TYPES.includes(descriptor.mediaType)) continue;
    if (name !== undefined && name.tag !== fallbackTag(subject)) continue;
    const document = await readManifest(content, descriptor.digest, signal);
    if (document === undefined) continue;
    const parsed = parseArtifactDocument(document.bytes, descriptor.digest);
    if (name !== undefined) {
      for (const listed of parsed.manifests) found.set(listed.digest, listed);
    } else if (parsed.subject === subject) {
      found.set(document.digest, referrerDescriptor(document.bytes, document.digest));
    }
  }
  return [...found.values()];
}
