import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { compareVersions } from '../../core/base/ids.ts';
import { parseReference } from '../../core/base/reference.ts';
import type { Release, ReleaseVariant } from '../../core/format/channel-documents.ts';
import type { Acceptance } from '../../features/updates/exact-match.ts';
import type { Offer } from '../../features/updates/update-offer.ts';
import type { FollowedChannel } from '../../io/home/channels-file.ts';
import {
  type ChannelOptions,
  channelsFile,
  declinedVersions,
  REGISTRY_ACCESS,
  refreshChannels,
} from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';
import { installFromSources } from './install-registry.ts';
import {
  fullReference,
  HELD_ANNOTATION,
  type InstalledPackage,
  installedPackages,
} from './installed-packages.ts';
import { checkUpdates, followedName, requireChannel } from './update-check.ts';
import { type Activation, activateVersion, activeVersion, refuseVersion } from './version-activation.ts';

/** Brings one variant of a release into the store, held back. */
export type InstallRelease = (
  freehold: Freehold,
  target: {
    readonly name: string;
    readonly version: string;
    readonly from: FollowedChannel['from'];
    /** Absent: the one that fits this machine. */
    readonly variant: ReleaseVariant | undefined;
    /** Another version is in use. */
    readonly isUpdate: boolean;
  },
  options: ChannelOptions,
) => Promise<InstalledPackage>;

/** Decides about a candidate: the runner hook. Both are installed; `current` is absent at a first install. */
export type AcceptanceCheck = (
  candidate: InstalledPackage,
  current: InstalledPackage | undefined,
) => Promise<Acceptance>;

export interface ApplyOptions extends ChannelOptions {
  /** Does not wait for the rollout. */
  readonly now?: boolean;
  /** Takes an older version than the one in use. */
  readonly mayDowngrade?: boolean;
  /** The check for a package, where there is one. */
  readonly acceptance?: (name: string) => Promise<AcceptanceCheck | undefined>;
  readonly install?: InstallRelease;
}

export type ApplyOutcome =
  | {
      readonly kind: 'updated';
      readonly name: string;
      readonly activation: Activation;
      readonly acceptance?: Acceptance;
    }
  | {
      readonly kind: 'refused';
      readonly name: string;
      readonly version: string;
      readonly acceptance: Acceptance;
      /** Goes on; absent: none is in use. */
      readonly current?: string;
    }
  | { readonly kind: 'unchanged'; readonly name: string; readonly offer: Offer }
  | { readonly kind: 'failed'; readonly name: string; readonly failure: FreeholdError };

/**
 * Takes what the channels offer: downloads and verifies it beside the version in use, has it tried by the suite, and puts
 * it into use in one step. Whatever goes wrong before that step leaves the version in use as it is.
 * @param texts NAME or NAME@VERSION; none: every package that follows a channel
 */
export async function applyUpdates(
  freehold: Freehold,
  texts: readonly string[],
  options: ApplyOptions,
): Promise<ApplyOutcome[]> {
  const followed = await channelsFile(freehold).load();
  const wanted =
    texts.length === 0
      ? [...followed.keys()].map((name) => ({ name, version: undefined }))
      : texts.map((text) => named(followed, text));
  const outcomes: ApplyOutcome[] = [];
  for (const { name, version } of wanted) {
    try {
      outcomes.push(
        version === undefined
          ? await applyOffer(freehold, name, options)
          : await applyVersion(freehold, name, version, options),
      );
    } catch (error) {
      options.signal.throwIfAborted();
      outcomes.push({ kind: 'failed', name, failure: toFreeholdError(error) });
    }
  }
  return outcomes;
}

function named(followed: ReadonlyMap<string, FollowedChannel>, text: string) {
  const reference = parseReference(text);
  if (reference.kind !== 'installed' || reference.variant !== undefined) {
    throw new FreeholdError('REFERENCE_INVALID', `not a package that follows a channel: ${text}`, {
      hint: 'NAME or NAME@VERSION',
    });
  }
  return { name: followedName(followed, reference.name), version: reference.version };
}

