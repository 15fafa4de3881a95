import { FreeholdError } from './errors.ts';

/** OCI distribution allows 255 characters for host and repository together; ours leave room for a host. */
export const PACKAGE_NAME_CHARACTERS_MAX = 128;
/** An OCI tag has at most 128 characters; version and variant share it. */
export const VERSION_CHARACTERS_MAX = 64;
export const VARIANT_NAME_CHARACTERS_MAX = 48;
/** ext4 and NTFS allow 255 bytes in a name; tar's ustar header 255 in a path. */
export const FILE_PATH_BYTES_MAX = 255;

const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const PACKAGE_NAME = new RegExp(`^${COMPONENT}(?:/${COMPONENT})?$`);
const VARIANT_NAME = new RegExp(`^${COMPONENT}$`);
// SemVer 2.0.0, the expression of semver.org without build metadata: "+" is not allowed in an OCI tag.
const VERSION =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-(?:0|[1-9]\d*|\d*[a-z-][0-9a-z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-z-][0-9a-z-]*))*)?$/;
const PATH_SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9._+ -]*$/;

/** Shows untrusted text in a message: quoted, escaped, cut. */
export function quoted(text: string): string {
  const cut = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return JSON.stringify(cut);
}

/**
 * `NAME` or `PUBLISHER/NAME`, each a component of an OCI repository name (distribution 1.1, "Pulling manifests").
 * @throws NAME_INVALID
 */
export function parsePackageName(text: string): string {
  if (text.length > PACKAGE_NAME_CHARACTERS_MAX || !PACKAGE_NAME.test(text)) {
    throw new FreeholdError('NAME_INVALID', `not a package name: ${quoted(text)}`);
  }
  return text;
}

/** The part that clients send as model name: `triage` of `acme/triage`. */
export function shortName(packageName: string): string {
  return packageName.slice(packageName.lastIndexOf('/') + 1);
}

/** @throws NAME_INVALID */
export function parseVariantName(text: string): string {
  if (text.length > VARIANT_NAME_CHARACTERS_MAX || !VARIANT_NAME.test(text)) {
    throw new FreeholdError('NAME_INVALID', `not a variant name: ${quoted(text)}`, {
      hint: 'lower case letters and digits, joined by ".", "_" or "-": q4_k_m',
    });
  }
  return text;
}

/** SemVer 2.0.0 in lower case, without build metadata. @throws VERSION_INVALID */
export function parseVersion(text: string): string {
  if (text.length > VERSION_CHARACTERS_MAX || !VERSION.test(text)) {
    throw new FreeholdError('VERSION_INVALID', `not a version: ${quoted(text)}`);
  }
  return text;
}

/** Orders two versions as SemVer 2.0.0 clause 11 says. Both must come from `parseVersion`. */
export function compareVersions(left: string, right: string): number {
  const [leftCore, leftPre] = splitVersion(left);
  const [rightCore, rightPre] = splitVersion(right);
  const core = compareIdentifiers(leftCore, rightCore);
  if (core !== 0) return core;
  if (leftPre.length === 0 || rightPre.length === 0) return rightPre.length - leftPre.length;
  return compareIdentifiers(leftPre, rightPre);
}

function splitVersion(version: string): [string[], string[]] {
  const dash = version.indexOf('-');
  if (dash < 0) return [version.split('.'), []];
  return [version.slice(0, dash).split('.'), version.slice(dash + 1).split('.')];
}

function compareIdentifiers(left: string[], right: string[]): number {
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const a = left[index];
    const b = right[index];
    if (a === undefined) return -1;
    if (b === undefined) return 1;
    if (a === b) continue;
    const aNumeric = /^\d+$/.test(a);
    const bNumeric = /^\d+$/.test(b);
    if (aNumeric && bNumeric) return a.length === b.length ? (a < b ? -1 : 1) : a.length - b.length;
    if (aNumeric !== bNumeric) return aNumeric ? -1 : 1;
    return a < b ? -1 : 1;
  }
  return 0;
}

/**
 * A file's path inside a package: relative, `/` between segments, no `.` or `..`, no leading dot, dash or blank, no
 * backslash, NUL, colon or control character, so that it means the same on every file system and cannot leave
 * its folder.
 * @throws NAME_INVALID
 */
export function parseFilePath(text: string): string {
  const segments = text.split('/');
  const isFine =
    Buffer.byteLength(text) <= FILE_PATH_BYTES_MAX &&
    segments.every((segment) => PATH_SEGMENT.test(segment) && !/[. ]$/.test(segment));
  if (!isFine) {
    throw new FreeholdError('NAME_INVALID', `not a file path for a package: ${quoted(text)}`, {
      hint: 'a relative path of letters, digits, ".", "_", "+", "-" and blanks; no segment begins with a dot',
    });
  }
  return text;
}

/**
 * Refuses paths of one package that a case-folding file system would merge, and a file that is also a folder.
 * @throws NAME_INVALID
 */
export function requireDistinctPaths(paths: readonly string[]): void {
  const seen = new Map<string, string>();
  for (const path of paths) {
    const folded = path.toLowerCase();
    const other = seen.get(folded);
    if (other !== undefined) {
      throw new FreeholdError(
        'NAME_INVALID',
        `two files with one name: ${quoted(other)} and ${quoted(path)}`,
      );
    }
    seen.set(folded, path);
  }
  for (const path of seen.keys()) {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      const folder = path.slice(0, slash);
      if (seen.has(folder)) {
        throw new FreeholdError('NAME_INVALID', `${quoted(folder)} is both a file and a folder`);
      }
    }
  }
}
