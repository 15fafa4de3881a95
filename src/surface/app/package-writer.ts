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
import { installedPackages } from './installed-packages.ts';

/** A variant whose documents lie in the blob store, ready to be listed in `index.json`. */
export interface WrittenPackage {
  readonly descriptor: PackageDescriptor;
  readonly manifestDigest: Digest;
  readonly contentDigest: Digest;
  readonly signatures: readonly SignatureFile[];
  /** The entry for `index.json`. */
  readonly entry: OciDescriptor;
}

/** Keys that signed a package stand in its entry so that `list` need not read bundles; display only, never trust. */
export const SIGNERS_ANNOTATION = 'org.freehold.signers';

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
function publicEntry(entry: OciDescriptor): OciDescriptor {
  const {
    [ANNOTATION.refName]: _ref,
    [SIGNERS_ANNOTATION]: _signers,
    ...annotations
  } = entry.annotations ?? {};
  return { ...entry, annotations };
}

/** Other processes change the index as well; each lost race means that one of them got further. */
const UPDATE_ATTEMPTS_MAX = 100;

/**
 * Replaces the variants of one version in `index.json`, and the version's image index, which follows from them.
 * Call it within a lease that began before the first blob of the new variants was written.
 * @param change from the variants that are there to those that shall be; pure, may run several times
 * @returns the digest of the version's image index, or undefined when no variant is left
 */
export async function updateVersion(
  store: Store,
  name: string,
  version: string,
  change: (variants: readonly OciDescriptor[]) => readonly OciDescriptor[],
): Promise<Digest | undefined> {
  for (let attempt = 0; attempt < UPDATE_ATTEMPTS_MAX; attempt++) {
    const planned = plan(await store.entries(), name, version, change);
    // The image index must lie in the store before an entry may name it, and it depends on the entries: when another
    // process changed them in between, everything is done again.
    if (planned.index !== undefined)
      await store.blobs.write(planned.index.bytes, { digest: planned.index.digest });
    let isCurrent = true;
    await store.updateEntries((entries) => {
      const fresh = plan(entries, name, version, change);
      isCurrent = fresh.index?.digest === planned.index?.digest;
      return isCurrent ? fresh.entries : entries;
    });
    if (isCurrent) return planned.index?.digest;
  }
  throw new FreeholdError('BUSY', `other processes keep changing ${name}@${version}`);
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

/** The variants with this one put in the place of the one of its name. */
export function withVariant(variants: readonly OciDescriptor[], entry: OciDescriptor): OciDescriptor[] {
  const name = entry.annotations?.[ANNOTATION.variant];
  return [...variants.filter((other) => other.annotations?.[ANNOTATION.variant] !== name), entry];
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
