import { createHash } from 'node:crypto';

/** Keeps these hashes apart from other uses of the same id. */
const DOMAIN = 'freehold rollout 1';
export const BUCKETS = 100;

/**
 * Which hundredth of all devices this one is in for one version: 0 … 99. Another version has another order, so that it is
 * not always the same machines that go first; a growing percentage only adds devices.
 * @param deviceId random, and never sent anywhere
 */
export function rolloutBucket(deviceId: string, name: string, version: string): number {
  const hash = createHash('sha256').update([DOMAIN, deviceId, name, version].join('\0')).digest();
  // 48 bits: exact in a double, and the bias of the remainder is below 10⁻¹².
  return hash.readUIntBE(0, 6) % BUCKETS;
}
