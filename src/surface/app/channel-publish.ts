import { FreeholdError } from '../../core/base/errors.ts';
import { parsePackageName } from '../../core/base/ids.ts';
import { parseReference } from '../../core/base/reference.ts';
import { parseRepository } from '../../core/base/registry-reference.ts';
import type { ArtifactPlace } from '../../core/format/artifact-place.ts';
import {
  type Advisory,
  type ChannelContents,
  parseChannelName,
  type Release,
} from '../../core/format/channel-documents.ts';
import { readPackage } from '../../core/format/package-verification.ts';
import { openChannelArtifact } from '../../features/updates/channel-artifact.ts';
import {
  advise,
  documentsOf,
  promote,
  undoYank,
  withdrawAdvisory,
  yank,
} from '../../features/updates/channel-editing.ts';
import {
  createChannels,
  publishDocuments,
  renewChannels,
  rotateRoot,
} from '../../features/updates/channel-publishing.ts';
import { type ChannelKeys, VALID_DAYS_DEFAULT } from '../../features/updates/channel-signing.ts';
import { type ChannelOptions, channelsFile, nowMsOf, REGISTRY_ACCESS } from './channel-refresh.ts';
import {
  type ChangeOptions,
  changeChannels,
  chosenRoles,
  describeChannels,
  editChannels,
  type KeyChoice,
  knownChannels,
  type PublishedChannels,
  privateKeys,
  publishFiles,
  registryState,
  secondsText,
  withPublished,
} from './channel-workplace.ts';
import type { Freehold } from './freehold.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  selectInstalled,
} from './installed-packages.ts';
import { packageBytes } from './package-list.ts';

/** For how many days what is signed counts; absent: the defaults. */
export interface DayChoice {
  readonly root?: number | undefined;
  readonly targets?: number | undefined;
  /** Of snapshot and timestamp. */
  readonly online?: number | undefined;
}

/**
 * Makes the channels of a package, with no release in them yet, and puts them into its repository.
 * @param to `oci://HOST/NAME`
 * @param keys with `key` for every role for which none is named
 * @throws ALREADY_EXISTS when the repository has channels or this home knows of any, NOT_FOUND for a key, USAGE when a role has none
 */
export async function createPackageChannels(
  freehold: Freehold,
  name: string,
  to: string,
  { key, ...keys }: KeyChoice & { readonly key?: string | undefined },
  days: DayChoice,
  options: ChannelOptions,
): Promise<PublishedChannels> {
  const { signal, access = REGISTRY_ACCESS } = options;
  const repository = parseRepository(to);
  await requireNoneKnown(freehold, parsePackageName(name));
  const names = (chosen: readonly string[] | undefined) => chosen ?? (key === undefined ? undefined : [key]);
  const roles = await chosenRoles(freehold, {
    ...keys,
    root: names(keys.root),
    targets: names(keys.targets),
    online: names(keys.online),
  });
  if (!hasAllRoles(roles)) {
    throw new FreeholdError('USAGE', 'every role needs a key', {
      hint: '--key NAME for all, or --root-key, --targets-key and --online-key',
    });
  }
  const online = days.online ?? VALID_DAYS_DEFAULT.timestamp;
  const validDays = {
    root: days.root ?? VALID_DAYS_DEFAULT.root,
    targets: days.targets ?? VALID_DAYS_DEFAULT.targets,
    snapshot: online,
    timestamp: online,
  };
  return access.withRepository(freehold, repository, async (place) => {
    if ((await openChannelArtifact(place, signal)) !== undefined) {
      throw new FreeholdError('ALREADY_EXISTS', `${place.label} has channels already`, {
        hint: 'freehold channel list shows them',
      });
    }
    const signing = { keys: await privateKeys(freehold), nowMs: nowMsOf(options) };
    const files = createChannels(parsePackageName(name), roles, validDays, signing);
    await publishFiles(freehold, name, place, files, undefined, options);
    if (options.isDryRun !== true) await channelsFile(freehold).publish(name, repository);
    return describeChannels(name, files);
  });
}

