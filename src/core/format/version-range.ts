import semver from 'semver';
import { FreeholdError } from '../base/errors.ts';
import { compareVersions, parseVersion, quoted } from '../base/ids.ts';

/**
 * A range as npm reads it: `^1.4`, `~1.4.2`, `>=1.2 <2`, `1.x || 2.x`.
 * @returns the text as it was
 * @throws VERSION_INVALID
 */
export function parseVersionRange(text: string): string {
  if (semver.validRange(text) === null) {
    throw new FreeholdError('VERSION_INVALID', `not a range of versions: ${quoted(text)}`, {
      hint: 'for example ^1.4, ~1.4.2 or ">=1.2 <2"',
    });
  }
  return text;
}

/** A version before its release (`2.0.0-rc.1`) is in a range only if that names one of the same release: `>=2.0.0-rc.0`. */
export function isInRange(version: string, range: string): boolean {
  return semver.satisfies(version, range);
}

/**
 * The tags that may be versions, the newest first. `1.0.0-edge` is the version before 1.0.0 named "edge" or the variant
 * "edge" of 1.0.0, and its text does not say which: the document under the tag does (an image index is a version, a
 * manifest is a variant). Whoever lists a registry asks it before a tag counts as a version.
 */
export function possibleVersions(tags: readonly string[]): string[] {
  return tags.filter(isVersionText).sort((left, right) => compareVersions(right, left));
}

/**
 * The newest of some versions that a range allows; without a range, the newest that is released.
 * @param versions confirmed to be versions, in any order
 */
export function newestVersion(versions: readonly string[], range: string | undefined): string | undefined {
  return possibleVersions(versions).find((version) => isInRange(version, range ?? '*'));
}

/** Begins with a whole version. `latest`, `stable` and `1.4` are meant to move, and promise nothing. */
const VERSION_TAG = /^\d+\.\d+\.\d+/;

/** Whether a tag may lead to this variant: one that reads like a version must be its own, or that of the variant. */
export function mayLeadTo(tag: string, { version, variant }: { version: string; variant: string }): boolean {
  return !VERSION_TAG.test(tag) || [version, `${version}-${variant}`].includes(tag);
}

function isVersionText(text: string): boolean {
  try {
    parseVersion(text);
    return true;
  } catch {
    return false;
  }
}