async function applyOffer(freehold: Freehold, name: string, options: ApplyOptions): Promise<ApplyOutcome> {
  requireOnline(freehold);
  const [status] = await checkUpdates(freehold, [name], options);
  if (status?.failure !== undefined) throw status.failure;
  const { offer, installed, followed } = status ?? {};
  if (offer === undefined || followed === undefined)
    throw new FreeholdError('INTERNAL', `no answer for ${name}`);
  if (offer.kind === 'update' || offer.kind === 'retreat') {
    return take(freehold, { name, followed, release: offer.release, current: installed }, options);
  }
  if (offer.kind !== 'ahead') return { kind: 'unchanged', name, offer };
  if (options.mayDowngrade !== true) throw downgrade(name, offer.release.version, installed ?? '');
  return take(freehold, { name, followed, release: offer.release, current: installed }, options);
}

/** A version by name: whatever the rollout, and although it was declined before. */
async function applyVersion(
  freehold: Freehold,
  name: string,
  version: string,
  options: ApplyOptions,
): Promise<ApplyOutcome> {
  const packages = installedPackages(await freehold.store.entries());
  const current = activeVersion(packages, name);
  if (current === version) return { kind: 'unchanged', name, offer: { kind: 'current' } };
  if (current !== undefined && compareVersions(version, current) < 0 && options.mayDowngrade !== true) {
    throw downgrade(name, version, current);
  }
  const followed = (await channelsFile(freehold).load()).get(name);
  if (followed === undefined) throw new FreeholdError('NOT_FOUND', `${name} follows no channel`);
  requireOnline(freehold);
  const { contents } = await refreshChannels(freehold, name, followed.from, options);
  requireChannel(contents, followed.channel, name);
  const yanked = contents.yanked.find((item) => item.version === version);
  if (yanked !== undefined) {
    throw new FreeholdError('CHANNEL_INVALID', `${name}@${version} was withdrawn: ${yanked.reason}`, {
      hint: 'take another version',
    });
  }
  const releases = contents.channels.get(followed.channel)?.releases ?? [];
  const release = releases.find((item) => item.version === version);
  if (release === undefined) {
    throw new FreeholdError('NOT_FOUND', `the channel ${followed.channel} of ${name} has no ${version}`, {
      hint: `it has ${releases.map((item) => item.version).join(', ') || 'nothing'}`,
    });
  }
  return take(freehold, { name, followed, release, current }, options);
}

function requireOnline({ isOffline }: Freehold): void {
  if (isOffline) throw new FreeholdError('OFFLINE', 'an update needs what its channel says now');
}

function downgrade(name: string, offered: string, current: string): FreeholdError {
  return new FreeholdError(
    'CHANNEL_ROLLBACK',
    `the channel of ${name} offers ${offered}, which is older than ${current}, in use now`,
    {
      hint: 'if that is what you want: --allow-downgrade; to go back to what was in use before: freehold update rollback',
      detail: { name, offered, current },
    },
  );
}

interface Taking {
  readonly name: string;
  readonly followed: FollowedChannel;
  readonly release: Release;
  /** Version in use. */
  readonly current: string | undefined;
}

async function take(freehold: Freehold, taking: Taking, options: ApplyOptions): Promise<ApplyOutcome> {
  const { name, release } = taking;
  const candidates = await bring(freehold, taking, options);
  const check = await options.acceptance?.(name);
  const acceptance = check === undefined ? undefined : await tryOut(freehold, taking, candidates, check);
  if (acceptance?.accepted === false) {
    await refuseVersion(freehold, name, release.version);
    const { current } = taking;
    return {
      ...{ kind: 'refused', name, version: release.version, acceptance },
      ...(current === undefined ? {} : { current }),
    };
  }
  const activation = await activateVersion(freehold, name, release.version);
  await declinedVersions(freehold).forgetUpTo(name, release.version);
  // Another process was faster.
  if (activation.from === activation.to) return { kind: 'unchanged', name, offer: { kind: 'current' } };
  return { kind: 'updated', name, activation, ...(acceptance === undefined ? {} : { acceptance }) };
}

