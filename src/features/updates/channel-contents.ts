import { Digest } from '../../core/base/digest.ts';
import {
  type ChannelContents,
  channelContents,
  parseChannelDocument,
} from '../../core/format/channel-documents.ts';
import {
  type ChannelFiles,
  documentTitle,
  rootVersionsAmong,
  TIMESTAMP_TITLE,
  versionedTitle,
} from './channel-files.ts';
import { currentMetadata } from './channel-signing.ts';

/**
 * What files say that a session has verified before. Looks at no date: a notice counts also when nobody renewed it.
 * @throws CHANNEL_INVALID when they are damaged
 */
export function contentsOf(files: ChannelFiles, name: string): ChannelContents {
  const targets = currentMetadata(files).targets?.signed.targets ?? {};
  const documents = Object.entries(targets).flatMap(([path, { hashes }]) => {
    const bytes = files.get(documentTitle(path, Digest.fromHex(hashes.sha256 ?? '')));
    return bytes === undefined ? [] : [parseChannelDocument(bytes, path, name)];
  });
  return channelContents(documents);
}

/**
 * Whether files are of a later state than others, or of the same: two processes may have refreshed at once, and the slower
 * one must not bring back what is older. A later root counts more than a timestamp, whose numbers may begin anew with it.
 */
export function isAtLeastAsNew(files: ChannelFiles, others: ChannelFiles): boolean {
  const [root, otherRoot] = [files, others].map((each) => rootVersionsAmong(each.keys()).at(-1) ?? 0);
  if (root !== otherRoot) return (root ?? 0) > (otherRoot ?? 0);
  return timestampVersion(files) >= timestampVersion(others);
}

const timestampVersion = (files: ChannelFiles) =>
  files.has(TIMESTAMP_TITLE) ? (currentMetadata(files).timestamp?.signed.version ?? 0) : 0;

/** Whether two states offer the same: the signed list of documents is the same file. */
export function hasSameTargets(files: ChannelFiles, others: ChannelFiles): boolean {
  const targetsOf = (each: ChannelFiles) =>
    [...each].find(([title]) => /^\d+\.targets\.json$/.test(title))?.[1] ?? Buffer.alloc(0);
  return targetsOf(files).equals(targetsOf(others));
}

/** A state under the roots of another one: roots follow from each other alone, so a later one counts for both. */
export function withRootsOf(files: ChannelFiles, others: ChannelFiles): ChannelFiles {
  const roots = rootsOf(others).map(
    ({ version, bytes }) => [versionedTitle('root', version), bytes] as const,
  );
  return new Map([...files, ...roots]);
}

/** The roots among files, the newest last. */
export function rootsOf(files: ChannelFiles): { readonly version: number; readonly bytes: Buffer }[] {
  return rootVersionsAmong(files.keys()).flatMap((version) => {
    const bytes = files.get(versionedTitle('root', version));
    return bytes === undefined ? [] : [{ version, bytes }];
  });
}
