import { createHash } from 'node:crypto';
import { Key } from '@tufjs/models';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseJsonDocument } from '../../core/base/json-document.ts';
import { type Fingerprint, type PublicKey, parsePublicKey } from '../../core/crypto/keys.ts';
import {
  ADVISORIES_MAX,
  CHANNEL_DOCUMENT_BYTES_MAX,
  CHANNELS_MAX,
  otherPackage,
  utcTimeSchema,
} from '../../core/format/channel-documents.ts';

import { METADATA_BYTES_MAX, type RoleName } from './channel-files.ts';

/** Which package the metadata are about: without it, one package's channels would pass for those of another. */
export const PACKAGE_FIELD = 'x-freehold-package';
/** For how many days a role is signed each time, so that a renewal needs no options. */
export const VALID_DAYS_FIELD = 'x-freehold-valid-days';

const METADATA_DEPTH_MAX = 12;
const KEYS_MAX = 32;
const DOCUMENTS_MAX = CHANNELS_MAX + ADVISORIES_MAX + 1;
/** TUF's schemes for ECDSA that tuf-js verifies; the curve P-521 has none. */
const SCHEMES = { 'P-256': 'ecdsa-sha2-nistp256', 'P-384': 'ecdsa-sha2-nistp384' } as const;

const hex64 = z.string().regex(/^[0-9a-f]{64}$/);
const version = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const fileSchema = z.strictObject({
  length: z.number().int().min(1).max(CHANNEL_DOCUMENT_BYTES_MAX),
  hashes: z.strictObject({ sha256: hex64 }),
});
const metaFileSchema = fileSchema.extend({ version });
const roleSchema = z
  .strictObject({ keyids: z.array(hex64).min(1).max(KEYS_MAX), threshold: z.number().int().min(1) })
  .refine(({ keyids, threshold }) => threshold <= keyids.length, 'a threshold above the number of keys');
const keySchema = z.strictObject({
  keytype: z.literal('ecdsa'),
  scheme: z.enum([SCHEMES['P-256'], SCHEMES['P-384']]),
  keyval: z.strictObject({ public: z.string().max(2048) }),
});

// Loose: TUF 1.0 allows further fields in what is signed, and keeps them under the signature.
const signedBase = {
  spec_version: z.string().regex(/^1\.\d{1,3}(?:\.\d{1,3})?$/),
  version,
  expires: utcTimeSchema,
  [PACKAGE_FIELD]: z.string(),
};
const bodies = {
  root: z.looseObject({
    _type: z.literal('root'),
    ...signedBase,
    consistent_snapshot: z.literal(true),
    keys: z.record(hex64, keySchema).refine((keys) => Object.keys(keys).length <= KEYS_MAX, 'too many keys'),
    roles: z.strictObject({
      root: roleSchema,
      targets: roleSchema,
      snapshot: roleSchema,
      timestamp: roleSchema,
    }),
  }),
  targets: z.looseObject({
    _type: z.literal('targets'),
    ...signedBase,
    targets: z
      .record(z.string().max(255), fileSchema)
      .refine((targets) => Object.keys(targets).length <= DOCUMENTS_MAX, 'too many documents'),
    delegations: z.never('channels delegate to nobody').optional(),
  }),
  snapshot: z.looseObject({
    _type: z.literal('snapshot'),
    ...signedBase,
    meta: z.strictObject({ 'targets.json': metaFileSchema }),
  }),
  timestamp: z.looseObject({
    _type: z.literal('timestamp'),
    ...signedBase,
    meta: z.strictObject({ 'snapshot.json': metaFileSchema }),
  }),
};
const signaturesSchema = z
  .array(z.strictObject({ keyid: hex64, sig: z.string().regex(/^(?:[0-9a-f]{2}){1,256}$/) }))
  .max(KEYS_MAX);

/** What of metadata matters before its signatures are verified. */
export interface MetadataFacts {
  readonly version: number;
  readonly expires: string;
}

/**
 * Looks at metadata before tuf-js does, which reads leniently: one meaning only, sizes and counts bounded, of the package
 * that was asked for, nothing that channels do not use (delegations, other kinds of keys), and no key that counts twice
 * towards a threshold. Proves nothing about who signed it.
 * @throws CHANNEL_INVALID
 */
export function requireSoundMetadata(bytes: Buffer, role: RoleName, name: string): MetadataFacts {
  const envelope = z.strictObject({ signed: bodies[role], signatures: signaturesSchema });
  const { signed } = parseJsonDocument(bytes, envelope, {
    bytesMax: METADATA_BYTES_MAX[role],
    depthMax: METADATA_DEPTH_MAX,
    code: 'CHANNEL_INVALID',
    label: role,
  });
  if (signed[PACKAGE_FIELD] !== name) throw otherPackage(role, signed[PACKAGE_FIELD], name);
  if (signed._type === 'root') requireDistinctKeys(signed.keys);
  return { version: signed.version, expires: signed.expires };
}

/** One key under two ids would reach a threshold of two by itself. */
function requireDistinctKeys(keys: Readonly<Record<string, z.infer<typeof keySchema>>>): void {
  const seen = new Set<Fingerprint>();
  for (const [id, { keyval }] of Object.entries(keys)) {
    const { fingerprint } = channelKey(keyval.public, id);
    if (seen.has(fingerprint)) throw new FreeholdError('CHANNEL_INVALID', 'root: lists one key twice');
    seen.add(fingerprint);
  }
}

/** @throws CHANNEL_INVALID */
export function channelKey(pem: string, id: string): PublicKey {
  try {
    return parsePublicKey(pem, `the key ${id.slice(0, 8)}`);
  } catch (error) {
    throw new FreeholdError('CHANNEL_INVALID', `root: the key ${id.slice(0, 8)} cannot be read`, {
      cause: error,
    });
  }
}

/** A key as TUF writes it. @throws KEY_INVALID for the curve P-521 */
export function tufKey({ curve, pem }: PublicKey): Key {
  if (curve === 'P-521') {
    throw new FreeholdError('KEY_INVALID', 'a key on P-521 cannot sign channels', {
      hint: 'freehold key new NAME makes one on P-256',
    });
  }
  const scheme = SCHEMES[curve];
  // TUF 1.0, "File formats: general principles": the id is the SHA-256 of the key's canonical JSON.
  const canonical = `{"keytype":"ecdsa","keyval":{"public":"${pem}"},"scheme":"${scheme}"}`;
  return new Key({
    keyID: createHash('sha256').update(canonical).digest('hex'),
    keyType: 'ecdsa',
    scheme,
    keyVal: { public: pem },
  });
}
