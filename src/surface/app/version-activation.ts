import { FreeholdError } from '../../core/base/errors.ts';
import { compareVersions } from '../../core/base/ids.ts';
import type { OciDescriptor } from '../../core/format/oci.ts';
import type { HeldReason, KnownVersion } from '../../features/updates/update-offer.ts';
import { declinedVersions } from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';
import {
  FORMER_ANNOTATION,
  HELD_ANNOTATION,
  type InstalledPackage,
  installedPackages,
} from './installed-packages.ts';

/** Versions that were in use, of which each can be gone back to. */
const FORMER_MAX = 32;

/** The versions of a package in the store; each once, the newest first. */
export interface StoredVersion {
  readonly version: string;
  /** Absent when one of its variants is not held. */
  readonly held?: HeldReason;
  readonly variants: readonly InstalledPackage[];
}

export function storedVersions(packages: readonly InstalledPackage[], name: string): StoredVersion[] {
  const versions = new Map<string, InstalledPackage[]>();
  for (const item of packages.filter((candidate) => candidate.name === name)) {
    versions.set(item.version, [...(versions.get(item.version) ?? []), item]);
  }
  return [...versions].map(([version, variants]) => {
    const held = variants.every((item) => item.held !== undefined) ? variants[0]?.held : undefined;
    return { version, variants, ...(held === undefined ? {} : { held }) };
  });
}

/** The same, and those that were declined here and are not in the store any more. @throws CONFIG_INVALID */
export async function knownVersions(
  freehold: Freehold,
  packages: readonly InstalledPackage[],
  name: string,
): Promise<KnownVersion[]> {
  const stored = storedVersions(packages, name);
  const gone = (await declinedVersions(freehold).of(name)).filter(
    ({ version }) => !stored.some((item) => item.version === version),
  );
  return [...stored, ...gone.map(({ version, reason }) => ({ version, held: reason }))];
}

/** The version that a bare name means. */
export function activeVersion(packages: readonly InstalledPackage[], name: string): string | undefined {
  return storedVersions(packages, name).find(({ held }) => held === undefined)?.version;
}

export interface Activation {
  readonly name: string;
  readonly from: string | undefined;
  readonly to: string;
}

/**
 * Puts a version that is in the store into use: one change of `index.json`, so that a crash leaves the old one or the new
 * one. Newer versions are held back, since the newest that is not held is the one in use.
 * @throws MODEL_NOT_FOUND when it is not in the store
 */
export async function activateVersion(
  freehold: Freehold,
  name: string,
  version: string,
): Promise<Activation> {
  let from: string | undefined;
  await freehold.store.updateEntries((entries) => {
    const packages = installedPackages(entries);
    from = activeVersion(packages, name);
    requireStored(packages, name, version);
    if (from === version) return entries;
    const former = from === undefined ? [] : [...formerVersions(packages, name, from), from];
    return activated(entries, { name, version, former: former.slice(-FORMER_MAX) });
  });
  return { name, from, to: version };
}

/** Marks a version that is in the store, and not in use, as refused here. */
export async function refuseVersion(freehold: Freehold, name: string, version: string): Promise<void> {
  await declinedVersions(freehold).add(name, { version, reason: 'refused' });
  await freehold.store.updateEntries((entries) =>
    entries.map((entry) => {
      const [item] = installedPackages([entry]);
      const isMeant = item?.name === name && item.version === version && item.held !== undefined;
      return isMeant ? annotated(entry, HELD_ANNOTATION, 'refused') : entry;
    }),
  );
}

/**
 * Puts the version back that was in use before: the last one that is still in the store; where nothing is known, the next
 * older one. Needs no network, reads no weights.
 * @param wanted this one instead
 * @throws MODEL_NOT_FOUND when there is nothing to go back to
 */
