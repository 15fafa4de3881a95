import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from './errors.ts';
import { parseReference } from './reference.ts';

test('every form of a reference', () => {
  assert.deepEqual(parseReference('triage'), { kind: 'installed', name: 'triage' });
  assert.deepEqual(parseReference('acme/triage@1.4.0#q4_0'), {
    kind: 'installed',
    name: 'acme/triage',
    version: '1.4.0',
    variant: 'q4_0',
  });
  assert.deepEqual(parseReference('acme/triage#q4_0'), {
    kind: 'installed',
    name: 'acme/triage',
    variant: 'q4_0',
  });
  assert.deepEqual(parseReference('catalog:smollm2'), { kind: 'catalog', name: 'smollm2' });
  assert.deepEqual(parseReference('file:../x y'), { kind: 'file', path: '../x y' });
});

test('what is not a reference is refused with its own code', () => {
  const cases: [string, string][] = [
    ['', 'REFERENCE_INVALID'],
    ['a\0b', 'REFERENCE_INVALID'],
    ['file:', 'REFERENCE_INVALID'],
    ['x'.repeat(10_240), 'REFERENCE_INVALID'],
    ['a#b#c', 'REFERENCE_INVALID'],
    ['a@1.0.0@2.0.0', 'REFERENCE_INVALID'],
    ['../../etc/passwd', 'NAME_INVALID'],
    ['catalog:../x', 'NAME_INVALID'],
    ['a@latest', 'VERSION_INVALID'],
    ['a#', 'NAME_INVALID'],
    ['oci://registry.example/a:1', 'NOT_SUPPORTED'],
    ['hf://owner/repo', 'NOT_SUPPORTED'],
    ['https://example.org/a', 'NOT_SUPPORTED'],
  ];
  for (const [text, code] of cases) {
    assert.throws(
      () => parseReference(text),
      (error) => error instanceof FreeholdError && error.code === code,
      `${text.slice(0, 40)} ${code}`,
    );
  }
});

test('no text makes it throw anything but a FreeholdError', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseReference(text);
      } catch (error) {
        assert.ok(error instanceof FreeholdError);
      }
    }),
    { numRuns: 2000 },
  );
});
