import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseConfigYaml } from '../base/config-file.ts';
import { type Fingerprint, generatePrivateKey, type PublicKey } from './keys.ts';
import {
  decideTrust,
  isMatchedBy,
  parseTrustPattern,
  requireTrusted,
  type TrustPolicy,
  trustPolicySchema,
} from './trust-policy.ts';

const acme = generatePrivateKey().publicKey;
const other = generatePrivateKey().publicKey;

const policyOf = (rules: readonly (readonly [string, ...PublicKey[]])[]): TrustPolicy => ({
  rules: rules.map(([pattern, ...keys]) => ({ pattern: parseTrustPattern(pattern), keys })),
});

const CASES: readonly (readonly [pattern: string, matches: string[], others: string[]])[] = [
  ['acme/triage', ['acme/triage'], ['acme/triage2', 'acme', 'triage', 'x/acme/triage', 'acme/triag']],
  ['triage', ['triage'], ['acme/triage', 'triage2']],
  ['acme/*', ['acme/triage', 'acme/a'], ['acme', 'acmex/a', 'evil-acme/a', 'x-acme/a', 'acme-evil/a']],
  ['acme/tri*', ['acme/triage', 'acme/trio', 'acme/tri'], ['acme/other', 'acme-tri/triage']],
  ['acme*', ['acme2', 'acme-x', 'acme'], ['acme/triage', 'acme-evil/triage']],
  ['*', ['acme/triage', 'triage', 'catalog/x'], []],
];

test('patterns are anchored at both ends, and a star does not cross a slash unless it stands alone', () => {
  for (const [pattern, matches, others] of CASES) {
    const parsed = parseTrustPattern(pattern);
    for (const name of matches) assert.equal(isMatchedBy(parsed, name), true, `${pattern} ${name}`);
    for (const name of others) assert.equal(isMatchedBy(parsed, name), false, `${pattern} ${name}`);
  }
});

test('other globs, regular expressions and names that no package can have are refused', () => {
  for (const pattern of [
    '',
    '**',
    '*/*',
    '*/triage',
    'a*e/x',
    'acme/**',
    'acme/?',
    'Acme/*',
    '/*',
    'acme/*/x',
    'a/b/*',
    '.*',
    '^acme',
    'acme/[a-z]*',
    'acme//*',
    '../*',
    ' acme/*',
    'a'.repeat(200),
    `${'a'.repeat(128)}*`,
  ]) {
    assert.throws(() => parseTrustPattern(pattern), { code: 'NAME_INVALID' }, pattern);
  }
});

test('nothing is trusted by default', () => {
  assert.deepEqual(decideTrust({ rules: [] }, 'acme/triage', acme.fingerprint), {
    kind: 'untrusted',
    reason: 'no-rule',
  });
  const policy = policyOf([['other/*', acme]]);
  assert.equal(decideTrust(policy, 'acme/triage', acme.fingerprint).kind, 'untrusted');
});

test('the most specific rule decides alone, whatever the order of the rules', () => {
  const rules = [
    ['*', other],
    ['acme/*', acme],
    ['acme/tri*', other],
    ['acme/triage', acme],
    ['acme/none'],
  ] as const;
  const expected: Record<string, PublicKey | undefined> = {
    'acme/triage': acme,
    'acme/trio': other,
    'acme/other': acme,
    'acme/none': undefined,
    'beta/x': other,
  };
  fc.assert(
    fc.property(fc.shuffledSubarray([...rules], { minLength: rules.length }), (shuffled) => {
      const policy = policyOf(shuffled);
      for (const [name, trusted] of Object.entries(expected)) {
        for (const key of [acme, other]) {
          const decision = decideTrust(policy, name, key.fingerprint);
          assert.equal(decision.kind, key === trusted ? 'trusted' : 'untrusted', `${name}`);
          if (decision.kind === 'trusted') assert.equal(decision.key, key);
        }
      }
    }),
  );
});

