import type { Digest } from '../../core/base/digest.ts';
import { toFreeholdError } from '../../core/base/errors.ts';
import { formatFingerprint } from '../../core/crypto/keys.ts';
import type { PackageDescriptor } from '../../core/format/package-descriptor.ts';
import { readPackage } from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, installedPackages, resolveInstalled } from './installed-packages.ts';
import { firstSigner, verifyInstalled } from './verify-package.ts';

export interface Inspection {
  readonly reference: string;
  readonly descriptor: PackageDescriptor;
  readonly manifestDigest: Digest;
  readonly contentDigest: Digest;
  readonly verification:
    | { readonly kind: 'verified'; readonly signer: string; readonly trustedFor: string }
    | { readonly kind: 'refused'; readonly code: string; readonly reason: string };
  /** The level of protection in force, and what it cannot do, in words. */
  readonly protection: string;
}

/**
 * What a package says of itself, and whether it may be believed. Shows packages that cannot be verified as well, marked
 * so; files are not hashed (`freehold verify` does that).
 * @throws MODEL_NOT_FOUND, and PACKAGE_INVALID or DIGEST_MISMATCH when there is nothing consistent to show
 */
export async function inspectPackage(freehold: Freehold, text: string): Promise<Inspection> {
  const item = resolveInstalled(
    installedPackages(await freehold.store.entries()),
    text,
    Number.POSITIVE_INFINITY,
  );
  const { descriptor, manifestDigest, contentDigest } = await readPackage(
    freehold.store.blobs,
    item.manifestDigest,
  );
  const verification = await verifyInstalled(freehold, item).then(
    ({ signers }): Inspection['verification'] => {
      const signer = firstSigner(signers);
      return {
        kind: 'verified',
        signer: formatFingerprint(signer.fingerprint),
        trustedFor: signer.trustedFor,
      };
    },
    (thrown: unknown): Inspection['verification'] => {
      const error = toFreeholdError(thrown);
      return { kind: 'refused', code: error.code, reason: error.message };
    },
  );
  return {
    reference: fullReference(item),
    descriptor,
    manifestDigest,
    contentDigest,
    verification,
    protection:
      verification.kind === 'verified'
        ? 'level 0, signature: detects tampering and impersonation, does not prevent copying'
        : 'none: without a trusted signature nothing says who made these bytes',
  };
}
