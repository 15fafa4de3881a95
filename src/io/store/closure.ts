import { z } from 'zod';
import type { BlobStore } from '../../core/base/blob-store.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import {
  ANNOTATION,
  describeIssues,
  JSON_DEPTH_MAX,
  layerPath,
  MEDIA_TYPE,
  type OciDescriptor,
} from '../../core/format/oci.ts';

/** OCI distribution 1.1, "Pushing manifests": registries take manifests up to 4 MiB. */
export const DOCUMENT_BYTES_MAX = 4 << 20;
/** Entry → version index → variant manifest is 2. Digests cannot form a cycle; this bounds a hostile chain. */
const DEPTH_MAX = 8;
/** Per document. Registries in the field refuse manifests with more than about 500 layers. */
const CHILDREN_MAX = 10_000;
/** Enough to say whom a damaged blob hurts. */
const OWNERS_MAX = 8;

/** Documents that refer to further blobs; Docker's are there because copy tools still write them. */
const DOCUMENT_TYPES: readonly string[] = [
  MEDIA_TYPE.index,
  MEDIA_TYPE.manifest,
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];

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

// Loose, unlike our own formats: referrers and foreign manifests may have fields that we never heard of.
const childSchema = z.looseObject({
  mediaType: z.string(),
  digest: z.string(),
  size: z.number().int().nonnegative(),
  annotations: z.record(z.string(), z.string()).optional(),
});
const documentSchema = z.looseObject({
  manifests: z.array(childSchema).max(CHILDREN_MAX).optional(),
  config: childSchema.optional(),
  layers: z.array(childSchema).max(CHILDREN_MAX).optional(),
  subject: childSchema.optional(),
});

type Child = Omit<OciDescriptor, 'artifactType'>;

interface Document {
  readonly children: readonly Child[];
  readonly subject?: Digest;
}

/**
 * Everything that the given entries need: the documents themselves, manifests below indexes, configs and layers.
 * A manifest's `subject` is not followed: a referrer needs no subject, but a subject keeps its referrers.
 */
export async function readClosure(blobs: BlobStore, entries: readonly OciDescriptor[]): Promise<Closure> {
  const members = new Map<Digest, ClosureMember & { owners: BlobOwner[] }>();
  const problems: ClosureProblem[] = [];
  const parsed = new Map<Digest, Document | FreeholdError>();

  function remember(child: Child, owner: BlobOwner): void {
    const member = members.get(child.digest);
    if (member === undefined) {
      members.set(child.digest, { digest: child.digest, sizeBytes: child.size, owners: [owner] });
    } else if (member.owners.length < OWNERS_MAX) {
      member.owners.push(owner);
    }
  }

  async function follow(child: Child, owner: BlobOwner, depth: number, seen: Set<Digest>): Promise<void> {
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
    for (const grandchild of document.children) {
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
): Promise<Document | FreeholdError> {
  try {
    if (depth > DEPTH_MAX) throw invalid(digest, `documents refer to each other more than ${DEPTH_MAX} deep`);
    return parseDocument(await blobs.readAll(digest, DOCUMENT_BYTES_MAX), digest);
  } catch (thrown) {
    if (thrown instanceof FreeholdError) return thrown;
    throw thrown;
  }
}

function parseDocument(bytes: Buffer, digest: Digest): Document {
  const json = parseStrictJson(bytes, {
    bytesMax: DOCUMENT_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
    code: 'MANIFEST_INVALID',
    label: digest,
  });
  const result = documentSchema.safeParse(json);
  if (!result.success) throw invalid(digest, describeIssues(result.error));
  const { manifests = [], config, layers = [], subject } = result.data;
  const children = [...manifests, ...(config === undefined ? [] : [config]), ...layers];
  return {
    children: children.map((child) => ({ ...child, digest: childDigest(child.digest, digest) })),
    ...(subject === undefined ? {} : { subject: childDigest(subject.digest, digest) }),
  };
}

function childDigest(text: string, parent: Digest): Digest {
  if (!Digest.is(text)) throw invalid(parent, `refers to ${quoted(text)}, not a sha256 digest`);
  return text;
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

/** @returns undefined for weights and other blobs that are not JSON objects, or not sound */
async function readIfDocument(blobs: BlobStore, digest: Digest): Promise<Document | undefined> {
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
