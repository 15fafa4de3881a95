import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from './errors.ts';
import {
  compareVersions,
  parseFilePath,
  parsePackageName,
  parseVariantName,
  parseVersion,
  requireDistinctPaths,
  shortName,
} from './ids.ts';

const isCode = (code: string) => (error: unknown) => error instanceof FreeholdError && error.code === code;

test('package names are one or two components of an OCI repository name', () => {
  for (const name of ['triage', 'acme/triage', 'acme/tri-age', 'a.b/c_d', 'a/b--c', 'acme/x__y', '0/1']) {
    assert.equal(parsePackageName(name), name);
  }
  const refused = [
    '',
    '/',
    'acme/',
    '/triage',
    'a/b/c',
    '../x',
    'acme/..',
    'acme/../x',
    'Acme/triage',
    'acme/tri age',
    'acme/tri\0age',
    '-x',
    'x-',
    'a..b',
    'a___b',
    'acme/tri\nage',
    'acme/trïage',
    'acme\\x',
    'acme:x',
    'x'.repeat(10_240),
    '.hidden',
    '~/x',
  ];
  for (const name of refused)
    assert.throws(() => parsePackageName(name), isCode('NAME_INVALID'), JSON.stringify(name.slice(0, 40)));
});

test('whatever text comes, a name is accepted as it is or refused with NAME_INVALID', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-z0-9./_-]{1,20}$/)), (text) => {
      for (const parse of [parsePackageName, parseVariantName, parseFilePath]) {
        try {
          assert.equal(parse(text), text);
        } catch (error) {
          assert.ok(isCode('NAME_INVALID')(error));
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test('an accepted file path stays inside its folder on every file system', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.constantFrom('..', '.', '', 'a', 'B c', '.git', 'x.', '-o', 'C:'),
          fc.string({ maxLength: 5 }),
        ),
        { maxLength: 5 },
      ),
      (segments) => {
        const text = segments.join('/');
        let accepted: string;
        try {
          accepted = parseFilePath(text);
        } catch {
          return;
        }
        for (const segment of accepted.split('/')) {
          assert.match(segment, /^[A-Za-z0-9_][A-Za-z0-9._+ -]*$/);
          assert.doesNotMatch(segment, /[. ]$/);
        }
      },
    ),
    { numRuns: 3000 },
  );
});

test('paths of one package must differ by more than case, and no file is a folder', () => {
  requireDistinctPaths(['a', 'b/c', 'b/d']);
  for (const paths of [
    ['a', 'a'],
    ['README', 'readme'],
    ['a', 'a/b'],
    ['A', 'a/b'],
    ['x/y/z', 'X/y'],
  ]) {
    assert.throws(() => requireDistinctPaths(paths), isCode('NAME_INVALID'), paths.join(' '));
  }
});

test('versions are SemVer without build metadata, in the order of clause 11', () => {
  for (const text of [
    '1',
    '1.2',
    '01.2.3',
    '1.2.3+x',
    'v1.2.3',
    '1.2.3-',
    '1.2.3-01',
    '1.2.3-A',
    '',
    '1.2.3 ',
    `1.2.${'9'.repeat(80)}`,
  ]) {
    assert.throws(() => parseVersion(text), isCode('VERSION_INVALID'), text);
  }
  const ordered = [
    '0.9.0',
    '1.0.0-alpha',
    '1.0.0-alpha.1',
    '1.0.0-alpha.beta',
    '1.0.0-beta',
    '1.0.0-beta.2',
    '1.0.0-beta.11',
    '1.0.0-rc.1',
    '1.0.0',
    '1.0.1',
    '1.2.0',
    '1.10.0',
    '2.0.0',
    '10.0.0',
  ].map(parseVersion);
  for (const [left, a] of ordered.entries()) {
    for (const [right, b] of ordered.entries()) {
      assert.equal(Math.sign(compareVersions(a, b)), Math.sign(left - right), `${a} ${b}`);
    }
  }
});

test('the short name is what clients send', () => {
  assert.equal(shortName('acme/triage'), 'triage');
  assert.equal(shortName('triage'), 'triage');
});
