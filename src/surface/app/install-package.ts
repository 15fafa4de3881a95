import { FreeholdError } from '../../core/base/errors.ts';
import type { SignatureFile } from '../../core/format/modelpack.ts';
import type { PackageDescriptor } from '../../core/format/package-descriptor.ts';
import type { PackageSigner } from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import { type InstalledPackage, installedPackages } from './installed-packages.ts';
import { requireSameContent, updateVersion, withVariant, writePackage } from './package-writer.ts';
import { verifyInstalled } from './verify-package.ts';

export interface InstallResult extends InstalledPackage {
  /** False when the same content was installed before. */
  readonly isNew: boolean;
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
): Promise<InstallResult> {
  const { store } = freehold;
  const written = await writePackage(
    store.blobs,
    descriptor,
    signatures,
    signers.map((signer) => signer.fingerprint),
  );
  const [candidate] = installedPackages([written.entry]);
  if (candidate === undefined) throw new FreeholdError('INTERNAL', 'a new entry cannot be read back');
  await verifyInstalled(freehold, candidate);
  const existing = installedPackages(await store.entries()).find(
    (item) =>
      item.name === descriptor.name &&
      item.version === descriptor.version &&
      item.variant === descriptor.variant,
  );
  requireSameContent(existing?.entry, written);
  await updateVersion(store, descriptor.name, descriptor.version, (variants) =>
    withVariant(variants, written.entry),
  );
  return { ...candidate, isNew: existing === undefined };
}
