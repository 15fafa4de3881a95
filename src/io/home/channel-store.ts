import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { parsePackageName } from '../../core/base/ids.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import { onFile, readGuarded, removeLeftovers, writeFileDurably } from './durable-file.ts';
import type { HomeLock } from './home-lock.ts';
import { makePrivateFolder, requirePrivateFolder } from './private-folder.ts';

/** A chain of 256 roots of 4 KiB and every document there may be. */
const FILE_BYTES_MAX = 64 << 20;
const SUFFIX = '.json';

const fileSchema = z.strictObject({
  schemaVersion: z.literal(1),
  name: z.string(),
  /** Metadata and documents as text, byte for byte as they were verified. */
  files: z.record(z.string().min(1).max(512), z.string()),
});

/** Verified channel metadata, as files by name. */
export type StoredChannels = ReadonlyMap<string, Buffer>;

/**
 * `channels`: what was verified last, whoever published it. `published`: what this home published last itself, where
 * nothing gets that a thief of keys has signed.
 */
export type ChannelFolder = 'channels' | 'published';

/** What to do when a file is damaged; nobody can correct signed bytes. */
const REPAIR: Readonly<Record<ChannelFolder, string>> = {
  channels:
    'remove the file: the channels are fetched anew; until then an older state of them is not recognised, and a root that was pinned by hand must be pinned again',
  published: 'remove the file: freehold channel renew goes on from what was verified last (folder channels)',
};

/**
 * A folder of a home with the state of each package's channels, one file for each, so that it changes in one step. It
 * decides what counts as old: whoever may write there can take this memory away.
 */
export class ChannelStore {
  readonly #folder: string;
  readonly #withLock: HomeLock;
  readonly #repair: string;

  constructor(homePath: string, withLock: HomeLock, folder: ChannelFolder = 'channels') {
    this.#folder = path.join(homePath, folder);
    this.#withLock = withLock;
    this.#repair = REPAIR[folder];
  }

  /** @throws CONFIG_INVALID when the file is damaged, PERMISSION_DENIED */
  async load(name: string): Promise<StoredChannels | undefined> {
    const file = this.#file(name);
    if (!(await requirePrivateFolder(this.#folder))) return undefined;
    const text = await readGuarded(file, {
      bytesMax: FILE_BYTES_MAX,
      forbiddenMode: 0o022,
      repair: 'chmod go-w',
    });
    if (text === undefined) return undefined;
    const result = fileSchema.safeParse(this.#parsed(text, file));
    if (!result.success || result.data.name !== name) throw this.#damaged(file, result.error);
    return new Map(Object.entries(result.data.files).map(([title, body]) => [title, Buffer.from(body)]));
  }

  /**
   * Keeps what was verified.
   * @param mayReplace whether it may take the place of what another process has stored meanwhile
   * @throws DISK_FULL, PERMISSION_DENIED, BUSY
   */
  async save(
    name: string,
    files: StoredChannels,
    mayReplace: (stored: StoredChannels) => boolean,
  ): Promise<void> {
    const file = this.#file(name);
    await this.#withLock(async () => {
      await makePrivateFolder(this.#folder);
      await requirePrivateFolder(this.#folder);
      await removeLeftovers(this.#folder);
      const stored = await this.load(name);
      if (stored !== undefined && (isSame(stored, files) || !mayReplace(stored))) return;
      const bodies = Object.fromEntries([...files].map(([title, bytes]) => [title, bytes.toString('utf8')]));
      const text = `${JSON.stringify({ schemaVersion: 1, name, files: bodies })}\n`;
      await writeFileDurably(file, Buffer.from(text), { mode: 0o600 });
    });
  }

  /** Packages of which something is stored, by name. @throws PERMISSION_DENIED */
  async names(): Promise<string[]> {
    if (!(await requirePrivateFolder(this.#folder))) return [];
    const files = await onFile('list', this.#folder, () => readdir(this.#folder));
    return files
      .filter((file) => file.endsWith(SUFFIX) && !file.startsWith('.'))
      .map((file) => file.slice(0, -SUFFIX.length).replaceAll('%2F', '/'))
      .filter(isPackageName)
      .sort();
  }

  #parsed(text: string, file: string): unknown {
    try {
      return parseStrictJson(Buffer.from(text), {
        bytesMax: FILE_BYTES_MAX,
        depthMax: 4,
        code: 'CONFIG_INVALID',
        label: file,
      });
    } catch (error) {
      throw this.#damaged(file, error);
    }
  }

  #damaged(file: string, cause: unknown): FreeholdError {
    return new FreeholdError('CONFIG_INVALID', `${file} is damaged`, { hint: this.#repair, cause });
  }

  /** The one character of package names that folders have a meaning for becomes `%2F`. */
  #file(name: string): string {
    return path.join(this.#folder, `${parsePackageName(name).replaceAll('/', '%2F')}${SUFFIX}`);
  }
}

function isSame(left: StoredChannels, right: StoredChannels): boolean {
  if (left.size !== right.size) return false;
  for (const [title, bytes] of left) if (right.get(title)?.equals(bytes) !== true) return false;
  return true;
}

/** A file that somebody else put there is none of ours. */
function isPackageName(text: string): boolean {
  try {
    return parsePackageName(text) === text;
  } catch {
    return false;
  }
}
