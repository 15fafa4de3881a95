import { Digest } from '../../core/base/digest.ts';

/**
 * Everything that is known of one package's channels, as files by name: metadata of The Update Framework (TUF 1.0) under
 * the names of its consistent snapshots, and the documents that they vouch for. The same in a registry, in an archive and
 * in a home.
 */
export type ChannelFiles = ReadonlyMap<string, Buffer>;

/** Where files come from, one at a time. */
export interface ChannelFileSource {
  /** For messages. */
  readonly label: string;
  /**
   * Undefined when there is none of this name.
   * @throws CHANNEL_INVALID when it is longer than `bytesMax` or is not what the source itself promises; NETWORK
   */
  read(title: string, bytesMax: number): Promise<Buffer | undefined>;
  /** The numbers of the roots that the source has, in rising order. */
  rootVersions(): Promise<readonly number[]>;
}

export type RoleName = 'root' | 'targets' | 'snapshot' | 'timestamp';

/** Held in memory before a signature is looked at: the limits of tuf-js for root and timestamp, far less for the others. */
export const METADATA_BYTES_MAX: Readonly<Record<RoleName, number>> = {
  root: 512_000,
  timestamp: 16_384,
  snapshot: 16_384,
  targets: 256 * 1024,
};

export const TIMESTAMP_TITLE = 'timestamp.json';
const ROOT_TITLE = /^([1-9]\d{0,8})\.root\.json$/;
/** Renewed every month, a chain lasts twenty years; the limit of tuf-js. */
export const ROOT_ROTATIONS_MAX = 256;

export const versionedTitle = (role: Exclude<RoleName, 'timestamp'>, version: number) =>
  `${version}.${role}.json`;

/** TUF 1.0, "Consistent snapshots": the hash stands before the last component of the path. */
export function documentTitle(path: string, digest: Digest): string {
  const slash = path.lastIndexOf('/') + 1;
  return `${path.slice(0, slash)}${Digest.hex(digest)}.${path.slice(slash)}`;
}

/** Of the names, the numbers of roots; rising. */
export function rootVersionsAmong(titles: Iterable<string>): number[] {
  return [...titles]
    .flatMap((title) => {
      const version = ROOT_TITLE.exec(title)?.[1];
      return version === undefined ? [] : [Number(version)];
    })
    .sort((left, right) => left - right);
}

/** Files at hand as a source. */
export function filesSource(files: ChannelFiles, label: string): ChannelFileSource {
  return {
    label,
    read: async (title) => files.get(title),
    rootVersions: async () => rootVersionsAmong(files.keys()),
  };
}
