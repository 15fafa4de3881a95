import type { BlobStore } from '../../core/base/blob-store.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import {
  type ArtifactDocument,
  childrenOf,
  DOCUMENT_BYTES_MAX,
  DOCUMENT_TYPES,
  parseArtifactDocument,
} from '../../core/format/artifact-documents.ts';
import { ANNOTATION, layerPath, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { referrerDescriptor } from '../../core/format/referrer.ts';

/** Entry → version index → variant manifest is 2. Digests cannot form a cycle; this bounds a hostile chain. */
const DEPTH_MAX = 8;
/** Enough to say whom a damaged blob hurts. */
const OWNERS_MAX = 8;

/** For whom a blob is there. */
export interface BlobOwner {
  /** Name of the entry of `index.json` (its ref name), or its digest. */
  readonly entry: string;
  /** The document that refers to the blob; absent for the entry's own. */
  readonly manifest?: Digest;
  /** Path of the file inside its package. */
  readonly file?: string;
}

export interface ClosureMember {
  readonly digest: Digest;
  /** As declared by whoever refers to it. */
  readonly sizeBytes: number;
  readonly owners: readonly BlobOwner[];
}

/** A document that could not be followed, so that what hangs below it is unknown. */
export interface ClosureProblem {
  readonly digest: Digest;
  readonly owner: BlobOwner;
  readonly error: FreeholdError;
}

export interface Closure {
  readonly members: ReadonlyMap<Digest, ClosureMember>;
  readonly problems: readonly ClosureProblem[];
}

/**
 * Everything that the given entries need: the documents themselves, manifests below indexes, configs and layers.
 * A manifest's `subject` is not followed: a referrer needs no subject, but a subject keeps its referrers.
 */
export async function readClosure(blobs: BlobStore, entries: readonly OciDescriptor[]): Promise<Closure> {
  const members = new Map<Digest, ClosureMember & { owners: BlobOwner[] }>();
  const problems: ClosureProblem[] = [];
  const parsed = new Map<Digest, ArtifactDocument | FreeholdError>();

  function remember(child: OciDescriptor, owner: BlobOwner): void {
    const member = members.get(child.digest);
    if (member === undefined) {
      members.set(child.digest, { digest: child.digest, sizeBytes: child.size, owners: [owner] });
    } else if (member.owners.length < OWNERS_MAX) {
      member.owners.push(owner);
    }
  }

  async function follow(
    child: OciDescriptor,
    owner: BlobOwner,
    depth: number,
    seen: Set<Digest>,
  ): Promise<void> {
    remember(child, owner);
    if (!DOCUMENT_TYPES.includes(child.mediaType) || seen.has(child.digest)) return;
    seen.add(child.digest);
    const known = parsed.get(child.digest);
    const document = known ?? (await tryReadDocument(blobs, child.digest, depth));
    if (known === undefined) parsed.set(child.digest, document);
    if (document instanceof FreeholdError) {
      if (known === undefined) problems.push({ digest: child.digest, owner, error: document });
      return;
    }
    for (const grandchild of childrenOf(document)) {
      const file = layerPath(grandchild);
      const below = { entry: owner.entry, manifest: child.digest, ...(file === undefined ? {} : { file }) };
      await follow(grandchild, below, depth + 1, seen);
    }
  }

  for (const entry of entries) await follow(entry, { entry: entryName(entry) }, 0, new Set());
  return { members, problems };
}

/** What messages call an entry: its ref name, else its digest. */
export function entryName(entry: OciDescriptor): string {
  return entry.annotations?.[ANNOTATION.refName] ?? entry.digest;
}

async function tryReadDocument(
  blobs: BlobStore,
  digest: Digest,
  depth: number,
): Promise<ArtifactDocument | FreeholdError> {
  try {
    if (depth > DEPTH_MAX) throw invalid(digest, `documents refer to each other more than ${DEPTH_MAX} deep`);
    return parseArtifactDocument(await blobs.readAll(digest, DOCUMENT_BYTES_MAX), digest);
  } catch (thrown) {
    if (thrown instanceof FreeholdError) return thrown;
    throw thrown;
  }
}

function invalid(digest: Digest, reason: string): FreeholdError {
  return new FreeholdError('MANIFEST_INVALID', `${digest}: ${reason}`, { detail: { digest } });
}

/**
 * Manifests among `candidates` that name a kept blob as their `subject` (OCI image specification 1.1, "subject"), and
 * all that they need; referrers of referrers too. What a referrer lacks is no error: copy tools drop such parts.
 * @param candidates blobs that no entry needs
 * @returns the digests to keep beside `kept`, and those of `candidates` that are documents
 */
export async function findReferrers(
  blobs: BlobStore,
  candidates: Iterable<Digest>,
  kept: ReadonlySet<Digest>,
): Promise<{ referrers: ReadonlySet<Digest>; documents: ReadonlySet<Digest> }> {
  const subjects = new Map<Digest, Digest>();
  const documents = new Set<Digest>();
  for (const digest of candidates) {
    const document = await readIfDocument(blobs, digest);
    if (document === undefined) continue;
    documents.add(digest);
    if (document.subject !== undefined) subjects.set(digest, document.subject);
  }
  const referrers = new Set<Digest>();
  const isKept = (digest: Digest) => kept.has(digest) || referrers.has(digest);
  for (let found = true; found; ) {
    found = false;
    for (const [digest, subject] of subjects) {
      if (isKept(digest) || !isKept(subject)) continue;
      found = true;
      const entry = { mediaType: MEDIA_TYPE.manifest, digest, size: 0 };
      for (const member of (await readClosure(blobs, [entry])).members.keys()) referrers.add(member);
    }
  }
  return { referrers, documents };
}

/** Descriptors of the documents among `candidates` whose `subject` is this one, with what a registry says of referrers. */
export async function referrersOf(
  blobs: BlobStore,
  candidates: Iterable<Digest>,
  subject: Digest,
): Promise<OciDescriptor[]> {
  const found: OciDescriptor[] = [];
  for (const digest of candidates) {
    const document = await readIfDocument(blobs, digest);
    if (document?.subject !== subject) continue;
    found.push(referrerDescriptor(await blobs.readAll(digest, DOCUMENT_BYTES_MAX), digest));
  }
  return found;
}

/** @returns undefined for weights and other blobs that are not JSON objects, or not sound */
async function readIfDocument(blobs: BlobStore, digest: Digest): Promise<ArtifactDocument | undefined> {
  try {
    if (!(await beginsAsObject(blobs, digest))) return undefined;
    const document = await tryReadDocument(blobs, digest, 0);
    return document instanceof FreeholdError ? undefined : document;
  } catch (thrown) {
    // A planted symbolic link is not followed, and keeps nothing.
    if (thrown instanceof FreeholdError && thrown.code === 'STORE_CORRUPT') return undefined;
    throw thrown;
  }
}

/** Spares reading gigabytes of weights to find out that they are no manifest. */
async function beginsAsObject(blobs: BlobStore, digest: Digest): Promise<boolean> {
  const source = await blobs.open(digest);
  try {
    if (source.sizeBytes === 0 || source.sizeBytes > DOCUMENT_BYTES_MAX) return false;
    const [first] = await source.read(0, 1);
    return first === '{'.charCodeAt(0);
  } finally {
    await source.close();
  }
}
