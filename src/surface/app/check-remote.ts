import { FreeholdError } from '../../core/base/errors.ts';
import { blobsOf, DOCUMENT_TYPES, parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactPlace, ManifestDocument } from '../../core/format/artifact-place.ts';
import { layerPath, type OciDescriptor } from '../../core/format/oci.ts';
import { BLOBS_AT_ONCE } from '../../features/transfer/copy-artifact.ts';
import { inParallel } from '../../features/transfer/parallel.ts';

/** Documents of one repository; each costs requests. */
const DOCUMENTS_MAX = 10_000;

export interface RemoteCheck {
  readonly tags: number;
  readonly documents: number;
  readonly blobs: number;
  /** What is referred to and missing: one line each. */
  readonly problems: readonly string[];
}

interface WantedBlob {
  readonly blob: OciDescriptor;
  /** The tag from which it was reached first. */
  readonly tag: string;
}

/**
 * Follows every tag of a repository and asks for everything that hangs on it, without fetching weights: a registry may
 * lose a blob and still answer for the tag.
 * @throws NETWORK, AUTHENTICATION_FAILED
 */
export async function checkRemote(place: ArtifactPlace, signal: AbortSignal): Promise<RemoteCheck> {
  const tags = [...(await place.tags(signal))].sort();
  const problems: string[] = [];
  const documents = new Set<string>();
  const blobs = new Map<string, WantedBlob>();
  const follow = async (document: ManifestDocument, tag: string): Promise<void> => {
    if (documents.has(document.digest)) return;
    documents.add(document.digest);
    if (documents.size > DOCUMENTS_MAX) {
      throw new FreeholdError('MANIFEST_INVALID', `${place.label} has more than ${DOCUMENTS_MAX} documents`);
    }
    const parsed = parseArtifactDocument(document.bytes, document.digest);
    for (const blob of blobsOf(parsed)) {
      if (!blobs.has(blob.digest)) blobs.set(blob.digest, { blob, tag });
    }
    const below = [...parsed.manifests, ...(await place.referrers(document.digest, signal))];
    for (const child of below.filter(({ mediaType }) => DOCUMENT_TYPES.includes(mediaType))) {
      const found = await orProblem(() => place.manifest({ digest: child.digest }, signal), problems, tag);
      if (found === undefined) problems.push(`${tag}: the manifest ${child.digest} is missing`);
      else if (found !== 'problem') await follow(found, tag);
    }
  };
  for (const tag of tags) {
    const root = await orProblem(() => place.manifest({ tag }, signal), problems, tag);
    if (root === undefined) problems.push(`${tag}: the tag is listed and cannot be read`);
    else if (root !== 'problem') await follow(root, tag);
  }
  await inParallel([...blobs.values()], BLOBS_AT_ONCE, signal, async ({ blob, tag }, stop) => {
    if (await place.hasBlob({ digest: blob.digest, sizeBytes: blob.size }, stop)) return;
    const file = layerPath(blob);
    problems.push(`${tag}: ${file === undefined ? '' : `${file}, `}${blob.digest} is missing`);
  });
  return { tags: tags.length, documents: documents.size, blobs: blobs.size, problems: problems.sort() };
}

/** Damage of one document is a finding; a registry that does not answer is an error. */
async function orProblem<T>(work: () => Promise<T>, problems: string[], tag: string): Promise<T | 'problem'> {
  try {
    return await work();
  } catch (error) {
    const isDamage =
      error instanceof FreeholdError &&
      ['DIGEST_MISMATCH', 'SIZE_MISMATCH', 'MANIFEST_INVALID'].includes(error.code);
    if (!isDamage) throw error;
    problems.push(`${tag}: ${error.message}`);
    return 'problem';
  }
}
