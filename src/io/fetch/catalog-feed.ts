import { z } from 'zod';
import { parseConfigYaml } from '../../core/base/config-file.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parsePackageName } from '../../core/base/ids.ts';
import { parseJsonDocument } from '../../core/base/json-document.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import { encodeEnvelope, parseEnvelope, signEnvelope, verifyEnvelope } from '../../core/crypto/dsse.ts';
import type { PrivateKey, PublicKey } from '../../core/crypto/keys.ts';
import { encodeJson } from '../../core/format/oci.ts';
import { type CatalogEntry, catalogNameSchema, type Source, writtenEntrySchema } from './catalog-entry.ts';

/** What the signature of a feed is over, so that no other signed document of the same key passes for a feed. */
const FEED_PAYLOAD_TYPE = 'application/vnd.freehold.catalog-feed.v1+json';
/** An entry has about 800 bytes; base64 adds a third. */
export const FEED_BYTES_MAX = 8 << 20;
const ENTRIES_MAX = 5000;
const ENVELOPE_DEPTH_MAX = 4;
const PAYLOAD_DEPTH_MAX = 16;

/** A feed is a stranger's: its entries name places on the network, never files of the reader or packages to run pip for. */
const feedEntrySchema = writtenEntrySchema.refine(
  ({ sources }) => sources.length > 0 && sources.every(isSourceOfFeed),
  { path: ['sources'], message: 'a feed names https addresses and files of Hugging Face only' },
);

const feedSchema = z.strictObject({
  feedVersion: z.literal(1, 'only 1 can be read; a newer Freehold wrote this feed'),
  /** The publisher's name for it: one feed of a key must not pass for another. */
  feed: catalogNameSchema,
  /** Grows with each issue; who saw a larger number takes no smaller one. */
  sequence: z.int().min(1),
  /** Until when the publisher stands by this issue. */
  expires: z.iso.datetime(),
  entries: z
    .record(catalogNameSchema, feedEntrySchema)
    .refine((entries) => Object.keys(entries).length <= ENTRIES_MAX, `at most ${ENTRIES_MAX} entries`),
});

/** A feed whose signature was verified. */
export interface CatalogFeed {
  readonly feed: string;
  readonly sequence: number;
  readonly expiresMs: number;
  /** By their names in the feed. */
  readonly entries: readonly CatalogEntry[];
  readonly payload: Uint8Array;
}

function isSourceOfFeed(source: Source): boolean {
  return source.kind === 'huggingface' || (source.kind === 'url' && !source.allowHttp);
}

/**
 * Reads and verifies a signed feed.
 * @throws SIGNATURE_MALFORMED, SIGNATURE_INVALID for another key or changed bytes, CONFIG_INVALID with the path for content
 *   that makes no sense
 */
export function verifyFeed(bytes: Uint8Array, key: PublicKey, label: string): CatalogFeed {
  const json = parseStrictJson(bytes, {
    label,
    code: 'SIGNATURE_MALFORMED',
    bytesMax: FEED_BYTES_MAX,
    depthMax: ENVELOPE_DEPTH_MAX,
  });
  const payload = verifyEnvelope(parseEnvelope(json, FEED_PAYLOAD_TYPE, label), key, label);
  const { feed, sequence, expires, entries } = parseJsonDocument(payload, feedSchema, {
    label,
    code: 'CONFIG_INVALID',
    bytesMax: FEED_BYTES_MAX,
    depthMax: PAYLOAD_DEPTH_MAX,
  });
  return {
    feed,
    sequence,
    expiresMs: Date.parse(expires),
    entries: Object.entries(entries).map(([name, entry]) => ({ ...entry, name })),
    payload,
  };
}

/**
 * Checks a feed that was just fetched against the one that is kept.
 * @throws FEED_EXPIRED: a mirror that holds newer issues back (freeze); FEED_ROLLBACK: an older issue, or another one under
 *   the same number; CONFIG_INVALID: another feed of the same key
 */
export function requireNewer(
  fetched: CatalogFeed,
  kept: CatalogFeed | undefined,
  nowMs: number,
  label: string,
): void {
  if (kept !== undefined && fetched.feed !== kept.feed) {
    throw new FreeholdError('CONFIG_INVALID', `${label}: holds the feed ${fetched.feed}, not ${kept.feed}`, {
      hint: 'the key signs several feeds; add this one as a source of its own',
    });
  }
  if (kept !== undefined && fetched.sequence < kept.sequence) {
    throw rollback(label, `issue ${fetched.sequence} after issue ${kept.sequence} was seen`);
  }
  const isSame = kept !== undefined && Buffer.compare(fetched.payload, kept.payload) === 0;
  if (kept !== undefined && fetched.sequence === kept.sequence && !isSame) {
    throw rollback(label, `another issue ${fetched.sequence} than the one that was seen`);
  }
  if (fetched.expiresMs <= nowMs) {
    throw new FreeholdError(
      'FEED_EXPIRED',
      `${label}: issue ${fetched.sequence} ended on ${new Date(fetched.expiresMs).toISOString()}`,
      { detail: { sequence: fetched.sequence, expires: new Date(fetched.expiresMs).toISOString() } },
    );
  }
}

const rollback = (label: string, what: string) => new FreeholdError('FEED_ROLLBACK', `${label}: ${what}`);

/**
 * The catalog entries of a feed, under `SOURCE.NAME`: no feed can take the name of a built-in entry or of another feed's.
 * @param source name of the source in this home; it has no dot
 */
export function namedEntries(source: string, { entries }: CatalogFeed): CatalogEntry[] {
  return entries.flatMap((entry) => {
    const name = `${source}.${entry.name}`;
    return isCatalogName(name) ? [{ ...entry, name }] : [];
  });
}

/** Two names that are fine can be too long together. */
function isCatalogName(name: string): boolean {
  try {
    parsePackageName(`catalog/${name}`);
    return true;
  } catch {
    return false;
  }
}

/**
 * Signs the feed that a publisher wrote (YAML or JSON). What is signed is exactly what a reader verifies and parses.
 * @throws CONFIG_INVALID with line and path
 */
export function signFeed(text: string, label: string, key: PrivateKey): { bytes: Buffer; feed: CatalogFeed } {
  parseConfigYaml(text, feedSchema, label);
  const written = parseConfigYaml(text, z.json(), label);
  const envelope = signEnvelope(FEED_PAYLOAD_TYPE, encodeJson(written), key);
  const bytes = Buffer.from(`${JSON.stringify(encodeEnvelope(envelope))}\n`);
  return { bytes, feed: verifyFeed(bytes, key.publicKey, label) };
}
