import path from 'node:path';
import type { Clock } from '../../core/base/clock.ts';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import type { RepositoryName } from '../../core/base/registry-reference.ts';
import type { ArtifactPlace, ArtifactSource } from '../../core/format/artifact-place.ts';
import { type ChannelContents, NO_CONTENTS } from '../../core/format/channel-documents.ts';
import { findAnchor } from '../../features/updates/channel-anchor.ts';
import { CHANNELS_TAG, openChannelArtifact } from '../../features/updates/channel-artifact.ts';
import { contentsOf, isAtLeastAsNew } from '../../features/updates/channel-contents.ts';
import type { ChannelFiles } from '../../features/updates/channel-files.ts';
import { ChannelSession } from '../../features/updates/channel-session.ts';
import { earliestExpiry } from '../../features/updates/channel-signing.ts';
import { ChannelStore } from '../../io/home/channel-store.ts';
import { ChannelsFile } from '../../io/home/channels-file.ts';
import { DeclinedVersions } from '../../io/home/declined-versions.ts';
import { homeLock } from '../../io/home/home-lock.ts';
import type { Freehold } from './freehold.ts';
import { type PlaceOptions, withRepository, withSources } from './registry-places.ts';
import { backgroundClock } from './system-clock.ts';

/** How channels are reached; tests put repositories in memory in the place of registries. */
export interface ChannelAccess {
  /** The mirrors of a repository and itself. */
  withSources<T>(
    freehold: Freehold,
    name: RepositoryName,
    work: (sources: readonly ArtifactSource[]) => Promise<T>,
  ): Promise<T>;
  withRepository<T>(
    freehold: Freehold,
    name: RepositoryName,
    work: (place: ArtifactPlace) => Promise<T>,
  ): Promise<T>;
}

export interface ChannelOptions {
  readonly signal: AbortSignal;
  readonly access?: ChannelAccess;
  /** Against which expiry is judged. */
  readonly clock?: Pick<Clock, 'nowMs'>;
  /** Signs what would be published, and publishes nothing. */
  readonly isDryRun?: boolean;
}

/** Registries, with the mirrors and credentials of the home. */
export const REGISTRY_ACCESS: ChannelAccess = registryAccess();

/** The same, and without TLS where that is asked for. */
export function registryAccess(options: PlaceOptions = {}): ChannelAccess {
  return {
    withSources: (freehold, name, work) => withSources(freehold, name, work, options),
    withRepository: (freehold, name, work) => withRepository(freehold, name, work, options),
  };
}

export const nowMsOf = ({ clock = backgroundClock }: Pick<ChannelOptions, 'clock'>) => clock.nowMs();

const lockOf = ({ home }: Freehold) => homeLock(path.join(home.path, 'home.lock'));
export const channelStore = (freehold: Freehold) => new ChannelStore(freehold.home.path, lockOf(freehold));
/** What this home published last, apart from what it verified. */
export const publishedStore = (freehold: Freehold) =>
  new ChannelStore(freehold.home.path, lockOf(freehold), 'published');
export const declinedVersions = (freehold: Freehold) =>
  new DeclinedVersions(freehold.home.path, lockOf(freehold));
export const channelsFile = (freehold: Freehold) => new ChannelsFile(freehold.home.path, lockOf(freehold));

/** The channels of a package as they are now, verified. */
export interface RefreshedChannels {
  readonly contents: ChannelContents;
  /** When all of this ends unless it is renewed. */
  readonly expires: string;
  readonly files: ChannelFiles;
}

/**
 * Brings what is known of a package's channels up to date, from the first mirror that has sound ones, else from the
 * registry. What was verified is kept, also where the rest is refused.
 * @throws CHANNEL_INVALID, CHANNEL_EXPIRED, CHANNEL_ROLLBACK, SIGNER_UNTRUSTED, NOT_FOUND, OFFLINE, NETWORK
 */
export async function refreshChannels(
  freehold: Freehold,
  name: string,
  from: RepositoryName,
  options: ChannelOptions,
): Promise<RefreshedChannels> {
  const { signal, access = REGISTRY_ACCESS } = options;
  return access.withSources(freehold, from, async (sources) => {
    const failures: FreeholdError[] = [];
    for (const source of sources) {
      try {
        return await refreshFrom(freehold, name, source, options);
      } catch (error) {
        signal.throwIfAborted();
        failures.push(toFreeholdError(error));
      }
    }
    throw worstOf(failures, name);
  });
}

/** The registry's own answer counts; where mirrors were asked before it, they are named. */
function worstOf(failures: readonly FreeholdError[], name: string): FreeholdError {
  const last = failures.at(-1);
  if (last === undefined) return new FreeholdError('NOT_FOUND', `there is nowhere to look for ${name}`);
  if (failures.length === 1) return last;
  const { code, message, hint, detail, cause } = last;
  const others = failures.slice(0, -1).map((failure) => `${failure.message} [${failure.code}]`);
  return new FreeholdError(code, `${message}; before that: ${others.join('; ')}`, { hint, detail, cause });
}

async function refreshFrom(
  freehold: Freehold,
  name: string,
  source: ArtifactSource,
  options: ChannelOptions,
): Promise<RefreshedChannels> {
  const artifact = await openChannelArtifact(source, options.signal);
  if (artifact === undefined) {
    throw new FreeholdError('NOT_FOUND', `${source.label} has no tag ${CHANNELS_TAG}`, {
      hint: 'the publisher makes it with freehold channel create; a copy has it only if this tag was copied as well',
    });
  }
  const store = channelStore(freehold);
  const trusted = (await store.load(name)) ?? (await firstRoot(freehold, name, artifact));
  const session = new ChannelSession({ name, trusted, nowMs: nowMsOf(options) });
  try {
    await session.refresh(artifact);
  } finally {
    const files = session.trusted;
    await store.save(name, files, (stored) => isAtLeastAsNew(files, stored));
  }
  return { contents: session.contents, expires: earliestExpiry(session.trusted), files: session.trusted };
}

async function firstRoot(
  freehold: Freehold,
  name: string,
  artifact: Parameters<typeof findAnchor>[0],
): Promise<ChannelFiles> {
  return findAnchor(artifact, name, { kind: 'policy', policy: await freehold.home.trust.load() });
}

/** What was verified last of a package's channels; nothing where none were ever seen. Reads no network, looks at no date. */
export async function storedContents(freehold: Freehold, name: string): Promise<ChannelContents> {
  const files = await channelStore(freehold).load(name);
  return files === undefined ? NO_CONTENTS : contentsOf(files, name);
}
