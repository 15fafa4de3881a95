import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import {
  type ChannelContents,
  noticesFor,
  type VersionNotices,
} from '../../core/format/channel-documents.ts';
import { earliestExpiry } from '../../features/updates/channel-signing.ts';
import { rolloutBucket } from '../../features/updates/rollout.ts';
import { decideOffer, type Offer } from '../../features/updates/update-offer.ts';
import type { FollowedChannel } from '../../io/home/channels-file.ts';
import { deviceId } from '../../io/home/device-id.ts';
import {
  type ChannelOptions,
  channelStore,
  channelsFile,
  refreshChannels,
  storedContents,
} from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';
import { type InstalledPackage, installedPackages } from './installed-packages.ts';
import { activeVersion, knownVersions } from './version-activation.ts';

/** What there is to know about one package that follows a channel; the notices are about the version in use. */
export interface UpdateStatus extends VersionNotices {
  readonly name: string;
  readonly followed: FollowedChannel;
  /** In use. */
  readonly installed: string | undefined;
  /** Absent where the channels could not be had. */
  readonly offer?: Offer;
  readonly failure?: FreeholdError;
  /** Until when what is known counts. */
  readonly expires?: string;
  /** What was known before; the channels were not asked. */
  readonly isStored: boolean;
}

export interface CheckOptions extends ChannelOptions {
  /** Does not wait for the rollout. */
  readonly now?: boolean;
}

/**
 * What the channels have for the packages that follow one. A package whose channels are refused has a failure in its row;
 * the others are looked at all the same. With `--offline` what was verified last is shown.
 * @param names none: all that follow a channel
 * @throws NOT_FOUND for a name that follows none, CONFIG_INVALID
 */
export async function checkUpdates(
  freehold: Freehold,
  names: readonly string[],
  options: CheckOptions,
): Promise<UpdateStatus[]> {
  const followed = await channelsFile(freehold).load();
  const chosen =
    names.length === 0 ? [...followed.keys()] : names.map((name) => followedName(followed, name));
  const packages = installedPackages(await freehold.store.entries());
  const rows: UpdateStatus[] = [];
  for (const name of chosen) {
    const channel = followed.get(name);
    if (channel === undefined) continue;
    rows.push(await checkOne(freehold, { name, followed: channel, packages }, options));
  }
  return rows;
}

/** The whole name for what a user typed. @throws NOT_FOUND */
export function followedName(followed: ReadonlyMap<string, FollowedChannel>, text: string): string {
  if (followed.has(text)) return text;
  const [name, ...more] = [...followed.keys()].filter((candidate) => shortName(candidate) === text);
  if (name !== undefined && more.length === 0) return name;
  throw new FreeholdError('NOT_FOUND', `${text} follows no channel`, {
    hint: `freehold update follow ${text} oci://HOST/NAME CHANNEL`,
  });
}

interface Question {
  readonly name: string;
  readonly followed: FollowedChannel;
  readonly packages: readonly InstalledPackage[];
}

async function checkOne(
  freehold: Freehold,
  question: Question,
  options: CheckOptions,
): Promise<UpdateStatus> {
  const { name, followed, packages } = question;
  const installed = activeVersion(packages, name);
  const isStored = freehold.isOffline;
  const base = { name, followed, installed, isStored };
  try {
    const known = isStored
      ? await fromStore(freehold, name)
      : await refreshChannels(freehold, name, followed.from, options);
    const { contents, expires } = known;
    requireChannel(contents, followed.channel, name);
    const offer = await offerFor(freehold, question, contents, options.now === true);
    return { ...base, offer, expires, ...noticesFor(contents, installed) };
  } catch (error) {
    options.signal.throwIfAborted();
    // What was known before is still worth saying.
    const contents = await storedContents(freehold, name).catch(() => undefined);
    return { ...base, failure: toFreeholdError(error), ...noticesFor(contents, installed) };
  }
}

async function fromStore(freehold: Freehold, name: string) {
  const files = await channelStore(freehold).load(name);
  if (files === undefined || !files.has('timestamp.json')) {
    throw new FreeholdError('OFFLINE', `nothing is known yet of the channels of ${name}`);
  }
  return { contents: await storedContents(freehold, name), expires: earliestExpiry(files) };
}

async function offerFor(
  freehold: Freehold,
  { name, followed, packages }: Question,
  contents: ChannelContents,
  now: boolean,
): Promise<Offer> {
  const id = await deviceId(freehold.home.path);
  return decideOffer({
    contents,
    channel: followed.channel,
    active: activeVersion(packages, name),
    known: await knownVersions(freehold, packages, name),
    bucket: (version) => rolloutBucket(id, name, version),
    now,
  });
}

/** @throws NOT_FOUND */
export function requireChannel(contents: ChannelContents, channel: string, name: string): void {
  if (contents.channels.has(channel)) return;
  const known = [...contents.channels.keys()];
  throw new FreeholdError('NOT_FOUND', `${name} has no channel ${channel}`, {
    hint: known.length === 0 ? 'its publisher has promoted nothing yet' : `it has ${known.join(', ')}`,
  });
}