/** Second channels of a package would lock out everybody who has seen the first, this home included. */
async function requireNoneKnown(freehold: Freehold, name: string): Promise<void> {
  if ((await knownChannels(freehold, name)) === undefined) return;
  const isPublished = (await channelsFile(freehold).published()).has(name);
  throw new FreeholdError('ALREADY_EXISTS', `this home knows channels of ${name} already`, {
    hint: isPublished
      ? `freehold channel renew ${name} publishes them again where they are lost; to move them, change the repository in channels.yaml first`
      : `to publish them from here as well, write the repository below "published" in channels.yaml, then: freehold channel renew ${name}`,
  });
}

function hasAllRoles(roles: Partial<ChannelKeys>): roles is ChannelKeys {
  const { root, targets, snapshot, timestamp } = roles;
  return [root, targets, snapshot, timestamp].every((role) => role !== undefined);
}

/**
 * Offers a version that lies in this home's store and in the registry.
 * @throws MODEL_NOT_FOUND, NOT_FOUND when the registry lacks a variant, USAGE when the version was yanked
 */
export async function promoteRelease(
  freehold: Freehold,
  text: string,
  channel: string,
  choice: { readonly rolloutPercent: number; readonly suites?: readonly string[] },
  options: ChannelOptions,
): Promise<PublishedChannels> {
  parseChannelName(channel);
  const { name, version, variants } = await versionToPromote(freehold, text);
  return editChannels(freehold, name, options, async (contents, place) => {
    for (const item of variants) await requirePushed(place, item, options.signal);
    const release: Release = {
      version,
      rolloutPercent: choice.rolloutPercent,
      promoted: secondsText(nowMsOf(options)),
      variants: await Promise.all(variants.map((item) => releaseVariant(freehold, item))),
      ...(choice.suites === undefined ? {} : { suites: [...choice.suites] }),
    };
    return promote(contents, { name, channel }, release);
  });
}

/** @throws REFERENCE_INVALID */
function wholeVersion(text: string) {
  const reference = parseReference(text);
  if (reference.kind === 'installed' && reference.version !== undefined && reference.variant === undefined) {
    return { ...reference, version: reference.version };
  }
  throw new FreeholdError('REFERENCE_INVALID', `not a version with all its variants: ${text}`, {
    hint: 'NAME@VERSION',
  });
}

async function versionToPromote(freehold: Freehold, text: string) {
  const reference = wholeVersion(text);
  const variants = selectInstalled(installedPackages(await freehold.store.entries()), reference, text);
  const [{ name }] = variants as [InstalledPackage];
  return { name, version: reference.version, variants };
}

async function requirePushed(
  place: ArtifactPlace,
  item: InstalledPackage,
  signal: AbortSignal,
): Promise<void> {
  if (await place.hasManifest(item.manifestDigest, signal)) return;
  throw new FreeholdError('NOT_FOUND', `${place.label} has no ${fullReference(item)}`, {
    hint: `freehold push ${item.name}@${item.version} first`,
    detail: { digest: item.manifestDigest },
  });
}

async function releaseVariant(
  freehold: Freehold,
  item: InstalledPackage,
): Promise<Release['variants'][number]> {
  // The registry has it, so it is signed; whether this home trusts its own key for the name does not matter.
  const { contentDigest } = await readPackage(freehold.store.blobs, item.manifestDigest);
  const { variant, manifestDigest } = item;
  return { variant, contentDigest, manifestDigest, sizeBytes: await packageBytes(freehold.store, item) };
}

/** Withdraws a version from every channel, or takes that back. @throws USAGE, NOT_FOUND */
export async function yankVersion(
  freehold: Freehold,
  text: string,
  change:
    | { readonly kind: 'yank'; readonly reason: string; readonly isUnseen?: boolean }
    | { readonly kind: 'undo' },
  options: ChannelOptions,
): Promise<PublishedChannels> {
  const { name, version } = wholeVersion(text);
  return editChannels(freehold, name, options, async (contents, place) => {
    if (change.kind === 'undo') return undoYank(contents, version);
    if (change.isUnseen !== true) await requireSeen(freehold, { name, version }, contents, place, options);
    return yank(contents, version, change.reason);
  });
}

