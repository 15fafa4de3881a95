import type { Metadata, Root } from '@tufjs/models';
import { BadVersionError, EqualVersionError, ExpiredMetadataError } from 'tuf-js/dist/error.js';
import { TrustedMetadataStore } from 'tuf-js/dist/store.js';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import {
  type AnyChannelDocument,
  type ChannelContents,
  channelContents,
  parseChannelDocument,
} from '../../core/format/channel-documents.ts';
import {
  type ChannelFileSource,
  type ChannelFiles,
  documentTitle,
  METADATA_BYTES_MAX,
  ROOT_ROTATIONS_MAX,
  type RoleName,
  rootVersionsAmong,
  TIMESTAMP_TITLE,
  versionedTitle,
} from './channel-files.ts';
import { requireSoundMetadata } from './channel-metadata.ts';

export interface SessionOptions {
  /** Of the package: metadata about another one are refused. */
  readonly name: string;
  /** What was verified before, with one root at least; the newest is the anchor. */
  readonly trusted: ChannelFiles;
  /** Against which expiry is judged; all of a session at one time (TUF 1.0 §5.1). */
  readonly nowMs: number;
}

/**
 * The client's workflow of TUF 1.0 (§5) over tuf-js's TrustedMetadataStore, which verifies signatures, thresholds,
 * versions, hashes and expiry. tuf-js's own Updater is not used: it writes files by itself, in place, and takes the wall
 * clock. What a session has verified so far can be taken out of it at any time, also after a refusal: a root that was
 * rotated stays rotated.
 */
export class ChannelSession {
  readonly #name: string;
  readonly #now: Date;
  readonly #files: Map<string, Buffer>;
  readonly #store: TrustedMetadataStore;
  readonly #firstRoot: Metadata<Root>;
  #documents: readonly AnyChannelDocument[] = [];

