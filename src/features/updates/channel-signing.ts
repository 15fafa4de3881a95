import {
  Metadata,
  MetadataKind,
  MetaFile,
  Root,
  Signature,
  type Snapshot,
  type Targets,
  type Timestamp,
} from '@tufjs/models';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { formatFingerprint, type PrivateKey, type PublicKey, signBytes } from '../../core/crypto/keys.ts';
import { keysOfRole } from './channel-anchor.ts';
import {
  type ChannelFiles,
  type RoleName,
  rootVersionsAmong,
  TIMESTAMP_TITLE,
  versionedTitle,
} from './channel-files.ts';
import {
  channelKey,
  PACKAGE_FIELD,
  requireSoundMetadata,
  tufKey,
  VALID_DAYS_FIELD,
} from './channel-metadata.ts';

const SPEC_VERSION = '1.0.31';
const DAY_MS = 86_400_000;

type AnySigned = Root | Targets | Snapshot | Timestamp;

/** For how many days each role is signed. */
export type ValidDays = Readonly<Record<RoleName, number>>;

/**
 * A stolen mirror can hide a release for as long as the timestamp lasts, and a publisher on holiday must not stop
 * anybody's updates: a month. Root keys lie in a safe and come out once a year.
 */
export const VALID_DAYS_DEFAULT: ValidDays = { root: 365, targets: 180, snapshot: 30, timestamp: 30 };
const VALID_DAYS_MAX = 3650;

/** Which keys a role has, and how many of them must sign. */
export interface RoleKeys {
  readonly keys: readonly PublicKey[];
  readonly threshold: number;
}

/** Root is kept apart; targets say what is released; snapshot and timestamp may lie on the machine that renews. */
export type ChannelKeys = Readonly<Record<RoleName, RoleKeys>>;

export interface SigningOptions {
  /** All private keys at hand. Each role takes those that it knows. */
  readonly keys: readonly PrivateKey[];
  readonly nowMs: number;
}

export interface RootPlan {
  readonly name: string;
  readonly version: number;
  readonly roles: ChannelKeys;
  readonly validDays: ValidDays;
  readonly previous: Metadata<Root> | undefined;
}

export interface PublishOptions extends SigningOptions {
  readonly name: string;
  /** Absent: as each role has it already. */
  readonly validDays?: ValidDays;
  /** Begins the numbers of targets, snapshot and timestamp at 1: only after their keys were exchanged. */
  readonly restartVersions?: boolean;
}

/** A root of the given keys; signed with those of the one before it as well. @throws NOT_FOUND, USAGE, KEY_INVALID */
export function signRoot(plan: RootPlan, options: SigningOptions): [title: string, bytes: Buffer] {
  const { name, version, roles, validDays, previous } = plan;
  const root = new Root({
    ...fields(name, version, validDays.root, options.nowMs),
    consistentSnapshot: true,
  });
  for (const [role, { keys, threshold }] of Object.entries(roles)) {
    for (const key of keys) root.addKey(tufKey(key), role);
    const added = root.roles[role];
    if (added === undefined || threshold < 1 || threshold > keys.length) {
      throw new FreeholdError('USAGE', `${role}: a threshold of ${threshold} with ${keys.length} keys`);
    }
    Reflect.set(added, 'threshold', threshold);
  }
  const metadata = new Metadata(root);
  if (previous !== undefined) signWith(metadata, previous, 'root', options);
  signWith(metadata, metadata, 'root', options);
  const bytes = encodeMetadata(metadata);
  requireSoundMetadata(bytes, 'root', name);
  return [versionedTitle('root', version), bytes];
}

/** Metadata of a role below the root, signed. @throws NOT_FOUND when private keys are missing */
export function signRole(
  signed: Targets | Snapshot | Timestamp,
  root: Metadata<Root>,
  options: SigningOptions & { readonly name: string },
): Buffer {
  const metadata = new Metadata(signed);
  signWith(metadata, root, signed.type, options);
  const bytes = encodeMetadata(metadata);
  requireSoundMetadata(bytes, signed.type, options.name);
  return bytes;
}

/** Signs with every key at hand that the root gives the role; as many as it demands must be there. */
function signWith(
  metadata: Pick<Metadata<Root>, 'sign'>,
  root: Metadata<Root>,
  role: RoleName,
  { keys }: SigningOptions,
): void {
  const wanted = keysOfRole(root.signed, role);
  const threshold = root.signed.roles[role]?.threshold ?? 0;
  let count = 0;
  for (const { key, fingerprint } of wanted) {
    const own = keys.find(({ publicKey }) => publicKey.fingerprint === fingerprint);
    if (own === undefined) continue;
    count++;
    metadata.sign((bytes) => new Signature({ keyID: key.keyID, sig: signBytes(own, bytes).toString('hex') }));
  }
  if (count >= threshold) return;
  const shown = wanted.map(({ fingerprint }) => formatFingerprint(fingerprint)).join(', ');
  throw new FreeholdError(
    'NOT_FOUND',
    `${role} version ${root.signed.version} needs ${threshold} of the keys ${shown}; this home has ${count}`,
    { hint: 'freehold key list shows the keys of this home; use the home that has them (--home)' },
  );
}

