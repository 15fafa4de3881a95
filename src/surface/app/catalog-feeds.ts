import { stat } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { formatFingerprint, type PublicKey, parsePublicKey } from '../../core/crypto/keys.ts';
import type { FeedEntries } from '../../io/fetch/catalog.ts';
import { sourceSchema } from '../../io/fetch/catalog-entry.ts';
import {
  type CatalogFeed,
  FEED_BYTES_MAX,
  namedEntries,
  requireNewer,
  signFeed,
  verifyFeed,
} from '../../io/fetch/catalog-feed.ts';
import { type FeedSource, type FeedStore, parseFeedName } from '../../io/home/feed-store.ts';
import type { Freehold } from './freehold.ts';
import { readFileBytes, readTextFile, writeResultFile } from './local-file.ts';
import { backgroundClock } from './system-clock.ts';

/** A catalog source as people and `--json` see it. */
export interface FeedSummary {
  readonly name: string;
  /** Without the query of an address, which may hold a secret. */
  readonly place: string;
  readonly fingerprint: string;
  readonly displayFingerprint: string;
  readonly sequence: number;
  /** ISO 8601. */
  readonly expires: string;
  readonly isExpired: boolean;
  readonly entryCount: number;
}

/** A source that is there, or why what is kept of it cannot be used. */
export type FeedState =
  | ({ readonly kind: 'usable' } & FeedSummary)
  | { readonly kind: 'faulty'; readonly name: string; readonly place: string; readonly reason: string };

/**
 * Adds a catalog of somebody else: fetches it once and verifies it under the key that the user names, which is pinned.
 * @param place an https address, or a file
 * @throws NAME_INVALID, ALREADY_EXISTS, KEY_INVALID, CONFIG_INVALID, OFFLINE, NETWORK, SIGNATURE_INVALID, FEED_EXPIRED
 */
export async function addFeed(
  freehold: Freehold,
  { name, place, publicKeyPem }: { name: string; place: string; publicKeyPem: string },
  signal: AbortSignal,
): Promise<FeedSummary> {
  const key = parsePublicKey(publicKeyPem, 'the key of the feed');
  const source: FeedSource = { name: parseFeedName(name), place: parsePlace(place), key };
  const bytes = await readPlace(freehold, source, signal);
  const feed = verifyFeed(bytes, key, label(source));
  requireNewer(feed, undefined, backgroundClock.nowMs(), label(source));
  await freehold.home.feeds.add(source, bytes);
  return summary(source, feed);
}

/** @throws NOT_FOUND */
export async function removeFeed({ home }: Freehold, name: string): Promise<void> {
  await home.feeds.remove(name);
}

/** Every source with the state of what is kept of it. */
export async function listFeeds({ home }: Freehold): Promise<FeedState[]> {
  const states: FeedState[] = [];
  for (const source of await home.feeds.list()) {
    try {
      states.push({ kind: 'usable', ...summary(source, await keptFeed(home.feeds, source)) });
    } catch (error) {
      const { name } = source;
      states.push({ kind: 'faulty', name, place: label(source), reason: toFreeholdError(error).message });
    }
  }
  return states;
}

export interface FeedRefresh {
  readonly name: string;
  /** Undefined when the source could not be refreshed; what was known stays. */
  readonly summary: FeedSummary | undefined;
  readonly error: FreeholdError | undefined;
}

/**
 * Fetches sources anew, one or all. A failure of one does not keep the others from it.
 * @throws NOT_FOUND for an unknown name, the signal's reason
 */
export async function refreshFeeds(
  freehold: Freehold,
  name: string | undefined,
  signal: AbortSignal,
): Promise<FeedRefresh[]> {
  const { feeds } = freehold.home;
  const sources = name === undefined ? await feeds.list() : [await feeds.find(name)];
  const refreshed: FeedRefresh[] = [];
  for (const source of sources) {
    try {
      const feed = await refreshFeed(freehold, source, signal);
      refreshed.push({ name: source.name, summary: summary(source, feed), error: undefined });
    } catch (error) {
      signal.throwIfAborted();
      refreshed.push({ name: source.name, summary: undefined, error: toFreeholdError(error) });
    }
  }
  return refreshed;
}

async function refreshFeed(
  freehold: Freehold,
  source: FeedSource,
  signal: AbortSignal,
): Promise<CatalogFeed> {
  const bytes = await readPlace(freehold, source, signal);
  const fetched = verifyFeed(bytes, source.key, label(source));
  await freehold.home.feeds.replace(source.name, (kept) => {
    const known = kept === undefined ? undefined : knownFeed(kept, source);
    requireNewer(fetched, known, backgroundClock.nowMs(), label(source));
    return bytes;
  });
  return fetched;
}

/** What is kept and can no longer be read is no reason to keep it: the next good issue mends it. */
function knownFeed(kept: Buffer, source: FeedSource): CatalogFeed | undefined {
  try {
    return verifyFeed(kept, source.key, label(source));
  } catch {
    return undefined;
  }
}

