import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';
import { parsePackageName, quoted } from '../base/ids.ts';
import { textParsedBy } from '../base/schema-text.ts';
import { type Fingerprint, formatFingerprint, type PublicKey, parsePublicKey } from './keys.ts';

/**
 * Whose signature counts for which packages. Anything that no rule matches is untrusted.
 *
 * Exactly one rule decides about a name: the most specific one that matches (the exact name, else the longest
 * pattern), whatever the order of the rules; wider rules do not add their keys to it. So a rule for `acme/*` keeps
 * the keys of a rule for `*` away from Acme's packages, and adding a rule never widens another. The peers with the
 * same reading are the `policy.json` of containers and the registry scopes of Notation. A rule without keys is legal
 * and trusts nobody.
 */
export interface TrustPolicy {
  readonly rules: readonly TrustRule[];
}

export interface TrustRule {
  readonly pattern: TrustPattern;
  readonly keys: readonly PublicKey[];
}

declare const patternBrand: unique symbol;

/**
 * A package name, or the beginning of one and a `*` at its end that stands for any rest without a `/` (`acme/*`,
 * `acme/triage-*`), or `*` alone for every name there is. Always anchored at both ends.
 */
export type TrustPattern = string & { readonly [patternBrand]: 'TrustPattern' };

/** More are a sign of generated policies, which belong into one pattern. */
export const TRUST_RULES_MAX = 1000;
export const TRUST_KEYS_MAX = 100;

/** @throws NAME_INVALID */
export function parseTrustPattern(text: string): TrustPattern {
  const star = text.indexOf('*');
  if (star !== -1 && star !== text.length - 1) {
    throw new FreeholdError('NAME_INVALID', `not a trust pattern: ${quoted(text)}`, {
      hint: 'one "*", at the end: acme/*, acme/triage-*; "*" alone stands for every package',
    });
  }
  // A beginning is fine when some name begins with it.
  if (text !== '*') parsePackageName(text.replace('*', 'x'));
  return text as TrustPattern;
}

/** `name` must come from `parsePackageName`. */
export function isMatchedBy(pattern: TrustPattern, name: string): boolean {
  if (pattern === '*') return true;
  if (!pattern.endsWith('*')) return pattern === name;
  const beginning = pattern.slice(0, -1);
  return name.startsWith(beginning) && !name.includes('/', beginning.length);
}

export type TrustDecision =
  | { readonly kind: 'trusted'; readonly rule: TrustRule; readonly key: PublicKey }
  | { readonly kind: 'untrusted'; readonly reason: 'no-rule' }
  | { readonly kind: 'untrusted'; readonly reason: 'other-key'; readonly rule: TrustRule };

/**
 * Whether a signature with this key counts for the package of this name; the fingerprint alone proves nothing, so
 * verify the signature with the key of the decision afterwards.
 */
export function decideTrust(policy: TrustPolicy, name: string, fingerprint: Fingerprint): TrustDecision {
  const rule = decidingRule(policy, name);
  if (rule === undefined) return { kind: 'untrusted', reason: 'no-rule' };
  const key = rule.keys.find((candidate) => candidate.fingerprint === fingerprint);
  return key === undefined
    ? { kind: 'untrusted', reason: 'other-key', rule }
    : { kind: 'trusted', rule, key };
}

/** @throws SIGNER_UNTRUSTED saying which rule decided, with the command that would trust the key */
export function requireTrusted(
  policy: TrustPolicy,
  name: string,
  fingerprint: Fingerprint,
): { readonly rule: TrustRule; readonly key: PublicKey } {
  const decision = decideTrust(policy, name, fingerprint);
  if (decision.kind === 'trusted') return decision;
  const shown = formatFingerprint(fingerprint);
  const why =
    decision.reason === 'no-rule'
      ? `no rule of the trust policy matches ${name}`
      : `the rule for ${decision.rule.pattern} does not list this key`;
  throw new FreeholdError('SIGNER_UNTRUSTED', `${name} is signed with ${shown}, and ${why}`, {
    hint: `compare the fingerprint with the publisher, then: freehold trust add ${quotedForShell(decision, name)} KEYFILE`,
    detail: { name, fingerprint, reason: decision.reason },
  });
}

const quotedForShell = (decision: TrustDecision, name: string) =>
  'rule' in decision ? `'${decision.rule.pattern}'` : name;

