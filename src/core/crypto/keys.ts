import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';

/** The curves of OpenSSF Model Signing v1.0 (algorithm registry), by OpenSSL's names, each with its hash. */
const CURVES = {
  prime256v1: { name: 'P-256', hash: 'sha256' },
  secp384r1: { name: 'P-384', hash: 'sha384' },
  secp521r1: { name: 'P-521', hash: 'sha512' },
} as const;

export type Curve = (typeof CURVES)[keyof typeof CURVES]['name'];

declare const fingerprintBrand: unique symbol;

/**
 * 64 lower-case hexadecimal digits: SHA-256 of the PEM text of the public key (SubjectPublicKeyInfo, uncompressed
 * point, 64 columns, newline at the end). The same that OpenSSF Model Signing puts into `publicKey.hint`, and what
 * `sha256sum NAME.pub` prints.
 */
export type Fingerprint = string & { readonly [fingerprintBrand]: 'Fingerprint' };

export interface PublicKey {
  readonly kind: 'public-key';
  readonly curve: Curve;
  readonly fingerprint: Fingerprint;
  /** Canonical text: two PEM texts of one key become equal. */
  readonly pem: string;
  readonly keyObject: KeyObject;
}

export interface PrivateKey {
  readonly kind: 'private-key';
  readonly publicKey: PublicKey;
  readonly keyObject: KeyObject;
}

/** A PEM text with a P-521 key, comments included, stays under 2 KiB. */
export const KEY_PEM_CHARACTERS_MAX = 16 << 10;

/** A new ECDSA P-256 pair, from the randomness of `node:crypto`. */
export function generatePrivateKey(): PrivateKey {
  return privateKeyOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, 'the new key');
}

/** PKCS #8 PEM, without a passphrase. */
export function encodePrivateKey(key: PrivateKey): string {
  return key.keyObject.export({ format: 'pem', type: 'pkcs8' }) as string;
}

/**
 * Reads `PUBLIC KEY` PEM text.
 * @param label where the text comes from, for messages; the text itself is never shown
 * @param options.derive takes a private key as well and derives the public one: only where the caller's user clearly
 *   named a file of theirs, because a private key that was handed over by mistake should be noticed
 * @throws KEY_INVALID
 */
export function parsePublicKey(pem: string, label: string, options: { derive?: boolean } = {}): PublicKey {
  const block = onePemBlock(pem, label);
  if (block.type !== 'PUBLIC KEY') {
    if (!isPrivateType(block.type)) throw wrongType(block.type, label, 'a public key');
    if (options.derive === true) return parsePrivateKey(pem, label).publicKey;
    throw new FreeholdError('KEY_INVALID', `${label}: holds a private key where a public one is wanted`, {
      hint: 'give the .pub file; whoever has the private key can sign in its owner’s name',
    });
  }
  return publicKeyOf(
    read(() => createPublicKey(block.text), label),
    label,
  );
}

/**
 * Reads `PRIVATE KEY` (PKCS #8) or `EC PRIVATE KEY` (SEC 1) PEM text without a passphrase.
 * @throws KEY_INVALID
 */
export function parsePrivateKey(pem: string, label: string): PrivateKey {
  const block = onePemBlock(pem, label);
  if (!isPrivateType(block.type)) throw wrongType(block.type, label, 'a private key');
  return privateKeyOf(
    read(() => createPrivateKey(block.text), label),
    label,
  );
}

/** DER signature (ECDSA-Sig-Value) over the bytes, with the hash that belongs to the key's curve. */
export function signBytes(key: PrivateKey, bytes: Uint8Array): Buffer {
  return sign(hashOf(key.publicKey.curve), bytes, key.keyObject);
}

/** True when `signature` (DER) is one over exactly these bytes. */
export function isSignedBy(key: PublicKey, bytes: Uint8Array, signature: Uint8Array): boolean {
  return verify(hashOf(key.curve), bytes, key.keyObject, signature);
}

/** For people to compare: `SHA256:ab12 cd34 …`, 16 groups of four. */
export function formatFingerprint(fingerprint: Fingerprint): string {
  return `SHA256:${fingerprint.match(/.{4}/g)?.join(' ')}`;
}

/**
 * Reads 64 hexadecimal digits or what `formatFingerprint` shows; blanks, colons and case do not matter.
 * @throws KEY_INVALID
 */
