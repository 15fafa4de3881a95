import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { textParsedBy } from '../../core/base/schema-text.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import { KEY_PEM_CHARACTERS_MAX, type PublicKey, parsePublicKey } from '../../core/crypto/keys.ts';
import { onFile, readGuarded, removeLeftovers, writeFileDurably } from './durable-file.ts';
import type { HomeLock } from './home-lock.ts';
import { makePrivateFolder, requirePrivateFolder } from './private-folder.ts';

/** Where a catalog of somebody else comes from, and who must have signed it. */
export interface FeedSource {
  readonly name: string;
  /** An https address, or the absolute path of a file. */
  readonly place: string;
  readonly key: PublicKey;
}

/** What is kept of a feed: the signed file as it was fetched. */
const FEED_BYTES_MAX = 8 << 20;
const SOURCE_BYTES_MAX = KEY_PEM_CHARACTERS_MAX + 8192;
const SOURCE_SUFFIX = '.source.json';
const FEED_SUFFIX = '.feed.json';
/** No dot, so that in `FEED.NAME` the first one ends the name of the feed. */
const FEED_NAME = /^[a-z0-9]+(?:-[a-z0-9]+)*$/;
const FEED_NAME_CHARACTERS_MAX = 32;

const sourceSchema = z.strictObject({
  place: z.string().min(1).max(4096),
  publicKey: textParsedBy((pem) => parsePublicKey(pem, 'publicKey')),
});

/** @throws NAME_INVALID */
export function parseFeedName(text: string): string {
  if (text.length <= FEED_NAME_CHARACTERS_MAX && FEED_NAME.test(text)) return text;
  throw new FreeholdError('NAME_INVALID', `not the name of a catalog source: ${quoted(text)}`, {
    hint: 'lower case letters and digits, joined by "-": acme',
  });
}

/** The folder `feeds/` of a home. The key of a source is pinned when it is added; only removing the source forgets it. */
export class FeedStore {
  readonly #folder: string;
  readonly #withLock: HomeLock;

  /** @param folder is made when the first source is added */
  constructor(folder: string, withLock: HomeLock) {
    this.#folder = folder;
    this.#withLock = withLock;
  }

  /** All sources, by name. @throws CONFIG_INVALID, PERMISSION_DENIED when others may write there */
  async list(): Promise<readonly FeedSource[]> {
    if (!(await requirePrivateFolder(this.#folder))) return [];
    const files = await onFile('list', this.#folder, () => readdir(this.#folder));
    const names = files
      .filter((file) => file.endsWith(SOURCE_SUFFIX))
      .map((file) => file.slice(0, -SOURCE_SUFFIX.length))
      .filter((name) => FEED_NAME.test(name))
      .sort();
    return Promise.all(names.map((name) => this.find(name)));
  }

  /** @throws NOT_FOUND, CONFIG_INVALID, PERMISSION_DENIED */
  async find(name: string): Promise<FeedSource> {
    const file = this.#path(name, SOURCE_SUFFIX);
    const text = (await requirePrivateFolder(this.#folder))
      ? await this.#read(file, SOURCE_BYTES_MAX)
      : undefined;
    if (text === undefined) {
      throw new FreeholdError('NOT_FOUND', `there is no catalog source ${quoted(name)}`, {
        hint: 'freehold catalog sources shows them',
      });
    }
    const json = parseStrictJson(Buffer.from(text), {
      label: file,
      code: 'CONFIG_INVALID',
      bytesMax: SOURCE_BYTES_MAX,
      depthMax: 2,
    });
    const result = sourceSchema.safeParse(json);
    if (result.success) return { name, place: result.data.place, key: result.data.publicKey };
    throw new FreeholdError(
      'CONFIG_INVALID',
      `${file}: ${result.error.issues[0]?.message ?? 'cannot be read'}`,
      {
        hint: `remove the file, then add the source again: freehold catalog add-source ${name}`,
      },
    );
  }

  /**
   * Adds a source together with what was fetched from it and verified. The feed first: a source without one is never seen.
   * @throws ALREADY_EXISTS, NAME_INVALID, DISK_FULL, PERMISSION_DENIED, BUSY
   */
  async add({ name, place, key }: FeedSource, feed: Buffer): Promise<void> {
    const file = this.#path(name, SOURCE_SUFFIX);
    await this.#withLock(async () => {
      await makePrivateFolder(this.#folder);
      await requirePrivateFolder(this.#folder);
      if (existsSync(file)) {
        throw new FreeholdError('ALREADY_EXISTS', `there is a catalog source ${quoted(name)} already`, {
          hint: `freehold catalog refresh ${name}, or remove it first: freehold catalog remove-source ${name}`,
        });
      }
      await removeLeftovers(this.#folder);
      await writeFileDurably(this.#path(name, FEED_SUFFIX), feed, { mode: 0o600 });
      const source = Buffer.from(`${JSON.stringify({ place, publicKey: key.pem }, null, 2)}\n`);
      await writeFileDurably(file, source, { mode: 0o600, exclusive: true });
    });
  }

  /** @throws NOT_FOUND, PERMISSION_DENIED, BUSY */
  async remove(name: string): Promise<void> {
    await this.#withLock(async () => {
      await this.find(name);
      await onFile('remove', this.#path(name, SOURCE_SUFFIX), async () => {
        await rm(this.#path(name, SOURCE_SUFFIX), { force: true });
        await rm(this.#path(name, FEED_SUFFIX), { force: true });
      });
    });
  }

  /** The signed file as it was kept; nothing of it is verified. @throws PERMISSION_DENIED, CONFIG_INVALID */
  async read(name: string): Promise<Buffer | undefined> {
    const text = await this.#read(this.#path(name, FEED_SUFFIX), FEED_BYTES_MAX);
    return text === undefined ? undefined : Buffer.from(text);
  }

  /**
   * Replaces what is kept by what `choose` makes of it, so that of two that refresh at once the older never wins.
   * @param choose throws to keep what is there
   */
  async replace(name: string, choose: (kept: Buffer | undefined) => Buffer): Promise<void> {
    await this.#withLock(async () => {
      await this.find(name);
      const kept = await this.read(name);
      const wanted = choose(kept);
      if (kept?.equals(wanted) !== true) {
        await writeFileDurably(this.#path(name, FEED_SUFFIX), wanted, { mode: 0o600 });
      }
    });
  }

  /** What killed writers left; the caller holds the home's lock. @returns how many files there were */
  async removeLeftovers(): Promise<number> {
    return (await requirePrivateFolder(this.#folder)) ? removeLeftovers(this.#folder) : 0;
  }

  #path(name: string, suffix: string): string {
    return path.join(this.#folder, `${parseFeedName(name)}${suffix}`);
  }

  #read(file: string, bytesMax: number): Promise<string | undefined> {
    return readGuarded(file, { bytesMax, forbiddenMode: 0o022, repair: 'chmod go-w' });
  }
}
