import path from 'node:path';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { compareVersions, parsePackageName, parseVersion } from '../../core/base/ids.ts';
import { textParsedBy } from '../../core/base/schema-text.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import { readGuarded, removeLeftovers, writeFileDurably } from './durable-file.ts';
import type { HomeLock } from './home-lock.ts';

const FILE_NAME = 'declined.json';
const FILE_BYTES_MAX = 1 << 20;
/** Newer ones count more: a channel offers its newest, and 8 at most. */
const VERSIONS_MAX = 16;

const declinedSchema = z.strictObject({
  version: textParsedBy(parseVersion),
  reason: z.enum(['refused', 'rolled-back']),
});
const fileSchema = z.strictObject({
  schemaVersion: z.literal(1),
  packages: z.record(textParsedBy(parsePackageName), z.array(declinedSchema).max(VERSIONS_MAX)),
});

/** A version that went from here, and why. */
export type DeclinedVersion = z.infer<typeof declinedSchema>;

/**
 * The file `declined.json` of a home: versions that a suite refused here or that were rolled back, so that removing one from
 * the store does not bring it back with the next update.
 */
export class DeclinedVersions {
  readonly #file: string;
  readonly #withLock: HomeLock;

  constructor(homePath: string, withLock: HomeLock) {
    this.#file = path.join(homePath, FILE_NAME);
    this.#withLock = withLock;
  }

  /** @throws CONFIG_INVALID when the file is damaged, PERMISSION_DENIED */
  async of(name: string): Promise<readonly DeclinedVersion[]> {
    return (await this.#load())[name] ?? [];
  }

  /** @throws CONFIG_INVALID, DISK_FULL, PERMISSION_DENIED, BUSY */
  async add(name: string, declined: DeclinedVersion): Promise<void> {
    await this.#change(name, (before) =>
      [...before.filter(({ version }) => version !== declined.version), declined]
        .sort((left, right) => compareVersions(right.version, left.version))
        .slice(0, VERSIONS_MAX),
    );
  }

  /** A version was taken after all, or is older than one that was taken: nothing up to it needs to be remembered. */
  async forgetUpTo(name: string, version: string): Promise<void> {
    if ((await this.of(name)).every((item) => compareVersions(item.version, version) > 0)) return;
    await this.#change(name, (before) => before.filter((item) => compareVersions(item.version, version) > 0));
  }

  async #change(
    name: string,
    edit: (before: readonly DeclinedVersion[]) => readonly DeclinedVersion[],
  ): Promise<void> {
    await this.#withLock(async () => {
      const { [name]: before = [], ...others } = await this.#load();
      const after = edit(before);
      const packages = after.length === 0 ? others : { ...others, [name]: after };
      await removeLeftovers(path.dirname(this.#file));
      const text = `${JSON.stringify({ schemaVersion: 1, packages }, null, 2)}\n`;
      await writeFileDurably(this.#file, Buffer.from(text), { mode: 0o600 });
    });
  }

  async #load(): Promise<Readonly<Record<string, readonly DeclinedVersion[]>>> {
    const guard = { bytesMax: FILE_BYTES_MAX, forbiddenMode: 0o022, repair: 'chmod go-w' };
    const text = await readGuarded(this.#file, guard);
    if (text === undefined) return {};
    try {
      const json = parseStrictJson(Buffer.from(text), {
        bytesMax: FILE_BYTES_MAX,
        depthMax: 6,
        code: 'CONFIG_INVALID',
        label: this.#file,
      });
      return fileSchema.parse(json).packages;
    } catch (cause) {
      throw new FreeholdError('CONFIG_INVALID', `${this.#file} is damaged`, {
        hint: 'remove the file: versions that were declined here and removed since may then be taken again',
        cause,
      });
    }
  }
}