test('decides as matching by regular expression and sorting by length would', () => {
  const names = ['a/b', 'a/bc', 'a/c', 'ab', 'abc', 'b/b'];
  const pattern = fc.constantFrom('a/b', 'a/*', 'a/b*', 'ab', 'a*', 'ab*', '*', 'b/*', 'b*');
  const expressionOf = (text: string) => new RegExp(text === '*' ? '' : `^${text.replace('*', '[^/]*')}$`);
  const rule = fc.tuple(pattern, fc.constantFrom(acme, other));
  fc.assert(
    fc.property(
      fc.uniqueArray(rule, { selector: ([text]) => text }),
      fc.constantFrom(...names),
      (rules, name) => {
        const matching = rules.filter(([text]) => expressionOf(text).test(name));
        const exact = matching.find(([text]) => text === name);
        const best = exact ?? matching.toSorted(([left], [right]) => right.length - left.length)[0];
        const decision = decideTrust(policyOf(rules), name, acme.fingerprint);
        assert.equal(decision.kind, best?.[1] === acme ? 'trusted' : 'untrusted');
        if ('rule' in decision) assert.equal(decision.rule.pattern, best?.[0]);
      },
    ),
    { numRuns: 500 },
  );
});

test('a refusal says which rule decided and how to trust the key', () => {
  const policy = policyOf([['acme/*', acme]]);
  assert.equal(requireTrusted(policy, 'acme/triage', acme.fingerprint).key, acme);
  assert.throws(() => requireTrusted(policy, 'acme/triage', other.fingerprint), {
    code: 'SIGNER_UNTRUSTED',
    message:
      /acme\/triage is signed with SHA256:[0-9a-f ]{79}, and the rule for acme\/\* does not list this key/,
    hint: /freehold trust add 'acme\/\*' KEYFILE/,
  });
  assert.throws(() => requireTrusted(policy, 'beta/x', other.fingerprint), {
    message: /no rule of the trust policy matches beta\/x/,
    hint: /freehold trust add beta\/x KEYFILE/,
  });
});

const parse = (text: string) => parseConfigYaml(text, trustPolicySchema, 'trust.yaml');
const block = (pem: string) => `|\n${pem.replace(/^/gm, '        ')}`;
const invalid = (message: RegExp) => ({ code: 'CONFIG_INVALID', message });

test('trust.yaml: rules with PEM keys; an empty file trusts nobody', () => {
  assert.deepEqual(parse(''), { rules: [] });
  const policy = parse(
    `rules:\n  - pattern: acme/*\n    keys:\n      - ${block(acme.pem)}\n  - pattern: acme/none\n    keys: []\n`,
  );
  assert.equal(decideTrust(policy, 'acme/x', acme.fingerprint).kind, 'trusted');
  assert.equal(decideTrust(policy, 'acme/none', acme.fingerprint).kind, 'untrusted');
});

test('trust.yaml: what is wrong is refused with its place', () => {
  const rule = `  - pattern: acme/*\n    keys:\n      - ${block(acme.pem)}\n`;
  assert.throws(() => parse('rule: []'), invalid(/unknown key "rule"; did you mean "rules"\?/));
  assert.throws(
    () => parse('rules:\n  - patern: acme/*\n    keys: []\n'),
    invalid(/line 2: rules\[0\]: unknown key "patern"; did you mean "pattern"/),
  );
  assert.throws(
    () => parse('rules:\n  - pattern: acme/**\n    keys: []\n'),
    invalid(/rules\[0\]\.pattern: not a trust pattern/),
  );
  assert.throws(() => parse('rules:\n  - pattern: acme/*\n'), invalid(/rules\[0\]\.keys is missing/));
  assert.throws(() => parse(`rules:\n${rule}${rule}`), invalid(/the pattern acme\/\* a second time/));
  assert.throws(
    () => parse(`rules:\n${rule}      - ${block(acme.pem)}\n`),
    invalid(/the key [0-9a-f]{64} a second time/),
  );
  assert.throws(
    () => parse(`rules:\n  - pattern: a\n    keys: [${acme.fingerprint}]\n`),
    invalid(/rules\[0\]\.keys\[0\]: the key: holds no PEM key/),
  );
  assert.throws(() => parse(`rules:\n${rule}rules: []\n`), invalid(/unique/));
  assert.throws(() => parse('__proto__: { rules: [] }'), invalid(/__proto__/));
});

test('a long name or a long policy is decided in no time', () => {
  const rules = Array.from({ length: 1000 }, (_, index) => [`p${index}/aaaaaaaaaaaaaaaaaa*`, acme] as const);
  const policy = policyOf(rules);
  const started = process.hrtime.bigint();
  for (let index = 0; index < 100; index++)
    decideTrust(policy, `p${index}/${'a'.repeat(120)}`, '0'.repeat(64) as Fingerprint);
  assert.ok(process.hrtime.bigint() - started < 1_000_000_000n);
});