/** For `freehold.catalog()`: verified anew each time it is read, since the file may have been changed. */
export async function readFeeds(feeds: FeedStore): Promise<FeedEntries[]> {
  const read: FeedEntries[] = [];
  for (const source of await feeds.list()) {
    try {
      const feed = await keptFeed(feeds, source);
      read.push({ source: source.name, entries: namedEntries(source.name, feed) });
    } catch (error) {
      read.push({ source: source.name, entries: [], fault: toFreeholdError(error) });
    }
  }
  return read;
}

async function keptFeed(feeds: FeedStore, source: FeedSource): Promise<CatalogFeed> {
  const bytes = await feeds.read(source.name);
  if (bytes !== undefined) return verifyFeed(bytes, source.key, label(source));
  throw new FreeholdError('FILE_MISSING', `nothing is kept of ${label(source)}`, {
    hint: `freehold catalog refresh ${source.name}`,
  });
}

export interface SignedFeed {
  readonly path: string;
  readonly feed: string;
  readonly sequence: number;
  readonly entryCount: number;
  readonly fingerprint: string;
}

/**
 * For publishers: signs a feed that was written as YAML or JSON, into a file that any web server or disk can hold.
 * @param output default: `FILE.signed.json`
 * @throws NOT_FOUND for file or key, CONFIG_INVALID with the line
 */
export async function signFeedFile(
  { home }: Freehold,
  file: string,
  keyName: string,
  output = `${file.replace(/\.(?:ya?ml|json)$/i, '')}.signed.json`,
): Promise<SignedFeed> {
  const { privateKey } = await home.keys.load(keyName);
  const text = await readTextFile(file, { bytesMax: FEED_BYTES_MAX });
  const { bytes, feed } = signFeed(text, file, privateKey);
  await requireNextIssue(feed, output, privateKey.publicKey);
  await writeResultFile(output, bytes);
  return {
    path: path.resolve(output),
    feed: feed.feed,
    sequence: feed.sequence,
    entryCount: feed.entries.length,
    fingerprint: privateKey.publicKey.fingerprint,
  };
}

/** Whoever has seen the issue that lies there would refuse the new one. */
async function requireNextIssue(feed: CatalogFeed, output: string, key: PublicKey): Promise<void> {
  let before: CatalogFeed;
  try {
    before = verifyFeed(await readFileBytes(output, { bytesMax: FEED_BYTES_MAX }), key, output);
  } catch {
    return;
  }
  const isOther = Buffer.compare(before.payload, feed.payload) !== 0;
  if (before.feed !== feed.feed || before.sequence < feed.sequence || !isOther) return;
  throw new FreeholdError(
    'CONFIG_INVALID',
    `sequence: ${output} is issue ${before.sequence} already, this is ${feed.sequence}`,
    { hint: `raise it: sequence: ${before.sequence + 1}` },
  );
}

function parsePlace(text: string): string {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return path.resolve(text);
  const result = sourceSchema.safeParse({ url: text });
  if (result.success && result.data.kind === 'url') return result.data.url;
  throw new FreeholdError(
    'CONFIG_INVALID',
    `not a place for a catalog: ${JSON.stringify(text.slice(0, 100))}`,
    {
      hint: 'an https address (http on this machine only) without user or password, or a file',
    },
  );
}

const isAddress = (place: string) => /^https?:\/\//.test(place);

async function readPlace(freehold: Freehold, source: FeedSource, signal: AbortSignal): Promise<Buffer> {
  const { place } = source;
  if (!isAddress(place)) {
    const { size } = await stat(place).catch(() => ({ size: 0 }));
    if (size > FEED_BYTES_MAX) throw tooLarge(source);
    return readFileBytes(place, { bytesMax: FEED_BYTES_MAX, signal });
  }
  if (freehold.isOffline) throw new FreeholdError('OFFLINE', `${label(source)} is on the network`);
  const { fetchDocument } = await import('../../io/fetch/http-document.ts');
  const document = await fetchDocument(
    { url: place, allowHttp: false },
    { bytesMax: FEED_BYTES_MAX, environment: freehold.env, signal },
  ).catch((error: unknown) => {
    throw error instanceof FreeholdError && error.code === 'SIZE_MISMATCH' ? tooLarge(source) : error;
  });
  if (document.status === 200) return document.bytes;
  const code = document.status === 404 ? 'NOT_FOUND' : 'NETWORK';
  throw new FreeholdError(code, `${label(source)}: HTTP status ${document.status}`);
}

const tooLarge = (source: FeedSource) =>
  new FreeholdError(
    'SIZE_MISMATCH',
    `${label(source)}: more than the ${FEED_BYTES_MAX} bytes that are read`,
    {
      hint: 'is this the address of a catalog feed?',
    },
  );

/** Without a query: signed links carry secrets there. */
function label({ place }: FeedSource): string {
  if (!isAddress(place)) return place;
  const url = new URL(place);
  return `${url.origin}${url.pathname}`;
}

function summary(source: FeedSource, feed: CatalogFeed): FeedSummary {
  const { fingerprint } = source.key;
  return {
    name: source.name,
    place: label(source),
    fingerprint,
    displayFingerprint: formatFingerprint(fingerprint),
    sequence: feed.sequence,
    expires: new Date(feed.expiresMs).toISOString(),
    isExpired: feed.expiresMs <= backgroundClock.nowMs(),
    entryCount: feed.entries.length,
  };
}