/** A slip of the pen withdraws nothing. What channels offered once may be gone from them, but not from everywhere. */
async function requireSeen(
  freehold: Freehold,
  { name, version }: { readonly name: string; readonly version: string },
  contents: ChannelContents,
  place: ArtifactPlace,
  { signal }: ChannelOptions,
): Promise<void> {
  const offered = [...contents.channels.values()].flatMap(({ releases }) => releases);
  if (offered.some((release) => release.version === version)) return;
  const stored = installedPackages(await freehold.store.entries());
  if (stored.some((item) => item.name === name && item.version === version)) return;
  if ((await place.manifest({ tag: version }, signal)) !== undefined) return;
  const versions = [...new Set(offered.map((release) => release.version))].join(', ') || 'nothing';
  throw new FreeholdError(
    'NOT_FOUND',
    `no channel offers ${name}@${version}, and ${place.label} has it not`,
    {
      hint: `offered: ${versions}; for a version that is gone from everywhere but from customers: --unseen`,
    },
  );
}

/** A notice as a publisher writes it. */
export type Notice = Omit<Advisory, 'schemaVersion' | 'kind' | 'name' | 'published'>;

/** Publishes a notice, or takes one back. */
export async function adviseVersions(
  freehold: Freehold,
  name: string,
  change:
    | {
        readonly kind: 'advise';
        readonly advisory: Notice;
      }
    | { readonly kind: 'withdraw'; readonly id: string },
  options: ChannelOptions,
): Promise<PublishedChannels> {
  return editChannels(freehold, name, options, async (contents) => {
    if (change.kind === 'withdraw') return withdrawAdvisory(contents, change.id);
    const published = secondsText(nowMsOf(options));
    return advise(contents, { schemaVersion: 1, kind: 'advisory', name, published, ...change.advisory });
  });
}

/**
 * Signs snapshot and timestamp anew, so that they last longer. Where the registry's channels are lost, damaged or older than
 * what this home knows, that is published again.
 * @throws NOT_FOUND for a key
 */
export async function renewPackageChannels(
  freehold: Freehold,
  name: string,
  options: ChannelOptions & { readonly isEverything?: boolean },
): Promise<PublishedChannels> {
  const { isEverything = false } = options;
  const change: ChangeOptions = { ...options, from: 'repaired', isRenewal: !isEverything };
  return changeChannels(freehold, name, change, async ({ files, contents }, signing) =>
    isEverything
      ? publishDocuments(files, documentsOf(name, contents), { ...signing, name })
      : renewChannels(files, { ...signing, name }),
  );
}

export interface RotationChoice extends KeyChoice {
  /**
   * After a key was stolen: from what this home published last, whatever the registry has now, and with numbers that begin
   * anew. Customers forget the higher ones together with the old keys.
   */
  readonly isRecovery?: boolean;
}

/**
 * Publishes the next root, with other keys or the same ones.
 * @throws NOT_FOUND for a key, those of the root before it included; USAGE for a recovery that keeps the keys
 */
export async function rotateKeys(
  freehold: Freehold,
  name: string,
  choice: RotationChoice,
  options: ChannelOptions,
): Promise<PublishedChannels> {
  const { isRecovery = false } = choice;
  if (isRecovery && (choice.online === undefined || choice.targets === undefined)) {
    throw new FreeholdError('USAGE', 'a recovery needs new keys for targets and for snapshot and timestamp', {
      hint: '--recover --targets-key NEW --online-key NEW',
    });
  }
  const change: ChangeOptions = isRecovery ? { ...options, from: 'published' } : options;
  return changeChannels(freehold, name, change, async ({ files, contents }, signing) =>
    rotateRoot(files, documentsOf(name, contents), {
      ...signing,
      name,
      roles: await chosenRoles(freehold, choice),
      restartVersions: isRecovery,
    }),
  );
}

/** What this home has published of a package, as the registry has it now. @throws NOT_FOUND */
export async function publishedChannels(
  freehold: Freehold,
  name: string,
  options: ChannelOptions,
): Promise<PublishedChannels> {
  return withPublished(freehold, name, options, async (place) => {
    const { files } = await registryState(freehold, name, place, options);
    return describeChannels(name, files);
  });
}
