import type { Digest } from '../../core/base/digest.ts';
import type { ErrorCode } from '../../core/base/error-table.ts';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { repositoryText } from '../../core/base/registry-reference.ts';
import type { PrivateKey } from '../../core/crypto/keys.ts';
import type { ArtifactPlace } from '../../core/format/artifact-place.ts';
import type { ChannelContents } from '../../core/format/channel-documents.ts';
import { type RootFacts, rootFacts } from '../../features/updates/channel-anchor.ts';
import { CHANNELS_TAG, openChannelArtifact, pushChannels } from '../../features/updates/channel-artifact.ts';
import {
  contentsOf,
  hasSameTargets,
  isAtLeastAsNew,
  rootsOf,
  withRootsOf,
} from '../../features/updates/channel-contents.ts';
import { documentsOf } from '../../features/updates/channel-editing.ts';
import { type ChannelFiles, TIMESTAMP_TITLE } from '../../features/updates/channel-files.ts';
import { publishDocuments } from '../../features/updates/channel-publishing.ts';
import { ChannelSession } from '../../features/updates/channel-session.ts';
import { type ChannelKeys, earliestExpiry } from '../../features/updates/channel-signing.ts';
import {
  type ChannelOptions,
  channelStore,
  channelsFile,
  nowMsOf,
  publishedStore,
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
  /** What was wrong with the registry's state, where this home's own was taken instead. */
  readonly repaired?: string;
}

/** What is at hand to sign with. */
export interface Signing {
  readonly keys: readonly PrivateKey[];
  readonly nowMs: number;
}

