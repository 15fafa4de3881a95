import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Digest } from '../base/digest.ts';
import { parseAppYaml } from './app-yaml.ts';
import { compareLock, encodeLockFile, type LockedModel, parseLockFile, requireLocked } from './lock-file.ts';

const TRIAGE: LockedModel = {
  from: 'oci://r.example/acme/triage:^1.4',
  name: 'acme/triage',
  version: '1.4.2',
  variant: 'q4_0',
  content: Digest.of('content'),
  manifest: Digest.of('manifest'),
  source: 'oci://r.example/acme/triage:1.4.2',
};

test('a lock reads as it was written, in the order of its keys', () => {
  const lock = new Map([
    ['triage', TRIAGE],
    ['coder', { ...TRIAGE, from: 'catalog:coder # x', name: 'catalog/coder' }],
  ]);
  const text = encodeLockFile(lock);
  assert.deepEqual(parseLockFile(text), new Map([...lock].sort()));
  assert.equal(encodeLockFile(new Map([...lock].reverse())), text);
  assert.ok(text.indexOf('  coder:') < text.indexOf('  triage:'));
});

test('an empty lock', () => {
  assert.deepEqual(parseLockFile(encodeLockFile(new Map())), new Map());
});

test('names that YAML would read as something else stay what they are', () => {
  const word = fc.stringMatching(/^[a-z0-9]{1,6}$/);
  fc.assert(
    fc.property(word, word, fc.string({ minLength: 1, maxLength: 40 }), (key, variant, from) => {
      fc.pre(/^\P{Cc}+$/u.test(from) && from.isWellFormed());
      const lock = new Map([[key, { ...TRIAGE, name: variant, variant, from, source: from }]]);
      assert.deepEqual(parseLockFile(encodeLockFile(lock)), lock);
    }),
    {
      numRuns: 300,
      examples: ['null', 'true', '1e3', '0x1f', '123', 'no', '0o7'].map(
        (text) => [text, text, text] as [string, string, string],
      ),
    },
  );
});

test('what is no lock is refused with line and path', () => {
  const text = encodeLockFile(new Map([['triage', TRIAGE]]));
  const cases: [string, RegExp][] = [
    [text.replace('lockVersion: 1', 'lockVersion: 2'), /line 2.*only 1 can be read; a newer freehold/],
    [text.replace('content: sha256', 'content: md5'), /models\.triage\.content/],
    [text.replace('    variant: q4_0\n', ''), /models\.triage\.variant is missing/],
    [text.replace('source:', 'sauce:'), /unknown key "sauce"/],
    [text.replace('version: 1.4.2', 'version: 1.4'), /models\.triage\.version/],
    [`<<<<<<< ours\n${text}`, /freehold\.lock line/],
    ['', /is missing/],
  ];
  for (const [broken, message] of cases) {
    assert.throws(() => parseLockFile(broken), { code: 'CONFIG_INVALID', message });
  }
});

test('what differs between freehold.yaml and the lock', () => {
  const compare = (models: string, locked: Partial<LockedModel> = {}) =>
    compareLock(parseAppYaml(`models:\n${models}\n`).models, new Map([['triage', { ...TRIAGE, ...locked }]]));
  const same = '  triage: oci://r.example/acme/triage:^1.4';
  assert.deepEqual(compare(same), []);
  assert.deepEqual(
    compare(`${same}\n  new: catalog:new`).map(({ kind, key }) => [kind, key]),
    [['missing', 'new']],
  );
  assert.deepEqual(
    compare('  other: catalog:x').map(({ kind, key }) => [kind, key]),
    [
      ['missing', 'other'],
      ['left-over', 'triage'],
    ],
  );
  assert.equal(compare('  triage: oci://r.example/acme/triage:^1.5')[0]?.kind, 'changed');
  assert.equal(
    compare('  triage: { from: "oci://r.example/acme/triage:^1.4", variant: q8_0 }')[0]?.kind,
    'changed',
  );
  assert.match(JSON.stringify(compare(same, { version: '2.0.0' })), /2\.0\.0 is not in the range/);
});

test('attack: a lock that was edited alone does not fit what freehold.yaml pins', () => {
  const fits = (from: string, locked: Partial<LockedModel>) =>
    compareLock(
      parseAppYaml(`models:\n  triage: ${from}\n`).models,
      new Map([['triage', { ...TRIAGE, from, ...locked }]]),
    ).length === 0;
  const exact = 'oci://r.example/acme/triage:1.4.0';
  const source = 'oci://r.example/acme/triage:1.4.0#q4_0';
  assert.ok(fits(exact, { version: '1.4.0', source }));
  assert.ok(fits(`${exact}-q4_0`, { version: '1.4.0', variant: 'q4_0', source }));
  assert.ok(fits('oci://r.example/acme/triage:latest', { version: '1.4.0', source }));
  assert.equal(fits(exact, { version: '1.3.0', source: source.replace('1.4.0', '1.3.0') }), false);
  assert.equal(fits(exact, { version: '1.4.0', source: source.replace('r.example', 'evil.example') }), false);
  assert.equal(fits(exact, { version: '1.4.0', source: source.replace('acme/', 'other/') }), false);
  assert.equal(fits(exact, { version: '1.4.0', source: 'file:model.gguf' }), false);
  const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
  const pinned = `"oci://r.example/acme/triage@${digest('a')}"`;
  const from = `oci://r.example/acme/triage@${digest('a')}`;
  assert.ok(
    compareLock(
      parseAppYaml(`models:\n  triage: ${pinned}\n`).models,
      new Map([['triage', { ...TRIAGE, from, source: `${from}#q4_0` }]]),
    ).length === 0,
  );
  assert.equal(fits(from, { source: `oci://r.example/acme/triage@${digest('b')}#q4_0` }), false);
});

test('frozen refuses a lock that is missing or does not fit, naming everything', () => {
  const { models } = parseAppYaml('models:\n  a: catalog:a\n  b: catalog:b\n');
  assert.throws(() => requireLocked(models, undefined), {
    code: 'LOCK_MISMATCH',
    message: /there is no freehold\.lock/,
  });
  assert.throws(() => requireLocked(models, new Map()), {
    code: 'LOCK_MISMATCH',
    message: /a is not.*b is not/,
  });
  assert.doesNotThrow(() => requireLocked([], new Map()));
});