  /** @throws CHANNEL_INVALID when the trusted root is damaged, NOT_FOUND when there is none */
  constructor({ name, trusted, nowMs }: SessionOptions) {
    this.#name = name;
    this.#now = new Date(nowMs);
    this.#files = new Map(trusted);
    const anchor = this.#files.get(versionedTitle('root', rootVersionsAmong(trusted.keys()).at(-1) ?? 0));
    if (anchor === undefined) throw new FreeholdError('NOT_FOUND', `no root is trusted for ${name}`);
    this.#store = this.#check('root', anchor, () => new TrustedMetadataStore(anchor));
    // The store takes the wall clock when it is made; a test holds that this is how it is given another.
    Reflect.set(this.#store, 'referenceTime', this.#now);
    this.#firstRoot = this.#store.root;
  }

  /** Everything verified so far: what to keep for the next session. */
  get trusted(): ChannelFiles {
    return new Map(this.#files);
  }

  /** What the newest verified metadata say; empty before `refresh` has succeeded. */
  get contents(): ChannelContents {
    return channelContents(this.#documents);
  }

  /**
   * Brings everything up to date from a source.
   * @throws CHANNEL_INVALID, CHANNEL_EXPIRED, CHANNEL_ROLLBACK; whatever the source throws
   */
  async refresh(source: ChannelFileSource): Promise<void> {
    await this.#refreshRoot(source);
    await this.#refreshTimestamp(source);
    await this.#refreshSnapshot(source);
    await this.#refreshTargets(source);
  }

  /** TUF 1.0 §5.3: one step at a time, each root signed by the one before it and by itself. */
  async #refreshRoot(source: ChannelFileSource): Promise<void> {
    for (let step = 0; step < ROOT_ROTATIONS_MAX; step++) {
      const title = versionedTitle('root', this.#store.root.signed.version + 1);
      const bytes = await source.read(title, METADATA_BYTES_MAX.root);
      if (bytes === undefined) break;
      this.#check('root', bytes, () => this.#store.updateRoot(bytes));
      this.#files.set(title, bytes);
    }
    const { signed } = this.#store.root;
    if (signed.isExpired(this.#now)) throw this.#expired('root', signed.expires);
    // §5.3.11, recovery from a fast-forward attack: versions that a lost key drove up no longer count.
    if (!hasSameKeys(this.#firstRoot, this.#store.root)) {
      this.#remove(/^(?:timestamp|\d+\.snapshot)\.json$/);
    }
  }

  /** §5.4. */
  async #refreshTimestamp(source: ChannelFileSource): Promise<void> {
    const known = this.#files.get(TIMESTAMP_TITLE);
    // Kept for comparison even where it has expired.
    if (known !== undefined) this.#attempt(() => this.#store.updateTimestamp(known));
    const bytes = await this.#read(source, TIMESTAMP_TITLE, 'timestamp');
    try {
      this.#check('timestamp', bytes, () => this.#store.updateTimestamp(bytes));
    } catch (error) {
      if (!(error instanceof FreeholdError) || !(error.cause instanceof EqualVersionError)) throw error;
      // Nothing new, which is fine for as long as the known one lasts: longer is a freeze attack (§5.4.4).
      const { signed } = this.#store.timestamp ?? {};
      if (signed?.isExpired(this.#now)) throw this.#expired('timestamp', signed.expires);
      return;
    }
    this.#files.set(TIMESTAMP_TITLE, bytes);
  }

  /** §5.5. */
  async #refreshSnapshot(source: ChannelFileSource): Promise<void> {
    const known = this.#stored('snapshot');
    if (known !== undefined && this.#attempt(() => this.#store.updateSnapshot(known, true))) return;
    const wanted = this.#store.timestamp?.signed.snapshotMeta.version ?? 0;
    const title = versionedTitle('snapshot', wanted);
    const bytes = await this.#read(source, title, 'snapshot');
    this.#check('snapshot', bytes, () => this.#store.updateSnapshot(bytes), wanted);
    this.#remove(/^\d+\.snapshot\.json$/);
    this.#files.set(title, bytes);
  }

  /** §5.6 and §5.7: the targets and the documents come together or not at all. */
  async #refreshTargets(source: ChannelFileSource): Promise<void> {
    const known = this.#stored('targets');
    const update = (bytes: Buffer) => this.#store.updateDelegatedTargets(bytes, 'targets', 'root');
    const isKnown = known !== undefined && this.#attempt(() => update(known));
    const wanted = this.#store.snapshot?.signed.meta['targets.json']?.version ?? 0;
    const title = versionedTitle('targets', wanted);
    const bytes = isKnown ? known : await this.#read(source, title, 'targets');
    if (!isKnown) this.#check('targets', bytes, () => update(bytes), wanted);
    const documents: AnyChannelDocument[] = [];
    const files = new Map([[title, bytes]]);
    for (const [path, { length, hashes }] of Object.entries(this.#store.targets?.signed.targets ?? {})) {
      const digest = Digest.fromHex(hashes.sha256 ?? '');
      const titleOfDocument = documentTitle(path, digest);
      const content = this.#files.get(titleOfDocument) ?? (await source.read(titleOfDocument, length));
      if (content === undefined) throw missing(source, path);
      if (content.byteLength !== length || Digest.of(content) !== digest) {
        throw new FreeholdError('CHANNEL_INVALID', `${path} from ${source.label} is not what was signed`, {
          detail: { expected: digest, actual: Digest.of(content) },
        });
      }
      documents.push(parseChannelDocument(content, path, this.#name));
      files.set(titleOfDocument, content);
    }
    this.#remove(/^(?!\d+\.(?:root|snapshot)\.json$|timestamp\.json$)/);
    for (const [name, content] of files) this.#files.set(name, content);
    this.#documents = documents;
  }

  #stored(role: 'snapshot' | 'targets'): Buffer | undefined {
    const title = [...this.#files.keys()].find((name) => new RegExp(`^\\d+\\.${role}\\.json$`).test(name));
    return title === undefined ? undefined : this.#files.get(title);
  }

  #remove(titles: RegExp): void {
    for (const title of this.#files.keys()) if (titles.test(title)) this.#files.delete(title);
  }

  async #read(source: ChannelFileSource, title: string, role: RoleName): Promise<Buffer> {
    const bytes = await source.read(title, METADATA_BYTES_MAX[role]);
    if (bytes === undefined) throw missing(source, title);
    return bytes;
  }

  /** What was stored before is used where it still counts; that it does not is no error. */
  #attempt(step: () => unknown): boolean {
    try {
      step();
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Runs one step of tuf-js and gives its refusals our codes.
   * @param wanted the version that other metadata say this has: another one is a mixture of two states
   */
  #check<Result>(role: RoleName, bytes: Buffer, step: () => Result, wanted?: number): Result {
    const { version, expires } = requireSoundMetadata(bytes, role, this.#name);
    try {
      return step();
    } catch (error) {
      if (error instanceof ExpiredMetadataError) throw this.#expired(role, expires, error);
      const reason = error instanceof Error ? error.message : String(error);
      const isMixed = wanted !== undefined && version !== wanted;
      if (error instanceof BadVersionError && role !== 'root' && !isMixed) {
        throw new FreeholdError(
          'CHANNEL_ROLLBACK',
          `the channels of ${this.#name} are older than those seen before: ${reason}`,
          { cause: error, detail: { role, version } },
        );
      }
      throw new FreeholdError('CHANNEL_INVALID', `${role} of the channels of ${this.#name}: ${reason}`, {
        cause: error,
        detail: { role, version },
      });
    }
  }

  #expired(role: RoleName, expires: string, cause?: unknown): FreeholdError {
    return new FreeholdError(
      'CHANNEL_EXPIRED',
      `the channels of ${this.#name} ended on ${expires.slice(0, 10)} (${role})`,
      { cause, detail: { role, expires, now: this.#now.toISOString() } },
    );
  }
}

function missing(source: ChannelFileSource, title: string): FreeholdError {
  return new FreeholdError('CHANNEL_INVALID', `${source.label} has no ${quoted(title)}`, {
    hint: 'the channels were copied in part; copy the whole artifact freehold-channels again',
  });
}

function hasSameKeys(before: Metadata<Root>, after: Metadata<Root>): boolean {
  const keysOf = ({ signed: { roles } }: Metadata<Root>) =>
    JSON.stringify([roles.timestamp, roles.snapshot].map((role) => role?.toJSON()));
  return keysOf(before) === keysOf(after);
}
