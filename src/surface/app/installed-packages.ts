import { nearestName } from '../../core/base/did-you-mean.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { compareVersions, shortName } from '../../core/base/ids.ts';
import { parseReference, type Reference } from '../../core/base/reference.ts';
import { ANNOTATION, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';

/** Keys that signed a package stand in its entry so that `list` need not read bundles; display only, never trust. */
export const SIGNERS_ANNOTATION = 'org.freehold.signers';

/** One variant in the store, as its entry in `index.json` describes it. None of this is trusted: verification is. */
export interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  readonly variant: string;
  readonly quantization: string;
  readonly memoryBytes: number;
  readonly contentDigest: string;
  readonly manifestDigest: Digest;
  readonly entry: OciDescriptor;
}

/** `acme/triage@1.4.0#q4_0`. */
export function fullReference(item: { name: string; version: string; variant: string }): string {
  return `${item.name}@${item.version}#${item.variant}`;
}

/** The variants among a store's entries, in the order of name, falling version, variant. */
export function installedPackages(entries: readonly OciDescriptor[]): InstalledPackage[] {
  const packages = entries.flatMap((entry) => {
    const { annotations = {} } = entry;
    const name = annotations[ANNOTATION.name];
    const version = annotations[ANNOTATION.version];
    const variant = annotations[ANNOTATION.variant];
    if (entry.mediaType !== MEDIA_TYPE.manifest || name === undefined) return [];
    if (version === undefined || variant === undefined) return [];
    return [
      {
        name,
        version,
        variant,
        quantization: annotations[ANNOTATION.quantization] ?? '',
        memoryBytes: Number(annotations[ANNOTATION.memoryBytes] ?? 0),
        contentDigest: annotations[ANNOTATION.contentDigest] ?? '',
        manifestDigest: entry.digest,
        entry,
      },
    ];
  });
  return packages.sort(
    (left, right) =>
      compareText(left.name, right.name) ||
      compareVersions(right.version, left.version) ||
      compareText(left.variant, right.variant),
  );
}

function compareText(left: string, right: string): number {
  return left === right ? 0 : left < right ? -1 : 1;
}

/**
 * All installed variants that a reference means: `triage` is any package with this name or short name.
 * @throws MODEL_NOT_FOUND with the nearest name; REFERENCE_INVALID when a short name means several packages
 */
export function selectInstalled(
  packages: readonly InstalledPackage[],
  reference: Reference,
  text: string,
): InstalledPackage[] {
  const wanted =
    reference.kind === 'catalog'
      ? `catalog/${reference.name}`
      : reference.kind === 'installed'
        ? reference.name
        : '';
  let named = packages.filter((item) => item.name === wanted);
  if (named.length === 0) named = packages.filter((item) => shortName(item.name) === wanted);
  const names = [...new Set(named.map((item) => item.name))];
  if (names.length > 1) {
    throw new FreeholdError('REFERENCE_INVALID', `${text} may mean ${names.join(' or ')}`, {
      hint: 'write the whole name',
    });
  }
  const { version, variant } = reference.kind === 'installed' ? reference : {};
  const found = named.filter(
    (item) =>
      (version === undefined || item.version === version) &&
      (variant === undefined || item.variant === variant),
  );
  if (found.length === 0) throw notFound(packages, named, text, wanted);
  return found;
}

function notFound(
  packages: readonly InstalledPackage[],
  named: readonly InstalledPackage[],
  text: string,
  wanted: string,
): FreeholdError {
  if (named.length > 0) {
    return new FreeholdError('MODEL_NOT_FOUND', `${text} is not installed`, {
      hint: `installed: ${named.map(fullReference).join(', ')}`,
    });
  }
  const nearest = nearestName(
    wanted,
    packages.flatMap((item) => [item.name, shortName(item.name)]),
  );
  return new FreeholdError(
    'MODEL_NOT_FOUND',
    `no installed package is named ${wanted}`,
    nearest === undefined ? {} : { hint: `did you mean ${nearest}? freehold list shows all` },
  );
}

/**
 * The one variant to run: of the newest version, the variant that needs the most memory among those that fit into
 * `memoryBytesMax` (larger means less quantized), else the smallest.
 * @throws MODEL_NOT_FOUND, REFERENCE_INVALID, NAME_INVALID, VERSION_INVALID
 */
export function resolveInstalled(
  packages: readonly InstalledPackage[],
  text: string,
  memoryBytesMax: number,
): InstalledPackage {
  const found = selectInstalled(packages, parseReference(text), text);
  const newest = found.filter((item) => item.version === found[0]?.version);
  const bySize = newest.toSorted((left, right) => right.memoryBytes - left.memoryBytes);
  const chosen = bySize.find((item) => item.memoryBytes <= memoryBytesMax) ?? bySize.at(-1);
  if (chosen === undefined) throw new FreeholdError('MODEL_NOT_FOUND', `${text} is not installed`);
  return chosen;
}

/** Whether a reference means this variant, or another one of the same version. Never throws. */
export function isVersionMeant(
  packages: readonly InstalledPackage[],
  text: string,
  item: InstalledPackage,
): boolean {
  try {
    const [newest] = selectInstalled(packages, parseReference(text), text);
    return newest?.name === item.name && newest.version === item.version;
  } catch {
    return false;
  }
}

/** Of the same version, the largest variant that needs less memory than this one. */
export function smallerVariant(
  packages: readonly InstalledPackage[],
  item: InstalledPackage,
): InstalledPackage | undefined {
  return packages
    .filter(({ name, version }) => name === item.name && version === item.version)
    .filter(({ memoryBytes }) => memoryBytes < item.memoryBytes)
    .sort((left, right) => right.memoryBytes - left.memoryBytes)[0];
}
