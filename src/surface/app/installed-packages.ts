import { nearestName } from '../../core/base/did-you-mean.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { compareVersions, shortName } from '../../core/base/ids.ts';
import { parseReference, type Reference } from '../../core/base/reference.ts';
import { ANNOTATION, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { largestThatFits } from '../../core/format/variant-choice.ts';
import { HELD_REASONS, type HeldReason } from '../../features/updates/update-offer.ts';

/** Keys that signed a package stand in its entry so that `list` need not read bundles; display only, never trust. */
export const SIGNERS_ANNOTATION = 'org.freehold.signers';
/** Why a bare name does not mean this version: it is here, `NAME@VERSION` reaches it, and that is all. */
export const HELD_ANNOTATION = 'org.freehold.held';
/** Versions that were in use before this one, the last one last, parted by blanks: where `update rollback` goes. */
export const FORMER_ANNOTATION = 'org.freehold.former';
/** What an entry says of this store only: no part of a version's image index. */
export const STORE_ANNOTATIONS: readonly string[] = [
  ANNOTATION.refName,
  SIGNERS_ANNOTATION,
  HELD_ANNOTATION,
  FORMER_ANNOTATION,
];

/** One variant in the store, as its entry in `index.json` describes it. None of this is trusted: verification is. */
export interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  readonly variant: string;
  readonly quantization: string;
  readonly memoryBytes: number;
  readonly contentDigest: string;
  readonly manifestDigest: Digest;
  /** Absent: in use, or could be. */
  readonly held?: HeldReason;
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
    const held = HELD_REASONS.find((reason) => reason === annotations[HELD_ANNOTATION]);
    return [
      {
        name,
        version,
        variant,
        quantization: annotations[ANNOTATION.quantization] ?? '',
        memoryBytes: Number(annotations[ANNOTATION.memoryBytes] ?? 0),
        contentDigest: annotations[ANNOTATION.contentDigest] ?? '',
        manifestDigest: entry.digest,
        ...(held === undefined ? {} : { held }),
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
  if (reference.kind !== 'catalog' && reference.kind !== 'installed') {
    throw new FreeholdError(
      'REFERENCE_INVALID',
      `${text} says where a model comes from; an installed one is meant`,
      {
        hint: 'freehold list shows the names of what is installed',
      },
    );
  }
  const wanted = reference.kind === 'catalog' ? `catalog/${reference.name}` : reference.name;
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
 * Of what a reference means, the variants of the one version to use: the one that is named, else the newest that is not
 * held back.
 * @throws MODEL_NOT_FOUND when every version is held, and as `selectInstalled` does
 */
function selectActive(
  packages: readonly InstalledPackage[],
  reference: Reference,
  text: string,
): InstalledPackage[] {
  const found = selectInstalled(packages, reference, text);
  const isNamed = reference.kind === 'installed' && reference.version !== undefined;
  const usable = isNamed ? found : found.filter(({ held }) => held === undefined);
  const [newest] = usable;
  if (newest !== undefined) return usable.filter(({ version }) => version === newest.version);
  throw new FreeholdError('MODEL_NOT_FOUND', `every installed version of ${text} is held back`, {
    hint: `freehold list says why; with its version it can be used all the same: ${found.map(fullReference).join(', ')}`,
  });
}

/**
 * The one variant to run: of the version in use, the variant that needs the most memory among those that fit into
 * `memoryBytesMax` (larger means less quantized), else the smallest.
 * @throws MODEL_NOT_FOUND, REFERENCE_INVALID, NAME_INVALID, VERSION_INVALID
 */
export function resolveInstalled(
  packages: readonly InstalledPackage[],
  text: string,
  memoryBytesMax: number,
): InstalledPackage {
  const variants = selectActive(packages, parseReference(text), text);
  const chosen = largestThatFits(variants, memoryBytesMax);
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
    const [active] = selectActive(packages, parseReference(text), text);
    return active?.name === item.name && active.version === item.version;
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
