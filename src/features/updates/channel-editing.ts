import { FreeholdError } from '../../core/base/errors.ts';
import {
  type Advisory,
  type AnyChannelDocument,
  type ChannelContents,
  type ChannelDocument,
  RELEASES_MAX,
  type Release,
} from '../../core/format/channel-documents.ts';

/** All documents of a state, to be signed together. */
export function documentsOf(name: string, contents: ChannelContents): AnyChannelDocument[] {
  const documents: AnyChannelDocument[] = [...contents.channels.values(), ...contents.advisories];
  const versions = [...contents.yanked];
  if (versions.length > 0) documents.push({ schemaVersion: 1, kind: 'yanked', name, versions });
  return documents;
}

/**
 * Puts a release at the head of a channel, which is made if need be. What was there before stays behind it as long as the
 * new one does not go to everybody; what nobody would get any more goes. Promoting the same version again changes its
 * percentage.
 * @throws USAGE when the version was yanked
 */
export function promote(
  contents: ChannelContents,
  target: { readonly name: string; readonly channel: string },
  release: Release,
): ChannelContents {
  const { name, channel } = target;
  if (contents.yanked.some(({ version }) => version === release.version)) {
    throw new FreeholdError('USAGE', `${name}@${release.version} was yanked`, {
      hint: `freehold channel yank --undo takes that back`,
    });
  }
  const before = contents.channels.get(channel)?.releases ?? [];
  const releases = reachable([release, ...before.filter(({ version }) => version !== release.version)]);
  return withChannel(contents, { schemaVersion: 1, kind: 'channel', name, channel, releases });
}

/** Down to the first that goes to everybody, which always stays; of too many staged ones the oldest go. */
function reachable(releases: readonly Release[]): Release[] {
  const last = releases.findIndex(({ rolloutPercent }) => rolloutPercent === 100);
  if (last < 0) return releases.slice(0, RELEASES_MAX);
  return [...releases.slice(0, Math.min(last, RELEASES_MAX - 1)), ...releases.slice(last, last + 1)];
}

function withChannel(contents: ChannelContents, document: ChannelDocument): ChannelContents {
  return { ...contents, channels: new Map([...contents.channels, [document.channel, document]]) };
}

/** Withdraws a version from every channel. @throws USAGE when it was yanked before */
export function yank(contents: ChannelContents, version: string, reason: string): ChannelContents {
  if (contents.yanked.some((item) => item.version === version)) {
    throw new FreeholdError('USAGE', `${version} was yanked before`);
  }
  return { ...contents, yanked: [...contents.yanked, { version, reason }] };
}

/** @throws NOT_FOUND */
export function undoYank(contents: ChannelContents, version: string): ChannelContents {
  const yanked = contents.yanked.filter((item) => item.version !== version);
  if (yanked.length === contents.yanked.length) {
    throw new FreeholdError('NOT_FOUND', `${version} was not yanked`, { hint: 'freehold channel list' });
  }
  return { ...contents, yanked };
}

/** Adds a notice, or replaces the one of its number. */
export function advise(contents: ChannelContents, advisory: Advisory): ChannelContents {
  const others = contents.advisories.filter(({ id }) => id !== advisory.id);
  return { ...contents, advisories: [...others, advisory] };
}

/** @throws NOT_FOUND */
export function withdrawAdvisory(contents: ChannelContents, id: string): ChannelContents {
  const advisories = contents.advisories.filter((advisory) => advisory.id !== id);
  if (advisories.length === contents.advisories.length) {
    throw new FreeholdError('NOT_FOUND', `there is no advisory ${id}`, { hint: 'freehold channel list' });
  }
  return { ...contents, advisories };
}