/** Which state a change begins from. */
export interface ChangeOptions extends ChannelOptions {
  /**
   * `verified` (the default): the registry's, verified as a customer would. `repaired`: the same, and where the registry has
   * none, a damaged or an older one, what this home knows. `published`: what this home published last, whatever anybody has
   * published since.
   */
  readonly from?: 'verified' | 'repaired' | 'published';
  /** What is offered stays as it was found, so it is not yet what this home itself says. */
  readonly isRenewal?: boolean;
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

/** A state to go on from. */
interface ChannelState {
  readonly files: ChannelFiles;
  readonly contents: ChannelContents;
  /** What is in the registry now, and will be replaced. */
  readonly before: Digest | undefined;
  /** Why the registry's state was not taken. */
  readonly repaired?: string;
}

/** Takes a state and puts its successor in the place of what the registry has. */
export async function changeChannels(
  freehold: Freehold,
  name: string,
  options: ChangeOptions,
  work: (now: ChannelState, signing: Signing, place: ArtifactPlace) => Promise<ChannelFiles>,
): Promise<PublishedChannels> {
  return withPublished(freehold, name, options, async (place) => {
    const state =
      options.from === 'published'
        ? await ownState(freehold, name, place, options)
        : await registryState(freehold, name, place, options);
    const signing = { keys: await privateKeys(freehold), nowMs: nowMsOf(options) };
    const files = await work(state, signing, place);
    await publishFiles(freehold, name, place, files, state.before, options);
    const { repaired } = state;
    return { ...describeChannels(name, files), ...(repaired === undefined ? {} : { repaired }) };
  });
}

/**
 * The newest that this home knows of a package's channels, its own or verified; undefined where it knows none.
 * @throws CONFIG_INVALID when a file is damaged
 */
export async function knownChannels(freehold: Freehold, name: string): Promise<ChannelFiles | undefined> {
  const [verified, own] = [
    await channelStore(freehold).load(name),
    await publishedStore(freehold).load(name),
  ];
  if (verified === undefined || own === undefined) return verified ?? own;
  return isAtLeastAsNew(verified, own) ? verified : own;
}

/**
 * Whoever can write to the registry must not get a document signed by changing it there. Only dates are not looked at,
 * since a publisher must be able to renew what has ended.
 */
export async function registryState(
  freehold: Freehold,
  name: string,
  place: ArtifactPlace,
  { signal, from = 'verified' }: ChangeOptions,
): Promise<ChannelState> {
  const trusted = await requireKnown(freehold, name, place);
  const session = new ChannelSession({ name, trusted, nowMs: 0 });
  try {
    const artifact = await openChannelArtifact(place, signal);
    if (artifact === undefined) {
      throw new FreeholdError('NOT_FOUND', `${place.label} has no channels of ${name} any more`);
    }
    await session.refresh(artifact);
    return { files: session.trusted, contents: session.contents, before: artifact.digest };
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toFreeholdError(thrown);
    // A later root that verifies is a publisher's: what came under it is not replaced by what was before it.
    const isOurs = rootsOf(session.trusted).length === rootsOf(trusted).length;
    // Of a root alone nothing can be published again: it would take away all that is offered.
    if (!REPAIRABLE.includes(error.code) || !isOurs || !trusted.has(TIMESTAMP_TITLE)) throw error;
    if (from === 'verified') {
      throw new FreeholdError(error.code, error.message, {
        hint: `freehold channel renew ${name} publishes again what this home knows`,
        detail: error.detail,
        cause: error,
      });
    }
    const before = await tagged(place, signal);
    return { files: trusted, contents: contentsOf(trusted, name), before, repaired: error.message };
  }
}

/** Lost, overwritten, or put back to an earlier state. */
const REPAIRABLE: readonly ErrorCode[] = ['NOT_FOUND', 'CHANNEL_INVALID', 'CHANNEL_ROLLBACK'];

/** What this home published last, under the newest roots that are known: of the registry nothing is read. */
async function ownState(
  freehold: Freehold,
  name: string,
  place: ArtifactPlace,
  { signal }: ChannelOptions,
): Promise<ChannelState> {
  const known = await requireKnown(freehold, name, place);
  const own = (await publishedStore(freehold).load(name)) ?? known;
  if (!own.has(TIMESTAMP_TITLE)) {
    throw new FreeholdError('NOT_FOUND', `this home has published nothing of ${name} yet`, {
      hint: 'use the home that published last (--home)',
    });
  }
  const files = withRootsOf(own, known);
  return { files, contents: contentsOf(own, name), before: await tagged(place, signal) };
}

const tagged = async (place: ArtifactPlace, signal: AbortSignal) =>
  (await place.manifest({ tag: CHANNELS_TAG }, signal))?.digest;

async function requireKnown(freehold: Freehold, name: string, place: ArtifactPlace): Promise<ChannelFiles> {
  const known = await knownChannels(freehold, name);
  if (known !== undefined) return known;
  const to = (await channelsFile(freehold).published()).get(name);
  const repository = to === undefined ? 'oci://HOST/NAME' : repositoryText(to);
  throw new FreeholdError('NOT_FOUND', `this home knows nothing of the channels of ${name}`, {
    hint: `if ${place.label} has them: freehold channel trust ${name} ${repository} --digest sha256:…; else: freehold channel create ${name} ${repository}`,
  });
}

export async function publishFiles(
  freehold: Freehold,
  name: string,
  place: ArtifactPlace,
  files: ChannelFiles,
  before: Digest | undefined,
  { signal, isDryRun = false, isRenewal = false }: ChangeOptions,
): Promise<void> {
  if (isDryRun) return;
  await pushChannels(place, files, name, before, signal);
  await channelStore(freehold).save(name, files, (stored) => isAtLeastAsNew(files, stored));
  await publishedStore(freehold).save(name, files, (own) => !isRenewal || hasSameTargets(files, own));
}

/** Runs work with the repository in which this home publishes a package's channels. @throws NOT_FOUND */
export async function withPublished<T>(
  freehold: Freehold,
  name: string,
  { access = REGISTRY_ACCESS }: ChannelOptions,
  work: (place: ArtifactPlace) => Promise<T>,
): Promise<T> {
  const file = channelsFile(freehold);
  const to = (await file.published()).get(name);
  if (to !== undefined) return access.withRepository(freehold, to, work);
  const followed = (await file.load()).get(name);
  const repository = followed === undefined ? 'oci://HOST/NAME' : repositoryText(followed.from);
  throw new FreeholdError('NOT_FOUND', `this home publishes no channels of ${name}`, {
    hint: `freehold channel create ${name} ${repository} with keys of this home (freehold key list)`,
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
