import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import { contentMismatch } from '../../core/format/lock-file.ts';
import type { VerifiedPackage } from '../../core/format/package-verification.ts';
import { mayLeadTo } from '../../core/format/version-range.ts';
import { fullReference } from './installed-packages.ts';

/** What the caller knows about the package before it is read; anything else is refused, whoever signed it. */
export interface ExpectedPackage {
  readonly contentDigest?: Digest | undefined;
  readonly shortName?: string | undefined;
  readonly name?: string | undefined;
  readonly version?: string | undefined;
  readonly variant?: string | undefined;
  /** The tag that led there: one that reads like a version must be the package's own, or that of the variant. */
  readonly tag?: string | undefined;
}

/** @throws PACKAGE_INVALID, or LOCK_MISMATCH for the content */
export function requireExpected(
  { descriptor, contentDigest }: VerifiedPackage,
  expect: ExpectedPackage,
): void {
  const { name, version, variant } = descriptor;
  const wrong =
    (expect.name !== undefined && expect.name !== name) ||
    (expect.shortName !== undefined && expect.shortName !== shortName(name)) ||
    (expect.version !== undefined && expect.version !== version) ||
    (expect.variant !== undefined && expect.variant !== variant) ||
    (expect.tag !== undefined && !mayLeadTo(expect.tag, descriptor));
  if (wrong) {
    // Validly signed, but another one: how a registry would pass off an old version, or another model, as this one.
    const wanted = `${expect.name ?? expect.shortName ?? name}@${expect.version ?? expect.tag ?? version}#${expect.variant ?? variant}`;
    throw new FreeholdError('PACKAGE_INVALID', `asked for ${wanted}, and got ${fullReference(descriptor)}`, {
      hint: 'the tag points to another package; ask whoever runs the registry, or name the package by its digest',
    });
  }
  if (expect.contentDigest !== undefined && expect.contentDigest !== contentDigest) {
    throw contentMismatch(`${fullReference(descriptor)} has`, contentDigest, expect.contentDigest);
  }
}
