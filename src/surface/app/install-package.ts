import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { SignatureFile } from '../../core/format/modelpack.ts';
import type { PackageDescriptor, PackageFile } from '../../core/format/package-descriptor.ts';
import type { PackageSigner, VerifiedPackage } from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import { type InstalledPackage, installedPackages } from './installed-packages.ts';
import { requireSameContent, updateVersion, withVariant, writePackage } from './package-writer.ts';
import { verifyInstalled } from './verify-package.ts';

export interface InstallResult extends InstalledPackage {
  /** False when the same content was installed before. */
  readonly isNew: boolean;
}

export interface AddOptions {
  /** Further annotations of the entry in `index.json`; of this store only. */
  readonly entryAnnotations?: Readonly<Record<string, string>>;
}

/** A package whose signature was verified, from wherever it comes, and how to get at its bytes. */
export interface PackageToInstall {
  readonly verified: VerifiedPackage;
  /** `freehold.json` and the bundles: small, in memory, their digests compared. */
  readonly documents: Iterable<Buffer>;
  /** Brings files into the store, with their signed digests and sizes compared. */
  readonly bring: (files: readonly PackageFile[]) => Promise<void>;
}

/**
 * Installs a package whose signature was verified: brings its files into the store, then adds it. Nothing is brought that
 * could not be installed.
 * @throws ALREADY_EXISTS when this version is installed with other content; DISK_FULL before the first byte when there is
 *   no room; whatever `bring` throws
 */
export async function installVerified(
  freehold: Freehold,
  { verified, documents, bring }: PackageToInstall,
  options: AddOptions = {},
): Promise<InstallResult> {
  const { descriptor, signatures, signers } = verified;
  await requireNoOther(freehold, descriptor, verified.contentDigest);
  return freehold.store.withLease(async () => {
    for (const bytes of documents) await freehold.store.blobs.write(bytes);
    await bring(descriptor.files);
    return addVerified(freehold, descriptor, signatures, signers, options);
  });
}

/**
 * The last step of every install: all files and signatures are in the store; the documents are written, the package is
 * verified once more as it lies there, and then its entry makes it visible. Call it within a lease.
 * @throws whatever verification throws; ALREADY_EXISTS when this version is installed with other content
 */
export async function addVerified(
  freehold: Freehold,
  descriptor: PackageDescriptor,
  signatures: readonly SignatureFile[],
  signers: readonly Pick<PackageSigner, 'fingerprint'>[],
  { entryAnnotations = {} }: AddOptions = {},
): Promise<InstallResult> {
  const { store } = freehold;
  const written = await writePackage(
    store.blobs,
    descriptor,
    signatures,
    signers.map((signer) => signer.fingerprint),
  );
  const entry = { ...written.entry, annotations: { ...written.entry.annotations, ...entryAnnotations } };
  const [candidate] = installedPackages([entry]);
  if (candidate === undefined) throw new FreeholdError('INTERNAL', 'a new entry cannot be read back');
  await verifyInstalled(freehold, candidate);
  const existing = await findVariant(freehold, descriptor);
  requireSameContent(existing?.entry, written);
  await updateVersion(store, descriptor.name, descriptor.version, (variants) => withVariant(variants, entry));
  return { ...candidate, isNew: existing === undefined };
}

async function findVariant(
  { store }: Freehold,
  { name, version, variant }: PackageDescriptor,
): Promise<InstalledPackage | undefined> {
  return installedPackages(await store.entries()).find(
    (item) => item.name === name && item.version === version && item.variant === variant,
  );
}

/** @throws ALREADY_EXISTS */
async function requireNoOther(
  freehold: Freehold,
  descriptor: PackageDescriptor,
  contentDigest: Digest,
): Promise<void> {
  const existing = await findVariant(freehold, descriptor);
  requireSameContent(existing?.entry, { contentDigest, descriptor });
}
