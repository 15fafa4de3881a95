import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, beforeEach, test } from 'node:test';
import {
  encodePrivateKey,
  type Fingerprint,
  formatFingerprint,
  generatePrivateKey,
} from '../../core/crypto/keys.ts';
import { decideTrust, parseTrustPattern, type TrustSelector } from '../../core/crypto/trust-policy.ts';
import { openHome } from './home.ts';
import type { TrustStore } from './trust-store.ts';

const root = mkdtempSync(path.join(tmpdir(), 'freehold-trust-'));
after(() => rmSync(root, { recursive: true, force: true }));

const acme = generatePrivateKey().publicKey;
const other = generatePrivateKey().publicKey;
let trust: TrustStore;
beforeEach(async () => {
  trust = (await openHome(mkdtempSync(path.join(root, 'home-')))).trust;
});

const read = () => readFileSync(trust.path, 'utf8');
const write = (text: string) => writeFileSync(trust.path, text);
const block = (pem: string) => `|\n${pem.replace(/^(?=.)/gm, '          ')}`;
const isTrusted = async (name: string, fingerprint: Fingerprint) =>
  decideTrust(await trust.load(), name, fingerprint).kind === 'trusted';

test('nobody is trusted without a file', async () => {
  assert.deepEqual(await trust.load(), { rules: [] });
  assert.equal(existsSync(trust.path), false);
});

