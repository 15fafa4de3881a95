import { type Fingerprint, formatFingerprint, parseFingerprint } from '../../core/crypto/keys.ts';
import { parseTrustPattern } from '../../core/crypto/trust-policy.ts';
import type { StoredKey } from '../../io/home/key-store.ts';
import type { Freehold } from './freehold.ts';

/** A key of the home as people see it; never the private half. */
export interface KeySummary {
  readonly name: string;
  readonly fingerprint: Fingerprint;
  /** Grouped for comparing by eye. */
  readonly displayFingerprint: string;
  readonly publicKeyPem: string;
  /** Of the private key. */
  readonly path: string;
}

export interface TrustSummary {
  readonly pattern: string;
  readonly fingerprint: Fingerprint;
  readonly displayFingerprint: string;
}

function summary({ name, privateKey, privateKeyPath }: StoredKey): KeySummary {
  const { fingerprint, pem } = privateKey.publicKey;
  return {
    name,
    fingerprint,
    displayFingerprint: formatFingerprint(fingerprint),
    publicKeyPem: pem,
    path: privateKeyPath,
  };
}

/** @throws ALREADY_EXISTS, NAME_INVALID */
export async function createKey({ home }: Freehold, name: string): Promise<KeySummary> {
  return summary(await home.keys.create(name));
}

/** By name. @throws KEY_INVALID, PERMISSION_DENIED for the first that cannot be used */
export async function listKeys({ home }: Freehold): Promise<KeySummary[]> {
  return (await home.keys.list()).map(summary);
}

/** @throws NOT_FOUND */
export async function publicKeyOf({ home }: Freehold, name: string): Promise<KeySummary> {
  return summary(await home.keys.load(name));
}

/** @throws NAME_INVALID for the pattern, KEY_INVALID */
export async function addTrust(
  { home }: Freehold,
  pattern: string,
  publicKeyPem: string,
): Promise<TrustSummary> {
  const { key } = await home.trust.add(pattern, publicKeyPem);
  return { pattern, fingerprint: key.fingerprint, displayFingerprint: formatFingerprint(key.fingerprint) };
}

/** One row per pattern and key. @throws CONFIG_INVALID */
export async function listTrust({ home }: Freehold): Promise<TrustSummary[]> {
  const { rules } = await home.trust.load();
  return rules.flatMap((rule) =>
    rule.keys.map(({ fingerprint }) => ({
      pattern: rule.pattern,
      fingerprint,
      displayFingerprint: formatFingerprint(fingerprint),
    })),
  );
}

/** @returns how many keys lost trust @throws NOT_FOUND when nothing fits */
export async function removeTrust(
  { home }: Freehold,
  pattern: string,
  fingerprint?: string,
): Promise<number> {
  const parsed = parseTrustPattern(pattern);
  const removed = await home.trust.remove(
    fingerprint === undefined
      ? { kind: 'rule', pattern: parsed }
      : { kind: 'key', pattern: parsed, fingerprint: parseFingerprint(fingerprint) },
  );
  return removed.length;
}
