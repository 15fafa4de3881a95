import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parsePackageName } from '../../core/base/ids.ts';
import { parseRepository } from '../../core/base/registry-reference.ts';
import { parseChannelName } from '../../core/format/channel-documents.ts';
import {
  findAnchor,
  type RootFacts,
  rootFacts,
  type TrustAnchor,
} from '../../features/updates/channel-anchor.ts';
import { openChannelArtifact } from '../../features/updates/channel-artifact.ts';
import { rootsOf } from '../../features/updates/channel-contents.ts';
import { type ChannelFileSource, filesSource, versionedTitle } from '../../features/updates/channel-files.ts';
import {
  type ChannelOptions,
  channelStore,
  channelsFile,
  REGISTRY_ACCESS,
  refreshChannels,
} from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';
import { requireChannel } from './update-check.ts';

/**
 * Trusts exactly this root for a package, whatever trust.yaml says of its keys.
 * @param bytes of the file that the publisher gave out
 * @throws CHANNEL_INVALID, NAME_INVALID
 */
export async function trustRootFile(freehold: Freehold, name: string, bytes: Buffer): Promise<RootFacts> {
  const facts = rootFacts(bytes, parsePackageName(name));
  const source = filesSource(new Map([[versionedTitle('root', facts.version), bytes]]), 'the file');
  return pinRoot(freehold, name, source, { kind: 'digest', digest: facts.digest });
}

/**
 * Trusts the root with this digest, taken from a repository.
 * @throws SIGNER_UNTRUSTED when the repository has no such root, NOT_FOUND, NETWORK
 */
export async function trustRootDigest(
  freehold: Freehold,
  name: string,
  from: string,
  digest: string,
  options: ChannelOptions,
): Promise<RootFacts> {
  const { access = REGISTRY_ACCESS, signal } = options;
  const anchor = { kind: 'digest', digest: Digest.parse(digest) } as const;
  return access.withRepository(freehold, parseRepository(from), async (place) => {
    const artifact = await openChannelArtifact(place, signal);
    if (artifact === undefined) throw new FreeholdError('NOT_FOUND', `${place.label} has no channels`);
    return pinRoot(freehold, parsePackageName(name), artifact, anchor);
  });
}

/** In the place of whatever was trusted before: what was remembered of the old one goes. */
async function pinRoot(
  freehold: Freehold,
  name: string,
  source: ChannelFileSource,
  anchor: TrustAnchor,
): Promise<RootFacts> {
  const files = await findAnchor(source, name, anchor);
  const store = channelStore(freehold);
  const stored = await store.load(name);
  // The same anchor again must not forget what was seen since.
  const isKnown = [...files].every(([title, bytes]) => stored?.get(title)?.equals(bytes) === true);
  if (!isKnown) await store.save(name, files, () => true);
  const [root] = rootsOf(files);
  if (root === undefined) throw new FreeholdError('INTERNAL', 'an anchor without a root');
  return rootFacts(root.bytes, name);
}

/**
 * Follows a channel from now on. The channels are read at once, so that a wrong name or a key that is not trusted shows
 * here; with `--offline` it is only noted.
 * @throws NOT_FOUND when there is no such channel, SIGNER_UNTRUSTED, and what refreshing throws
 */
export async function followChannel(
  freehold: Freehold,
  name: string,
  from: string,
  channel: string,
  options: ChannelOptions,
): Promise<void> {
  const followed = { from: parseRepository(from), channel: parseChannelName(channel) };
  parsePackageName(name);
  if (!freehold.isOffline) {
    const { contents } = await refreshChannels(freehold, name, followed.from, options);
    requireChannel(contents, channel, name);
  }
  await channelsFile(freehold).follow(name, followed);
}

/** @throws NOT_FOUND */
export async function unfollowChannel(freehold: Freehold, name: string): Promise<void> {
  await channelsFile(freehold).unfollow(name);
}