export async function rollBackVersion(
  freehold: Freehold,
  name: string,
  wanted?: string,
): Promise<Activation> {
  const left = rollbackTarget(installedPackages(await freehold.store.entries()), name, wanted)?.from;
  // Before the change: a crash in between leaves a version in use that a later removal does not bring back.
  if (left !== undefined) {
    await declinedVersions(freehold).add(name, { version: left, reason: 'rolled-back' });
  }
  let result: Activation | undefined;
  await freehold.store.updateEntries((entries) => {
    const packages = installedPackages(entries);
    const target = rollbackTarget(packages, name, wanted);
    if (target === undefined) throw nothingBefore(packages, name);
    result = { name, from: target.from, to: target.version };
    const changed = activated(entries, { name, version: target.version, former: target.former });
    return changed.map((entry) => {
      const [item] = installedPackages([entry]);
      const isLeft = item?.name === name && item.version === target.from;
      return isLeft ? annotated(entry, HELD_ANNOTATION, 'rolled-back') : entry;
    });
  });
  if (result === undefined) throw new FreeholdError('INTERNAL', 'the entries were not changed');
  return result;
}

/** Where a rollback would go; undefined when nowhere. */
export function rollbackTarget(
  packages: readonly InstalledPackage[],
  name: string,
  wanted?: string,
): { readonly from: string; readonly version: string; readonly former: readonly string[] } | undefined {
  const versions = storedVersions(packages, name);
  const from = activeVersion(packages, name);
  if (from === undefined) return undefined;
  const former = formerVersions(packages, name, from);
  const last = former.findLastIndex(
    (version) =>
      version !== from &&
      (wanted === undefined || version === wanted) &&
      versions.some((item) => item.version === version),
  );
  const known = former[last];
  if (known !== undefined) return { from, version: known, former: former.slice(0, last) };
  const older = versions.find(
    ({ version, held }) =>
      version !== from &&
      (wanted === undefined ? held === undefined && compareVersions(version, from) < 0 : version === wanted),
  );
  if (older === undefined) return undefined;
  return { from, version: older.version, former: formerVersions(packages, name, older.version) };
}

interface Change {
  readonly name: string;
  readonly version: string;
  readonly former: readonly string[];
}

function activated(entries: readonly OciDescriptor[], { name, version, former }: Change): OciDescriptor[] {
  return entries.map((entry) => {
    const [item] = installedPackages([entry]);
    if (item?.name !== name) return entry;
    if (item.version === version) {
      return annotated(
        annotated(entry, HELD_ANNOTATION, undefined),
        FORMER_ANNOTATION,
        former.join(' ') || undefined,
      );
    }
    const isNewer = compareVersions(item.version, version) > 0;
    return isNewer && item.held === undefined ? annotated(entry, HELD_ANNOTATION, 'superseded') : entry;
  });
}

function annotated(entry: OciDescriptor, key: string, value: string | undefined): OciDescriptor {
  const { [key]: _before, ...annotations } = entry.annotations ?? {};
  return { ...entry, annotations: value === undefined ? annotations : { ...annotations, [key]: value } };
}

function formerVersions(packages: readonly InstalledPackage[], name: string, version: string): string[] {
  const texts = packages
    .filter((item) => item.name === name && item.version === version)
    .flatMap((item) => item.entry.annotations?.[FORMER_ANNOTATION] ?? []);
  return texts[0]?.split(' ') ?? [];
}

function requireStored(packages: readonly InstalledPackage[], name: string, version: string): void {
  if (packages.some((item) => item.name === name && item.version === version)) return;
  throw new FreeholdError('MODEL_NOT_FOUND', `${name}@${version} is not installed`);
}

function nothingBefore(packages: readonly InstalledPackage[], name: string): FreeholdError {
  const others = storedVersions(packages, name).map(({ version }) => version);
  return new FreeholdError('MODEL_NOT_FOUND', `there is no version of ${name} to go back to`, {
    hint:
      others.length > 1
        ? `in the store: ${others.join(', ')}; freehold update apply ${name}@VERSION puts one into use`
        : 'only versions that are still in the store can be gone back to',
  });
}
