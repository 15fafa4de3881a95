import { compareVersions } from '../../core/base/ids.ts';
import type { ChannelContents, Release } from '../../core/format/channel-documents.ts';

/** A version in the store, as far as updates are concerned. */
export interface KnownVersion {
  readonly version: string;
  /** Why bare names do not mean it. */
  readonly held?: HeldReason;
}

/**
 * `candidate`: fetched, not yet accepted. `refused`: the suite did not accept it. `rolled-back`: was in use and had to go.
 * `superseded`: an older version was put in its place.
 */
export const HELD_REASONS = ['candidate', 'refused', 'rolled-back', 'superseded'] as const;
export type HeldReason = (typeof HELD_REASONS)[number];

export interface OfferQuestion {
  readonly contents: ChannelContents;
  readonly channel: string;
  /** The version that a bare name means; absent: nothing is installed. */
  readonly active: string | undefined;
  readonly known: readonly KnownVersion[];
  /** 0 … 99 for a version: see `rolloutBucket`. */
  readonly bucket: (version: string) => number;
  /** Does not wait for the rollout. */
  readonly now?: boolean;
}

/** What a channel has for this device. */
export type Offer =
  | { readonly kind: 'update'; readonly release: Release }
  /** Older than what is in use, which was yanked: the publisher calls it back. */
  | { readonly kind: 'retreat'; readonly release: Release }
  | { readonly kind: 'current' }
  /** Newer than anything in the channel. */
  | { readonly kind: 'ahead'; readonly release: Release }
  /** There is a newer one, and it is not this device's turn. */
  | { readonly kind: 'waiting'; readonly release: Release }
  /** Was tried here before, and went. */
  | { readonly kind: 'declined'; readonly release: Release; readonly held: HeldReason }
  | { readonly kind: 'nothing' };

/**
 * What to do about a package. A version that is older than the one in use is never offered by itself: a publisher's key in
 * wrong hands could bring back an old fault that way. Only where the version in use was yanked it is.
 */
export function decideOffer(question: OfferQuestion): Offer {
  const { contents, channel, active, known, bucket, now = false } = question;
  const isYanked = (version: string) => contents.yanked.some((item) => item.version === version);
  const releases = (contents.channels.get(channel)?.releases ?? []).filter(
    ({ version }) => !isYanked(version),
  );
  const reached = releases.find(({ version, rolloutPercent }) => now || bucket(version) < rolloutPercent);
  const [head] = releases;
  if (head === undefined) return { kind: 'nothing' };
  if (active === head.version) return { kind: 'current' };
  if (reached === undefined || reached.version === active) {
    const isNewer = active === undefined || compareVersions(head.version, active) > 0;
    return { kind: isNewer ? 'waiting' : 'ahead', release: head };
  }
  const order = active === undefined ? 1 : compareVersions(reached.version, active);
  if (order < 0 && active !== undefined && !isYanked(active)) return { kind: 'ahead', release: reached };
  const held = known.find(({ version }) => version === reached.version)?.held;
  if (held === 'rolled-back' || held === 'refused') return { kind: 'declined', release: reached, held };
  return { kind: order < 0 ? 'retreat' : 'update', release: reached };
}