test('a key is added, found again, and added once only', async () => {
  const added = await trust.add('acme/*', acme.pem);
  assert.equal(added.isNew, true);
  assert.equal(added.pattern, 'acme/*');
  assert.equal(added.key.fingerprint, acme.fingerprint);
  assert.equal(await isTrusted('acme/triage', acme.fingerprint), true);
  assert.equal(await isTrusted('acme/triage', other.fingerprint), false);
  assert.equal(await isTrusted('other/triage', acme.fingerprint), false);
  const text = read();
  assert.ok(text.includes(`# ${formatFingerprint(acme.fingerprint)}`));
  assert.match(text, /^# Whose signatures count/);
  assert.equal(statSync(trust.path).mode & 0o777, 0o600);
  assert.equal((await trust.add('acme/*', acme.pem.replaceAll('\n', '\r\n'))).isNew, false);
  assert.equal(read(), text);
  assert.equal((await trust.add('acme/*', other.pem)).isNew, true);
  assert.equal((await trust.load()).rules.length, 1);
  assert.equal(await isTrusted('acme/triage', other.fingerprint), true);
});

test('wrong patterns and keys are refused before anything is written', async () => {
  await assert.rejects(trust.add('acme/**', acme.pem), { code: 'NAME_INVALID' });
  await assert.rejects(trust.add('acme/*', 'x'), { code: 'KEY_INVALID' });
  await assert.rejects(trust.add('acme/*', encodePrivateKey(generatePrivateKey())), {
    code: 'KEY_INVALID',
    message: /private key/,
  });
  assert.equal(existsSync(trust.path), false);
});

test('comments, order and spelling of what a person wrote stay', async () => {
  write(`# our policy, see the wiki

rules:
  # the hospital group
  - pattern: "acme/*"   # all of it
    keys:
      # Ann read me this one on the phone
      - ${block(acme.pem)}
  - { pattern: nobody/*, keys: [] } # on purpose
# the end
`);
  await trust.add('beta/*', other.pem);
  await trust.add('acme/*', other.pem);
  await trust.add('nobody/*', other.pem);
  const text = read();
  for (const comment of [
    '# our policy, see the wiki',
    '# the hospital group',
    '# all of it',
    '# Ann read me this one on the phone',
    '# on purpose',
    '# the end',
  ]) {
    assert.ok(text.includes(comment), `${comment} in\n${text}`);
  }
  assert.ok(text.includes('"acme/*"'));
  assert.deepEqual(
    (await trust.load()).rules.map(({ pattern, keys }) => [pattern, keys.length]),
    [
      ['acme/*', 2],
      ['nobody/*', 1],
      ['beta/*', 1],
    ],
  );
});

test('removing a key takes it away everywhere; a rule without keys stays and trusts nobody', async () => {
  await trust.add('*', other.pem);
  await trust.add('acme/*', acme.pem);
  await trust.add('acme/triage', acme.pem);
  const removed = await trust.remove({ kind: 'key', fingerprint: acme.fingerprint });
  assert.deepEqual(
    removed.map(({ pattern }) => pattern),
    ['acme/*', 'acme/triage'],
  );
  // Else the key for "*" would suddenly be good for Acme's packages.
  assert.equal(await isTrusted('acme/triage', other.fingerprint), false);
  assert.equal(await isTrusted('beta/x', other.fingerprint), true);
  assert.ok(!read().includes(formatFingerprint(acme.fingerprint)), read());
});

test('removing a pattern removes its rule; with a fingerprint, only that key of it', async () => {
  await trust.add('acme/*', acme.pem);
  await trust.add('acme/*', other.pem);
  await trust.add('beta/*', acme.pem);
  await trust.remove({ kind: 'key', pattern: parseTrustPattern('acme/*'), fingerprint: acme.fingerprint });
  assert.equal(await isTrusted('acme/x', acme.fingerprint), false);
  assert.equal(await isTrusted('acme/x', other.fingerprint), true);
  assert.equal(await isTrusted('beta/x', acme.fingerprint), true);
  assert.ok(read().includes(formatFingerprint(other.fingerprint)));
  assert.equal((await trust.remove({ kind: 'rule', pattern: parseTrustPattern('acme/*') })).length, 1);
  assert.deepEqual(
    (await trust.load()).rules.map(({ pattern }) => pattern),
    ['beta/*'],
  );
});

test('what is not there cannot be removed', async () => {
  await trust.add('acme/*', acme.pem);
  const text = read();
  const beta = parseTrustPattern('beta/*');
  const selectors: TrustSelector[] = [
    { kind: 'rule', pattern: beta },
    { kind: 'key', fingerprint: other.fingerprint },
    { kind: 'key', pattern: parseTrustPattern('acme/*'), fingerprint: other.fingerprint },
    { kind: 'key', pattern: beta, fingerprint: acme.fingerprint },
  ];
  for (const selector of selectors) {
    await assert.rejects(trust.remove(selector), { code: 'NOT_FOUND', hint: /freehold trust list/ });
  }
  assert.equal(read(), text);
});

test('a damaged or hostile file is refused with line and path, and is not written over', async () => {
  const cases: readonly [string, RegExp][] = [
    [
      'rules:\n  - pattern: acme/*\n    key: []\n',
      /trust\.yaml line 3: rules\[0\]: unknown key "key"; did you mean "keys"\?/,
    ],
    ['rules: []\nrules: []\n', /line 2.*unique/],
    ['rules:\n  - pattern: acme/*\n    keys: [x]\n', /rules\[0\]\.keys\[0\]: the key: holds no PEM key/],
    [
      'a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\nrules: [*d,*d,*d,*d]\n',
      /alias/i,
    ],
    ['rules: []\n---\nrules: []\n', /document/],
    ['{', /./],
    ['- a\n', /./],
    ['x'.repeat((1 << 20) + 1), /at most 1048576/],
  ];
  for (const [text, message] of cases) {
    write(text);
    await assert.rejects(trust.load(), { code: 'CONFIG_INVALID', message });
    await assert.rejects(trust.add('acme/*', acme.pem), { code: 'CONFIG_INVALID' });
    await assert.rejects(trust.remove({ kind: 'rule', pattern: parseTrustPattern('acme/*') }), {
      code: 'CONFIG_INVALID',
    });
    assert.equal(read(), text);
  }
});

test('a rule that hides behind an alias is not changed by halves', async () => {
  write(
    `rules:\n  - pattern: acme/*\n    keys: &all\n        - ${block(acme.pem)}        - ${block(other.pem)}  - pattern: beta/*\n    keys: *all\n`,
  );
  const text = read();
  assert.equal(await isTrusted('beta/x', acme.fingerprint), true);
  const beta = parseTrustPattern('beta/*');
  // Only one of the two keys, which the alias gives to both rules.
  await assert.rejects(trust.remove({ kind: 'key', pattern: beta, fingerprint: acme.fingerprint }), {
    code: 'CONFIG_INVALID',
    hint: /by hand/,
  });
  assert.equal(read(), text);
});

test('a trust.yaml that others may write to is refused', async () => {
  await trust.add('acme/*', acme.pem);
  chmodSync(trust.path, 0o644);
  await trust.load();
  for (const mode of [0o664, 0o646]) {
    chmodSync(trust.path, mode);
    await assert.rejects(trust.load(), { code: 'PERMISSION_DENIED', hint: `chmod go-w ${trust.path}` });
  }
});

test('many who add at once lose nothing', async () => {
  const patterns = Array.from({ length: 12 }, (_, index) => `p${index}/*`);
  await Promise.all(patterns.map((pattern) => trust.add(pattern, acme.pem)));
  assert.deepEqual((await trust.load()).rules.map(({ pattern }) => pattern).sort(), patterns.sort());
  assert.deepEqual(readdirSync(path.dirname(trust.path)).sort(), ['home.lock', 'trust.yaml']);
});