const encodeMetadata = (metadata: { readonly toJSON: () => unknown }) =>
  Buffer.from(`${JSON.stringify(metadata.toJSON(), null, 1)}\n`, 'utf8');

/** How other metadata refer to these. */
export const metaFile = (bytes: Buffer, version: number) =>
  new MetaFile({
    version,
    length: bytes.byteLength,
    hashes: { sha256: Digest.hex(Digest.of(bytes)) },
  });

/** What the next metadata of a role have in common with those before. */
export function signedFields(
  role: RoleName,
  before: { readonly signed: AnySigned } | undefined,
  options: PublishOptions,
) {
  const version = options.restartVersions === true ? 1 : (before?.signed.version ?? 0) + 1;
  const days =
    options.validDays?.[role] ??
    (before === undefined ? undefined : daysOf(before.signed)) ??
    VALID_DAYS_DEFAULT[role];
  return fields(options.name, version, days, options.nowMs);
}

function fields(name: string, version: number, days: number, nowMs: number) {
  return {
    specVersion: SPEC_VERSION,
    version,
    expires: `${new Date(nowMs + days * DAY_MS).toISOString().slice(0, 19)}Z`,
    unrecognizedFields: { [PACKAGE_FIELD]: name, [VALID_DAYS_FIELD]: days },
  };
}

/** @returns undefined when the metadata do not say */
export function daysOf({ unrecognizedFields }: AnySigned): number | undefined {
  const days = unrecognizedFields[VALID_DAYS_FIELD];
  return typeof days === 'number' && days >= 1 && days <= VALID_DAYS_MAX ? days : undefined;
}

/** The metadata of one state, parsed. */
export interface CurrentMetadata {
  readonly root: Metadata<Root>;
  readonly targets: Metadata<Targets> | undefined;
  readonly snapshot: Metadata<Snapshot> | undefined;
  readonly timestamp: Metadata<Timestamp> | undefined;
}

/** The newest metadata of each role. @throws CHANNEL_INVALID when there is no root */
export function currentMetadata(files: ChannelFiles): CurrentMetadata {
  const rootVersion = rootVersionsAmong(files.keys()).at(-1) ?? 0;
  const rootBytes = files.get(versionedTitle('root', rootVersion));
  if (rootBytes === undefined) throw new FreeholdError('CHANNEL_INVALID', 'there is no root');
  const read = (role: 'targets' | 'snapshot') => {
    const title = titleOf(files, role);
    return title === undefined ? undefined : parsedJson(files.get(title));
  };
  const [targets, snapshot, timestamp] = [
    read('targets'),
    read('snapshot'),
    parsedJson(files.get(TIMESTAMP_TITLE)),
  ];
  return {
    root: Metadata.fromJSON(MetadataKind.Root, parsedJson(rootBytes) ?? {}),
    targets: targets && Metadata.fromJSON(MetadataKind.Targets, targets),
    snapshot: snapshot && Metadata.fromJSON(MetadataKind.Snapshot, snapshot),
    timestamp: timestamp && Metadata.fromJSON(MetadataKind.Timestamp, timestamp),
  };
}

/** When the first of the roles ends. */
export function earliestExpiry(files: ChannelFiles): string {
  const { root, targets, snapshot, timestamp } = currentMetadata(files);
  const dates = [root, targets, snapshot, timestamp].flatMap((role) => role?.signed.expires ?? []);
  return dates.reduce((least, date) => (date < least ? date : least));
}

type JsonObject = Parameters<typeof Metadata.fromJSON>[1];

/** Of files that a session has verified, or that were made here. */
function parsedJson(bytes: Buffer | undefined): JsonObject | undefined {
  return bytes === undefined ? undefined : (JSON.parse(bytes.toString('utf8')) as JsonObject);
}

function titleOf(files: ChannelFiles, role: 'targets' | 'snapshot'): string | undefined {
  return [...files.keys()].find((title) => new RegExp(`^\\d+\\.${role}\\.json$`).test(title));
}

/** The keys and thresholds that a root gives its roles. */
export function rolesOf({ signed }: Metadata<Root>): ChannelKeys {
  const of = (role: RoleName): RoleKeys => ({
    keys: keysOfRole(signed, role).map(({ key }) => channelKey(key.keyVal.public ?? '', key.keyID)),
    threshold: signed.roles[role]?.threshold ?? 1,
  });
  return { root: of('root'), targets: of('targets'), snapshot: of('snapshot'), timestamp: of('timestamp') };
}
