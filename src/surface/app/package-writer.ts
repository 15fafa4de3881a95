import type { BlobStore } from '../../core/base/blob-store.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { Fingerprint } from '../../core/crypto/keys.ts';
import { contentDigest } from '../../core/crypto/model-signing.ts';
import {
  type Document,
  encodePackage,
  encodeVersionIndex,
  referenceName,
  type SignatureFile,
  variantEntry,
} from '../../core/format/modelpack.ts';
import { ANNOTATION, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import type { PackageDescriptor } from '../../core/format/package-descriptor.ts';
import { signedFiles } from '../../core/format/package-verification.ts';
import type { Store } from '../../io/store/store.ts';
import {
  FORMER_ANNOTATION,
  HELD_ANNOTATION,
  installedPackages,
  SIGNERS_ANNOTATION,
  STORE_ANNOTATIONS,
} from './installed-packages.ts';

/** A variant whose documents lie in the blob store, ready to be listed in `index.json`. */
export interface WrittenPackage {
  readonly descriptor: PackageDescriptor;
  readonly manifestDigest: Digest;
  readonly contentDigest: Digest;
  readonly signatures: readonly SignatureFile[];
  /** The entry for `index.json`. */
  readonly entry: OciDescriptor;
}

/** Writes descriptor, config and manifest of one variant; its files and signatures must be in the store already. */
export async function writePackage(
  blobs: BlobStore,
  descriptor: PackageDescriptor,
  signatures: readonly SignatureFile[],
  signers: readonly Fingerprint[] = [],
): Promise<WrittenPackage> {
  const encoded = encodePackage(descriptor, signatures);
  for (const document of [encoded.descriptor, encoded.config, encoded.manifest]) {
    await blobs.write(document.bytes, { digest: document.digest, sizeBytes: document.bytes.byteLength });
  }
  const content = contentDigest(signedFiles(descriptor, encoded.descriptor.digest));
  const entry = variantEntry(descriptor, encoded.manifest);
  return {
    descriptor,
    manifestDigest: encoded.manifest.digest,
    contentDigest: content,
    signatures,
    entry: {
      ...entry,
      annotations: {
        ...entry.annotations,
        [ANNOTATION.refName]: referenceName(descriptor.name, descriptor.version, descriptor.variant),
        [ANNOTATION.contentDigest]: content,
        ...(signers.length === 0 ? {} : { [SIGNERS_ANNOTATION]: signers.join(',') }),
      },
    },
  };
}

/** An entry of `index.json` without what stands there for this store only. */
export function publicEntry(entry: OciDescriptor): OciDescriptor {
  const annotations = Object.entries(entry.annotations ?? {}).filter(
    ([key]) => !STORE_ANNOTATIONS.includes(key),
  );
  return { ...entry, annotations: Object.fromEntries(annotations) };
}

/** Other processes change the index as well; each lost race means that one of them got further. */
const UPDATE_ATTEMPTS_MAX = 100;

/** What shall become of the variants of one version. */
export interface VersionChange {
  readonly name: string;
  readonly version: string;
  /** From the variants that are there to those that shall be; pure, may run several times. */
  readonly change: (variants: readonly OciDescriptor[]) => readonly OciDescriptor[];
}

/** `updateVersions` for one. @returns the digest of the version's image index, or undefined when no variant is left */
export async function updateVersion(
  store: Store,
  name: string,
  version: string,
  change: VersionChange['change'],
): Promise<Digest | undefined> {
  const [digest] = await updateVersions(store, [{ name, version, change }]);
  return digest;
}

/**
 * Replaces the variants of versions in `index.json`, and each version's image index, which follows from them; all in one
 * step, so that a crash leaves either everything as it was or everything as it shall be. Call it within a lease that
 * began before the first blob of the new variants was written.
 * @returns for each change the digest of its version's image index, or undefined when no variant is left
 */
export async function updateVersions(
  store: Store,
  changes: readonly VersionChange[],
): Promise<(Digest | undefined)[]> {
  for (let attempt = 0; attempt < UPDATE_ATTEMPTS_MAX; attempt++) {
    const planned = planAll(await store.entries(), changes);
    // An image index must lie in the store before an entry may name it, and it depends on the entries: when another
    // process changed them in between, everything is done again.
    for (const index of planned.indexes) {
      if (index !== undefined) await store.blobs.write(index.bytes, { digest: index.digest });
    }
    const digests = planned.indexes.map((index) => index?.digest);
    let isCurrent = true;
    await store.updateEntries((entries) => {
      const fresh = planAll(entries, changes);
      isCurrent = fresh.indexes.every((index, number) => index?.digest === digests[number]);
      return isCurrent ? fresh.entries : entries;
    });
    if (isCurrent) return digests;
  }
  const names = changes.map(({ name, version }) => `${name}@${version}`);
  throw new FreeholdError('BUSY', `other processes keep changing ${names.join(', ')}`);
}

function planAll(
  before: readonly OciDescriptor[],
  changes: readonly VersionChange[],
): { entries: readonly OciDescriptor[]; indexes: readonly (Document | undefined)[] } {
  let entries = before;
  // Several changes may concern one version: only its last image index is ever listed.
  const latest = new Map<string, Document | undefined>();
  for (const { name, version, change } of changes) {
    const planned = plan(entries, name, version, change);
    entries = planned.entries;
    latest.set(referenceName(name, version), planned.index);
  }
  return { entries, indexes: changes.map(({ name, version }) => latest.get(referenceName(name, version))) };
}

interface VersionPlan {
  readonly entries: readonly OciDescriptor[];
  readonly index: Document | undefined;
}

function plan(
  entries: readonly OciDescriptor[],
  name: string,
  version: string,
  change: (variants: readonly OciDescriptor[]) => readonly OciDescriptor[],
): VersionPlan {
  const others = entries.filter((entry) => !isOfVersion(entry, name, version));
  const variants = change(variantsOf(entries, name, version));
  if (variants.length === 0) return { entries: others, index: undefined };
  const index = encodeVersionIndex(variants.map(publicEntry));
  const indexEntry: OciDescriptor = {
    mediaType: MEDIA_TYPE.index,
    artifactType: MEDIA_TYPE.modelManifest,
    digest: index.digest,
    size: index.bytes.byteLength,
    annotations: {
      [ANNOTATION.refName]: referenceName(name, version),
      [ANNOTATION.name]: name,
      [ANNOTATION.version]: version,
    },
  };
  return { entries: [...others, indexEntry, ...variants], index };
}

function isOfVersion(entry: OciDescriptor, name: string, version: string): boolean {
  return entry.annotations?.[ANNOTATION.name] === name && entry.annotations[ANNOTATION.version] === version;
}

/** Entries of the variants of one version. */
function variantsOf(entries: readonly OciDescriptor[], name: string, version: string): OciDescriptor[] {
  return installedPackages(entries)
    .filter((item) => item.name === name && item.version === version)
    .map((item) => item.entry);
}

/**
 * The variants with this one put in the place of the one of its name. What was in use before it stays known, and a
 * version that is in use stays so, also when the same comes again as a candidate.
 */
export function withVariant(variants: readonly OciDescriptor[], entry: OciDescriptor): OciDescriptor[] {
  const name = entry.annotations?.[ANNOTATION.variant];
  const existing = variants.find((other) => other.annotations?.[ANNOTATION.variant] === name);
  const others = variants.filter((other) => other !== existing);
  if (existing === undefined) return [...others, entry];
  const { [FORMER_ANNOTATION]: former, [HELD_ANNOTATION]: held } = existing.annotations ?? {};
  const { [HELD_ANNOTATION]: reason, ...annotations } = entry.annotations ?? {};
  if (former !== undefined) annotations[FORMER_ANNOTATION] = former;
  if (held !== undefined && reason !== undefined) annotations[HELD_ANNOTATION] = reason;
  return [...others, { ...entry, annotations }];
}

/**
 * A version names one content for ever: the same content may come again, another one only where the caller insists.
 * @throws ALREADY_EXISTS
 */
export function requireSameContent(
  existing: OciDescriptor | undefined,
  written: Pick<WrittenPackage, 'contentDigest' | 'descriptor'>,
): void {
  const known = existing?.annotations?.[ANNOTATION.contentDigest];
  if (known === undefined || known === written.contentDigest) return;
  const { name, version, variant } = written.descriptor;
  throw new FreeholdError(
    'ALREADY_EXISTS',
    `${name}@${version}#${variant} is in the store with other content`,
    {
      hint: 'raise the version, or remove the old one first (freehold remove); freehold build takes --replace',
      detail: { existing: known, wanted: written.contentDigest },
    },
  );
}