/** The rule that decides about a name, whoever signed. */
export function decidingRule(policy: TrustPolicy, name: string): TrustRule | undefined {
  // All patterns that match one name are beginnings of it, so a longer one is inside of every shorter one.
  const specificity = ({ pattern }: TrustRule) =>
    pattern.endsWith('*') ? pattern.length : Number.POSITIVE_INFINITY;
  return policy.rules
    .filter(({ pattern }) => isMatchedBy(pattern, name))
    .reduce<TrustRule | undefined>(
      (best, rule) => (best === undefined || specificity(rule) > specificity(best) ? rule : best),
      undefined,
    );
}

/** One key under one pattern. */
export interface TrustedKey {
  readonly pattern: TrustPattern;
  readonly key: PublicKey;
}

/** What to take trust from. */
export type TrustSelector =
  /** A whole rule. A wider one may decide about these names afterwards. */
  | { readonly kind: 'rule'; readonly pattern: TrustPattern }
  /** One key, under one pattern or wherever it stands. A rule that loses its last key stays, and trusts nobody. */
  | { readonly kind: 'key'; readonly fingerprint: Fingerprint; readonly pattern?: TrustPattern };

/** The policy with one more key; the same object when the key is listed under this pattern already. */
export function addTrust(policy: TrustPolicy, { pattern, key }: TrustedKey): TrustPolicy {
  const rule = policy.rules.find((candidate) => candidate.pattern === pattern);
  if (rule === undefined) return { rules: [...policy.rules, { pattern, keys: [key] }] };
  if (rule.keys.some(({ fingerprint }) => fingerprint === key.fingerprint)) return policy;
  const changed = { pattern, keys: [...rule.keys, key] };
  return { rules: policy.rules.map((candidate) => (candidate === rule ? changed : candidate)) };
}

/**
 * The policy without what the selector names, and the keys that are gone.
 * @throws NOT_FOUND when the selector names nothing that is there
 */
export function removeTrust(
  policy: TrustPolicy,
  selector: TrustSelector,
): { readonly policy: TrustPolicy; readonly removed: readonly TrustedKey[] } {
  const { kind, pattern } = selector;
  const isMeant = (rule: TrustRule) => pattern === undefined || rule.pattern === pattern;
  const isGone = (key: PublicKey) => kind === 'rule' || key.fingerprint === selector.fingerprint;
  const meant = policy.rules.filter(isMeant);
  const removed = meant.flatMap((rule) =>
    rule.keys.filter(isGone).map((key): TrustedKey => ({ pattern: rule.pattern, key })),
  );
  if (kind === 'rule') {
    if (meant.length === 0) throw notThere(`there is no rule for ${quoted(selector.pattern)}`);
    return { policy: { rules: policy.rules.filter((rule) => !isMeant(rule)) }, removed };
  }
  if (removed.length === 0) {
    const where = pattern === undefined ? 'for anything' : `for ${quoted(pattern)}`;
    throw notThere(`the key ${formatFingerprint(selector.fingerprint)} is not trusted ${where}`);
  }
  const rules = policy.rules.map((rule) =>
    isMeant(rule) ? { ...rule, keys: rule.keys.filter((key) => !isGone(key)) } : rule,
  );
  return { policy: { rules }, removed };
}

const notThere = (message: string) =>
  new FreeholdError('NOT_FOUND', message, { hint: 'freehold trust list shows the policy' });

const keySchema = textParsedBy((pem) => parsePublicKey(pem, 'the key'));

const ruleSchema = z.strictObject({
  pattern: textParsedBy(parseTrustPattern),
  keys: z
    .array(keySchema)
    .max(TRUST_KEYS_MAX)
    .superRefine(refuseRepetition((key) => key.fingerprint, 'key')),
});

/**
 * The content of `trust.yaml`. Keys stand there as PEM text, not as fingerprints: a signature bundle does not carry
 * its key, and the file should be enough to verify with. Two rules with one pattern are refused, because it is not
 * plain whether the second one adds or replaces.
 */
export const trustPolicySchema = z.strictObject({
  rules: z
    .array(ruleSchema)
    .max(TRUST_RULES_MAX)
    .superRefine(refuseRepetition((rule) => rule.pattern, 'pattern'))
    .default([]),
});

function refuseRepetition<Item>(identityOf: (item: Item) => string, what: string) {
  return (items: readonly Item[], context: z.core.$RefinementCtx<Item[]>): void => {
    const seen = new Set<string>();
    for (const [index, item] of items.entries()) {
      const identity = identityOf(item);
      if (seen.has(identity)) {
        context.addIssue({ code: 'custom', path: [index], message: `the ${what} ${identity} a second time` });
      }
      seen.add(identity);
    }
  };
}
