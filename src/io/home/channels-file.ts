import path from 'node:path';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { parsePackageName } from '../../core/base/ids.ts';
import { parseRepository, type RepositoryName, repositoryText } from '../../core/base/registry-reference.ts';
import { textParsedBy } from '../../core/base/schema-text.ts';
import { parseChannelName } from '../../core/format/channel-documents.ts';
import { readGuarded, removeLeftovers, writeFileDurably } from './durable-file.ts';
import type { HomeLock } from './home-lock.ts';

export const CHANNELS_FILE_NAME = 'channels.yaml';
const FILE_BYTES_MAX = 1 << 20;
const HEADER =
  ' Which channel each package follows, and where own ones are published. freehold changes it, and so may you.';

const followedSchema = z.strictObject({
  from: textParsedBy(parseRepository),
  channel: textParsedBy(parseChannelName),
});
const fileSchema = z.strictObject({
  packages: z.record(textParsedBy(parsePackageName), followedSchema).default({}),
  published: z.record(textParsedBy(parsePackageName), textParsedBy(parseRepository)).default({}),
});

/** Where a package's channels are, and which of them this home follows. */
export type FollowedChannel = z.infer<typeof followedSchema>;

/** The file `channels.yaml` of a home. People edit it too: their comments and order stay. */
export class ChannelsFile {
  readonly path: string;
  readonly #withLock: HomeLock;

  constructor(homePath: string, withLock: HomeLock) {
    this.path = path.join(homePath, CHANNELS_FILE_NAME);
    this.#withLock = withLock;
  }

  /** By package name. An absent file follows nothing. @throws CONFIG_INVALID, PERMISSION_DENIED */
  async load(): Promise<ReadonlyMap<string, FollowedChannel>> {
    return new Map(Object.entries((await this.#parsed()).packages));
  }

  /** Where this home publishes the channels of its own packages, by name. @throws CONFIG_INVALID, PERMISSION_DENIED */
  async published(): Promise<ReadonlyMap<string, RepositoryName>> {
    return new Map(Object.entries((await this.#parsed()).published));
  }

  /** @throws CONFIG_INVALID, DISK_FULL, PERMISSION_DENIED, BUSY */
  async publish(name: string, to: RepositoryName): Promise<void> {
    await this.#change((document) => document.setIn(['published', name], repositoryText(to)));
  }

  /** @throws CONFIG_INVALID, DISK_FULL, PERMISSION_DENIED, BUSY */
  async follow(name: string, { from, channel }: FollowedChannel): Promise<void> {
    await this.#change((document) =>
      document.setIn(['packages', parsePackageName(name)], {
        from: repositoryText(from),
        channel,
      }),
    );
  }

  /** @throws NOT_FOUND, CONFIG_INVALID, DISK_FULL, PERMISSION_DENIED, BUSY */
  async unfollow(name: string): Promise<void> {
    if (!(await this.load()).has(name)) {
      throw new FreeholdError('NOT_FOUND', `${name} follows no channel`, { hint: `see ${this.path}` });
    }
    await this.#change((document) => document.deleteIn(['packages', name]));
  }

  async #parsed(): Promise<z.infer<typeof fileSchema>> {
    const text = await this.#read();
    if (text === '') return { packages: {}, published: {} };
    const { parseConfigYaml } = await import('../../core/base/config-file.ts');
    return parseConfigYaml(text, fileSchema, this.path);
  }

  async #read(): Promise<string> {
    const guard = { bytesMax: FILE_BYTES_MAX, forbiddenMode: 0o022, repair: 'chmod go-w' };
    return (await readGuarded(this.path, guard)) ?? '';
  }

  async #change(edit: (document: import('yaml').Document) => void): Promise<void> {
    await this.#withLock(async () => {
      await this.#parsed();
      const { parseDocument } = await import('yaml');
      const document = parseDocument(await this.#read());
      if (document.contents === null) document.commentBefore = HEADER;
      edit(document);
      await removeLeftovers(path.dirname(this.path));
      const text = document.toString({ lineWidth: 0 });
      await writeFileDurably(this.path, Buffer.from(text), { mode: 0o600 });
    });
  }
}
