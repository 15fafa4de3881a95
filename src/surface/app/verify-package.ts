import type { Digest } from '../../core/base/digest.ts';
import type { VerifiedFile } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import { type Fingerprint, formatFingerprint } from '../../core/crypto/keys.ts';
import { ANNOTATION, MANIFEST_BYTES_MAX, MEDIA_TYPE } from '../../core/format/oci.ts';
import type { PackageFile } from '../../core/format/package-descriptor.ts';
import {
  type PackageSigner,
  readNamed,
  type VerifiedPackage,
  verifyPackage,
} from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import { readPackageFolder } from './install-folder.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  selectInstalled,
} from './installed-packages.ts';

/** How thoroughly files are compared with their digests: `warm` may trust the record of an unchanged file. */
export type VerifyMode = 'full' | 'warm';

export interface VerificationReport {
  readonly reference: string;
  readonly contentDigest: Digest;
  readonly fingerprint: Fingerprint;
  /** Fingerprint for people. */
  readonly signer: string;
  readonly trustedFor: string;
  readonly files: readonly Pick<PackageFile, 'path' | 'digest' | 'size'>[];
}

/**
 * Verifies signature and trust of an installed variant, and that it is what its entry calls it: an entry that points
 * to another, properly signed package must not lend it its name.
 * @throws SIGNATURE_MISSING, SIGNER_UNTRUSTED, SIGNATURE_INVALID, PACKAGE_INVALID, DIGEST_MISMATCH, …
 */
export async function verifyInstalled(freehold: Freehold, item: InstalledPackage): Promise<VerifiedPackage> {
  const policy = await freehold.home.trust.load();
  const verified = await verifyPackage(freehold.store.blobs, item.manifestDigest, policy);
  const actual = fullReference(verified.descriptor);
  if (actual !== fullReference(item)) {
    throw new FreeholdError(
      'PACKAGE_INVALID',
      `index.json calls it ${fullReference(item)}, but it is ${actual}`,
    );
  }
  return verified;
}

/**
 * Reads the image index of an installed variant's version against its digest. Running needs nothing from it, but it is a
 * file of the package: its damage must not wait to be found by whoever gets a copy.
 * @throws DIGEST_MISMATCH, FILE_MISSING, SIZE_MISMATCH, STORE_CORRUPT
 */
export async function verifyVersionIndex({ store }: Freehold, item: InstalledPackage): Promise<void> {
  const index = (await store.entries()).find(
    ({ mediaType, annotations = {} }) =>
      mediaType === MEDIA_TYPE.index &&
      annotations[ANNOTATION.name] === item.name &&
      annotations[ANNOTATION.version] === item.version,
  );
  if (index === undefined) {
    throw new FreeholdError('STORE_CORRUPT', `index.json lists ${fullReference(item)}, but not its version`);
  }
  await readNamed(store.blobs, index.digest, MANIFEST_BYTES_MAX, 'the image index');
}

/** Opens a file of a package through a descriptor over which its bytes were verified. */
export async function openPackageFile(
  freehold: Freehold,
  file: PackageFile,
  mode: VerifyMode,
  signal?: AbortSignal,
): Promise<VerifiedFile> {
  return freehold.store.openVerified(file.digest, { mode, name: file.path, sizeBytes: file.size, signal });
}

/** Compares every file with its signed digest. @throws DIGEST_MISMATCH, SIZE_MISMATCH, FILE_MISSING naming the file */
export async function verifyFiles(
  freehold: Freehold,
  files: readonly PackageFile[],
  mode: VerifyMode,
  signal?: AbortSignal,
): Promise<void> {
  for (const file of files) {
    const opened = await openPackageFile(freehold, file, mode, signal);
    await opened.close();
  }
}

/**
 * `freehold verify`: everything, byte by byte, for each variant that the reference means, or for an exported folder.
 */
export async function verifyReference(
  freehold: Freehold,
  text: string,
  signal: AbortSignal,
): Promise<VerificationReport[]> {
  const reference = parseReference(text);
  if (reference.kind === 'file') {
    const folder = await readPackageFolder(freehold, reference.path);
    await folder.verifyFiles(signal);
    return [reportOf(folder.verified)];
  }
  const packages = selectInstalled(installedPackages(await freehold.store.entries()), reference, text);
  const reports: VerificationReport[] = [];
  for (const item of packages) {
    const verified = await verifyInstalled(freehold, item);
    await verifyVersionIndex(freehold, item);
    await verifyFiles(freehold, verified.descriptor.files, 'full', signal);
    reports.push(reportOf(verified));
  }
  return reports;
}

function reportOf({ descriptor, contentDigest, signers }: VerifiedPackage): VerificationReport {
  const signer = firstSigner(signers);
  return {
    reference: fullReference(descriptor),
    contentDigest,
    fingerprint: signer.fingerprint,
    signer: formatFingerprint(signer.fingerprint),
    trustedFor: signer.trustedFor,
    files: descriptor.files.map(({ path, digest, size }) => ({ path, digest, size })),
  };
}

/** A verified package has at least one trusted signer. */
export function firstSigner(signers: readonly PackageSigner[]): PackageSigner {
  const [signer] = signers;
  if (signer === undefined)
    throw new FreeholdError('SIGNATURE_MISSING', 'the package has no trusted signature');
  return signer;
}
