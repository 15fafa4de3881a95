import { stringify } from 'yaml';
import { parseConfigYaml } from '../base/config-file.ts';
import type { Fingerprint } from '../crypto/keys.ts';
import {
  decidingRule,
  isMatchedBy,
  parseTrustPattern,
  type TrustedKey,
  type TrustPolicy,
  type TrustRule,
  trustPolicySchema,
} from '../crypto/trust-policy.ts';

const HEADER = `# The keys that signed the packages of this archive, as the home trusted them that wrote it.
# An archive proves nothing about its keys: compare the fingerprints with the publishers before you trust them.
`;

/**
 * The trust document of an archive, in the form of `trust.yaml`: of the policy only the rules that decide about these
 * names, so that a reader learns nothing else about the home.
 */
export function encodeArchiveTrust(policy: TrustPolicy, names: readonly string[]): Buffer {
  const deciding = policy.rules.filter((rule) => names.some((name) => decidingRule(policy, name) === rule));
  const rules = deciding
    .toSorted((left, right) => (left.pattern < right.pattern ? -1 : 1))
    .map((rule) => ({ pattern: rule.pattern, keys: rule.keys.map((key) => key.pem) }));
  return Buffer.from(`${HEADER}${stringify({ rules }, { lineWidth: 0 })}`);
}

/** @throws CONFIG_INVALID */
export function parseArchiveTrust(bytes: Uint8Array, label: string): TrustPolicy {
  return parseConfigYaml(Buffer.from(bytes).toString('utf8'), trustPolicySchema, label);
}

/**
 * What of an archive's keys a user takes over for a package: the key for the names of its rule, as long as these are of
 * one publisher. A rule for more than that (`*`) would trust the key for packages that the user never thought of: then
 * for this one name.
 */
export function takenOver(
  rule: TrustRule,
  name: string,
  isApproved: (key: Fingerprint) => boolean,
): TrustedKey[] {
  const isOfOnePublisher = rule.pattern.includes('/') && isMatchedBy(rule.pattern, name);
  const pattern = isOfOnePublisher ? rule.pattern : parseTrustPattern(name);
  return rule.keys.filter(({ fingerprint }) => isApproved(fingerprint)).map((key) => ({ pattern, key }));
}
