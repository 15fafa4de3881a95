import { FreeholdError } from '../../core/base/errors.ts';
import type { PrivateKey } from '../../core/crypto/keys.ts';
import type { ArtifactPlace } from '../../core/format/artifact-place.ts';
import type { ChannelContents } from '../../core/format/channel-documents.ts';
import { type RootFacts, rootFacts } from '../../features/updates/channel-anchor.ts';
import {
  type ChannelArtifact,
  openChannelArtifact,
  pushChannels,
} from '../../features/updates/channel-artifact.ts';
import { contentsOf, isAtLeastAsNew, rootsOf } from '../../features/updates/channel-contents.ts';
import { documentsOf } from '../../features/updates/channel-editing.ts';
import { type ChannelFiles, filesSource } from '../../features/updates/channel-files.ts';
import { publishDocuments } from '../../features/updates/channel-publishing.ts';
import { ChannelSession } from '../../features/updates/channel-session.ts';
import { type ChannelKeys, earliestExpiry } from '../../features/updates/channel-signing.ts';
import {
  type ChannelOptions,
  channelStore,
  channelsFile,
  nowMsOf,
  REGISTRY_ACCESS,
} from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';

/** Names of keys of the home for each role; a role without any keeps those it has. */
export interface KeyChoice {
  readonly root?: readonly string[] | undefined;
  readonly rootThreshold?: number | undefined;
  readonly targets?: readonly string[] | undefined;
  readonly targetsThreshold?: number | undefined;
  /** For snapshot and timestamp, which are renewed often. */
  readonly online?: readonly string[] | undefined;
}

/** The channels of a package as this home has published them. */
export interface PublishedChannels {
  readonly name: string;
  readonly contents: ChannelContents;
  readonly roots: readonly RootFacts[];
  /** When the first of the roles ends. */
  readonly expires: string;
  /** The bytes of the last of the roots. */
  readonly newestRoot: Buffer;
}

/** What is at hand to sign with. */
export interface Signing {
  readonly keys: readonly PrivateKey[];
  readonly nowMs: number;
}

/** Changes what the channels say. */
export function editChannels(
  freehold: Freehold,
  name: string,
  options: ChannelOptions,
  work: (contents: ChannelContents, place: ArtifactPlace) => Promise<ChannelContents>,
): Promise<PublishedChannels> {
  return changeChannels(freehold, name, options, async ({ files, contents }, signing, place) =>
    publishDocuments(files, documentsOf(name, await work(contents, place)), { ...signing, name }),
  );
}

/** Reads the channels from the registry, verifies them as a customer would, and puts their successors in their place. */
export async function changeChannels(
  freehold: Freehold,
  name: string,
  options: ChannelOptions & { readonly isHomeState?: boolean },
  work: (
    now: { readonly files: ChannelFiles; readonly contents: ChannelContents },
    signing: Signing,
    place: ArtifactPlace,
  ) => Promise<ChannelFiles>,
): Promise<PublishedChannels> {
  return withPublished(freehold, name, options, async (place) => {
    const { session, artifact } = await openSession(freehold, name, place, options);
    const signing = { keys: await privateKeys(freehold), nowMs: nowMsOf(options) };
    const files = await work({ files: session.trusted, contents: session.contents }, signing, place);
    await publishFiles(freehold, name, place, files, artifact, options);
    return describeChannels(name, files);
  });
}

/**
 * Whoever can write to the registry must not get a document signed by changing it there. Only dates are not looked at,
 * since a publisher must be able to renew what has ended.
 */
export async function openSession(
  freehold: Freehold,
  name: string,
  place: ArtifactPlace,
  { signal, isHomeState = false }: ChannelOptions & { readonly isHomeState?: boolean },
): Promise<{ session: ChannelSession; artifact: ChannelArtifact }> {
  const trusted = await channelStore(freehold).load(name);
  const artifact = await openChannelArtifact(place, signal);
  if (trusted === undefined || artifact === undefined) {
    throw new FreeholdError('NOT_FOUND', `there are no channels of ${name} that this home publishes`, {
      hint: `freehold channel create ${name} oci://HOST/NAME --key KEY`,
    });
  }
  const session = new ChannelSession({ name, trusted, nowMs: 0 });
  await session.refresh(isHomeState ? filesSource(trusted, 'this home') : artifact);
  return { session, artifact };
}

export async function publishFiles(
  freehold: Freehold,
  name: string,
  place: ArtifactPlace,
  files: ChannelFiles,
  before: ChannelArtifact | undefined,
  { signal }: ChannelOptions,
): Promise<void> {
  await pushChannels(place, files, name, before?.digest, signal);
  await channelStore(freehold).save(name, files, (stored) => isAtLeastAsNew(files, stored));
}

/** Runs work with the repository in which this home publishes a package's channels. @throws NOT_FOUND */
export async function withPublished<T>(
  freehold: Freehold,
  name: string,
  { access = REGISTRY_ACCESS }: ChannelOptions,
  work: (place: ArtifactPlace) => Promise<T>,
): Promise<T> {
  const to = (await channelsFile(freehold).published()).get(name);
  if (to !== undefined) return access.withRepository(freehold, to, work);
  throw new FreeholdError('NOT_FOUND', `this home publishes no channels of ${name}`, {
    hint: `freehold channel create ${name} oci://HOST/NAME --key KEY`,
  });
}

export function describeChannels(name: string, files: ChannelFiles): PublishedChannels {
  const roots = rootsOf(files);
  return {
    name,
    contents: contentsOf(files, name),
    roots: roots.map(({ bytes }) => rootFacts(bytes, name)),
    newestRoot: roots.at(-1)?.bytes ?? Buffer.alloc(0),
    expires: earliestExpiry(files),
  };
}

/** Every key of the home: each role takes those that it knows. */
export const privateKeys = async ({ home }: Freehold) =>
  (await home.keys.list()).map(({ privateKey }) => privateKey);

/** The roles for which keys are chosen. @throws NOT_FOUND */
export async function chosenRoles(freehold: Freehold, choice: KeyChoice): Promise<Partial<ChannelKeys>> {
  const role = async (names: readonly string[], threshold = 1) => ({
    keys: await Promise.all(
      names.map(async (name) => (await freehold.home.keys.load(name)).privateKey.publicKey),
    ),
    threshold,
  });
  const { root, targets, online, rootThreshold, targetsThreshold } = choice;
  return {
    ...(root === undefined ? {} : { root: await role(root, rootThreshold) }),
    ...(targets === undefined ? {} : { targets: await role(targets, targetsThreshold) }),
    ...(online === undefined ? {} : { snapshot: await role(online), timestamp: await role(online) }),
  };
}

/** The notation of TUF. */
export const secondsText = (timeMs: number) => `${new Date(timeMs).toISOString().slice(0, 19)}Z`;
