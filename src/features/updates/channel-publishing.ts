import { Snapshot, TargetFile, Targets, Timestamp } from '@tufjs/models';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import {
  ADVISORIES_MAX,
  type AnyChannelDocument,
  CHANNELS_MAX,
  channelDocumentPath,
  encodeChannelDocument,
} from '../../core/format/channel-documents.ts';
import { rootsOf } from './channel-contents.ts';
import { type ChannelFiles, documentTitle, TIMESTAMP_TITLE, versionedTitle } from './channel-files.ts';
import {
  type ChannelKeys,
  type CurrentMetadata,
  currentMetadata,
  daysOf,
  metaFile,
  type PublishOptions,
  rolesOf,
  type SigningOptions,
  signedFields,
  signRole,
  signRoot,
  VALID_DAYS_DEFAULT,
  type ValidDays,
} from './channel-signing.ts';

/**
 * The first metadata of a package, with no channel in them yet.
 * @throws NOT_FOUND when private keys are missing, KEY_INVALID
 */
export function createChannels(
  name: string,
  roles: ChannelKeys,
  validDays: ValidDays,
  options: SigningOptions,
): ChannelFiles {
  const rootFile = signRoot({ name, version: 1, roles, validDays, previous: undefined }, options);
  return publishDocuments(new Map([rootFile]), [], { ...options, name, validDays });
}

/**
 * The next targets, snapshot and timestamp.
 * @param files verified ones
 * @param documents all that shall be; absent: as they are
 * @throws NOT_FOUND when private keys are missing, CHANNEL_INVALID when there are too many documents
 */
export function publishDocuments(
  files: ChannelFiles,
  documents: readonly AnyChannelDocument[],
  options: PublishOptions,
): ChannelFiles {
  requireFew(documents);
  const now = currentMetadata(files);
  const contents = new Map<string, Buffer>();
  const targets: Record<string, TargetFile> = {};
  for (const document of documents) {
    const bytes = encodeChannelDocument(document);
    const path = channelDocumentPath(document);
    const digest = Digest.of(bytes);
    contents.set(documentTitle(path, digest), bytes);
    targets[path] = new TargetFile({
      path,
      length: bytes.byteLength,
      hashes: { sha256: Digest.hex(digest) },
    });
  }
  const common = signedFields('targets', now.targets, options);
  const bytes = signRole(new Targets({ ...common, targets }), now.root, options);
  const title = versionedTitle('targets', common.version);
  const kept = rootsOf(files).map((root): [string, Buffer] => [
    versionedTitle('root', root.version),
    root.bytes,
  ]);
  return renew(new Map([...kept, ...contents, [title, bytes]]), now, options);
}

/**
 * The next snapshot and timestamp over the same targets, which last longer then.
 * @throws NOT_FOUND when private keys are missing
 */
export function renewChannels(files: ChannelFiles, options: PublishOptions): ChannelFiles {
  return renew(files, currentMetadata(files), options);
}

function renew(files: ChannelFiles, now: CurrentMetadata, options: PublishOptions): ChannelFiles {
  const [targetsVersion, targetsBytes] = fileOf(files);
  const snapshotFields = signedFields('snapshot', now.snapshot, options);
  const snapshotBytes = signRole(
    new Snapshot({
      ...snapshotFields,
      meta: { 'targets.json': metaFile(targetsBytes, targetsVersion) },
    }),
    now.root,
    options,
  );
  const timestampBytes = signRole(
    new Timestamp({
      ...signedFields('timestamp', now.timestamp, options),
      snapshotMeta: metaFile(snapshotBytes, snapshotFields.version),
    }),
    now.root,
    options,
  );
  const kept = [...files].filter(
    ([title]) => title !== TIMESTAMP_TITLE && !/^\d+\.snapshot\.json$/.test(title),
  );
  return new Map([
    ...kept,
    [versionedTitle('snapshot', snapshotFields.version), snapshotBytes],
    [TIMESTAMP_TITLE, timestampBytes],
  ]);
}

export interface RotationOptions extends PublishOptions {
  /** Absent: the same keys, with a later expiry. */
  readonly roles?: Partial<ChannelKeys>;
}

/**
 * The next root, signed with the keys of the one before it and with its own, and everything below it signed anew.
 * @throws NOT_FOUND when private keys are missing: those of the last root are needed as well
 */
export function rotateRoot(
  files: ChannelFiles,
  documents: readonly AnyChannelDocument[],
  options: RotationOptions,
): ChannelFiles {
  const { root } = currentMetadata(files);
  const roles = { ...rolesOf(root), ...options.roles };
  const validDays = options.validDays ?? {
    ...VALID_DAYS_DEFAULT,
    root: daysOf(root.signed) ?? VALID_DAYS_DEFAULT.root,
  };
  const version = root.signed.version + 1;
  const [title, bytes] = signRoot({ name: options.name, version, roles, validDays, previous: root }, options);
  return publishDocuments(new Map([...files, [title, bytes]]), documents, options);
}

function fileOf(files: ChannelFiles): [version: number, bytes: Buffer] {
  for (const [title, bytes] of files) {
    const version = /^(\d+)\.targets\.json$/.exec(title)?.[1];
    if (version !== undefined) return [Number(version), bytes];
  }
  throw new FreeholdError('CHANNEL_INVALID', 'there are no targets');
}

/** What customers' sides would refuse must not be signed. */
function requireFew(documents: readonly AnyChannelDocument[]): void {
  const count = (kind: AnyChannelDocument['kind']) =>
    documents.filter((document) => document.kind === kind).length;
  for (const [kind, most] of [
    ['channel', CHANNELS_MAX],
    ['advisory', ADVISORIES_MAX],
  ] as const) {
    if (count(kind) <= most) continue;
    throw new FreeholdError(
      'CHANNEL_INVALID',
      `${count(kind)} documents of the kind ${kind}, at most ${most} are read`,
      {
        hint:
          kind === 'advisory'
            ? 'withdraw old ones: freehold channel advise --withdraw ID'
            : 'remove channels that nobody follows',
      },
    );
  }
}