export function parseFingerprint(text: string): Fingerprint {
  const hex = text
    .slice(0, 200)
    .replace(/^\s*sha256:/i, '')
    .replace(/[\s:]/g, '')
    .toLowerCase();
  if (!isFingerprint(hex)) {
    throw new FreeholdError('KEY_INVALID', `not a fingerprint: ${quoted(text)}`, {
      hint: 'SHA256: and 64 hexadecimal digits, as freehold key list shows it',
    });
  }
  return hex;
}

export function isFingerprint(text: string): text is Fingerprint {
  return /^[0-9a-f]{64}$/.test(text);
}

interface PemBlock {
  readonly type: string;
  readonly text: string;
}

const isPrivateType = (type: string) => type === 'PRIVATE KEY' || type === 'EC PRIVATE KEY';

/**
 * The one PEM block of a text. Two keys in one file are refused: which of them counts would depend on the reader.
 * `EC PARAMETERS`, which `openssl ecparam -genkey` puts before the key, only repeat the curve.
 */
function onePemBlock(text: string, label: string): PemBlock {
  if (text.length > KEY_PEM_CHARACTERS_MAX) {
    throw invalid(`${label}: ${text.length} characters, at most ${KEY_PEM_CHARACTERS_MAX} for a key`);
  }
  const blocks = [
    ...text.matchAll(/^-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n[A-Za-z0-9+/=\r\n]*^-----END \1-----/gm),
  ]
    .map((match): PemBlock => ({ type: match[1] ?? '', text: match[0] }))
    .filter(({ type }) => type !== 'EC PARAMETERS');
  const [block] = blocks;
  if (block === undefined) {
    if (/^-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text)) throw encrypted(label);
    throw invalid(`${label}: holds no PEM key`);
  }
  if (blocks.length > 1) throw invalid(`${label}: holds ${blocks.length} PEM blocks, a key file has one`);
  if (block.type === 'ENCRYPTED PRIVATE KEY') throw encrypted(label);
  return block;
}

const invalid = (message: string, cause?: unknown) => new FreeholdError('KEY_INVALID', message, { cause });

const encrypted = (label: string) =>
  new FreeholdError(
    'KEY_INVALID',
    `${label}: the private key is protected by a passphrase, which is not supported`,
    {
      hint: 'openssl pkcs8 -topk8 -nocrypt -in KEY -out PLAIN writes it without; keep that file at mode 0600',
    },
  );

function wrongType(type: string, label: string, wanted: string): FreeholdError {
  const hint = type.includes('CERTIFICATE')
    ? 'openssl x509 -pubkey -noout -in CERTIFICATE prints its key'
    : undefined;
  return new FreeholdError('KEY_INVALID', `${label}: holds a PEM ${quoted(type)} where ${wanted} is wanted`, {
    ...(hint === undefined ? {} : { hint }),
  });
}

function read(parse: () => KeyObject, label: string): KeyObject {
  try {
    return parse();
  } catch (error) {
    // Neither the cause nor the message of OpenSSL repeats key material.
    throw invalid(`${label}: the PEM key cannot be read`, error);
  }
}

function privateKeyOf(keyObject: KeyObject, label: string): PrivateKey {
  return { kind: 'private-key', keyObject, publicKey: publicKeyOf(createPublicKey(keyObject), label) };
}

function publicKeyOf(imported: KeyObject, label: string): PublicKey {
  const curve = curveOf(imported, label);
  // By way of JWK, a compressed point becomes uncompressed: one key has one text and so one fingerprint.
  const keyObject = createPublicKey({ key: imported.export({ format: 'jwk' }), format: 'jwk' });
  const pem = keyObject.export({ format: 'pem', type: 'spki' }) as string;
  const fingerprint = createHash('sha256').update(pem).digest('hex') as Fingerprint;
  return { kind: 'public-key', curve, fingerprint, pem, keyObject };
}

function curveOf(key: KeyObject, label: string): Curve {
  const named = key.asymmetricKeyDetails?.namedCurve;
  if (key.asymmetricKeyType !== 'ec' || named === undefined || !isSupportedCurve(named)) {
    const found =
      key.asymmetricKeyType === 'ec' ? `curve ${named ?? 'without a name'}` : key.asymmetricKeyType;
    throw invalid(`${label}: a key of type ${found}; supported are EC keys on P-256, P-384 and P-521`);
  }
  return CURVES[named].name;
}

const isSupportedCurve = (name: string): name is keyof typeof CURVES => Object.hasOwn(CURVES, name);

function hashOf(curve: Curve): string {
  const row = Object.values(CURVES).find(({ name }) => name === curve);
  if (row === undefined) throw new FreeholdError('INTERNAL', `no hash for curve ${curve}`);
  return row.hash;
}