/** The variants that are in use, of the new version; where it has none of them, the one that fits this machine. */
async function bring(
  freehold: Freehold,
  { name, followed, release, current }: Taking,
  options: ApplyOptions,
): Promise<InstalledPackage[]> {
  const { install = installFromChannel } = options;
  const packages = installedPackages(await freehold.store.entries());
  const inUse = packages
    .filter((item) => item.name === name && item.version === current)
    .map(({ variant }) => variant);
  const chosen = release.variants.filter(({ variant }) => inUse.includes(variant));
  const candidates: InstalledPackage[] = [];
  for (const variant of chosen.length === 0 ? [undefined] : chosen) {
    const target = {
      name,
      version: release.version,
      from: followed.from,
      variant,
      isUpdate: current !== undefined,
    };
    const item = await install(freehold, target, options);
    requirePromised(item, release, current);
    candidates.push(item);
  }
  return candidates;
}

/** The publisher's signature covers any version of the package; the channel says which bytes were promoted. */
function requirePromised(item: InstalledPackage, release: Release, current: string | undefined): void {
  const promised = release.variants.find(({ variant }) => variant === item.variant);
  if (promised?.contentDigest === item.contentDigest && item.version === release.version) return;
  const detail = { expected: promised?.contentDigest ?? null, actual: item.contentDigest };
  throw notPromised(fullReference(item), current !== undefined, detail);
}

function notPromised(
  what: string,
  isInUse: boolean,
  detail: FreeholdError['detail'],
  cause?: unknown,
): FreeholdError {
  return new FreeholdError('CHANNEL_INVALID', `${what} is not what the channel promised`, {
    hint: `${isInUse ? 'the version in use goes on' : 'nothing was put into use'}; ask the publisher whether this one was pushed again after it was promoted`,
    detail,
    cause,
  });
}

async function tryOut(
  freehold: Freehold,
  { name, current }: Taking,
  candidates: readonly InstalledPackage[],
  check: AcceptanceCheck,
): Promise<Acceptance> {
  const packages = installedPackages(await freehold.store.entries());
  let last: Acceptance | undefined;
  for (const candidate of candidates) {
    const before = packages.filter((item) => item.name === name && item.version === current);
    last = await check(candidate, before.find(({ variant }) => variant === candidate.variant) ?? before[0]);
    if (!last.accepted) return last;
  }
  if (last === undefined) throw new FreeholdError('INTERNAL', 'an update without variants');
  return last;
}

/** From the registry or its mirrors, by the version's tag: what it must be, the channel has said. */
const installFromChannel: InstallRelease = async (freehold, target, options) => {
  const { name, version, from, variant } = target;
  const { signal, access = REGISTRY_ACCESS } = options;
  return access.withSources(freehold, from, (sources) => {
    const selector = { kind: 'tag', tag: version } as const;
    const reference = { ...from, selector, ...(variant === undefined ? {} : { variant: variant.variant }) };
    return installFromSources(freehold, sources, reference, {
      signal,
      entryAnnotations: { [HELD_ANNOTATION]: 'candidate' },
      expect: { name, version, ...(variant === undefined ? {} : { contentDigest: variant.contentDigest }) },
    }).catch((error: unknown) => {
      // Before a byte of the weights was read.
      if (!(error instanceof FreeholdError) || error.code !== 'LOCK_MISMATCH') throw error;
      throw notPromised(`${name}@${version}#${variant?.variant}`, target.isUpdate, error.detail, error);
    });
  });
};
