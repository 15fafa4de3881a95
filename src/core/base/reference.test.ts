import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from './errors.ts';
import { parseReference } from './reference.ts';
import { registryReferenceText } from './registry-reference.ts';

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
  assert.deepEqual(parseReference('ollama:llama3.2:1b'), { kind: 'ollama', name: 'llama3.2:1b' });
  assert.deepEqual(parseReference('hf://acme/tri-GGUF:Q4_K_M'), {
    kind: 'huggingface',
    repository: 'acme/tri-GGUF',
    wanted: { kind: 'quantization', quantization: 'Q4_K_M' },
  });
  assert.deepEqual(parseReference('hf://acme/tri/sub/t.gguf@v1.0'), {
    kind: 'huggingface',
    repository: 'acme/tri',
    wanted: { kind: 'file', path: 'sub/t.gguf' },
    revision: 'v1.0',
  });
});

test('every form of a reference to a registry, there and back', () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  const cases = [
    ['oci://registry.acme.example/acme/triage', { kind: 'newest' }],
    ['oci://127.0.0.1:5000/triage:1.4.0-q4_0', { kind: 'tag', tag: '1.4.0-q4_0' }],
    ['oci://[::1]:5000/a/b/c:^1.4', { kind: 'range', range: '^1.4' }],
    ['oci://localhost/a:>=1.2 <2#q8_0', { kind: 'range', range: '>=1.2 <2' }],
    [`oci://r.example/a@${digest}`, { kind: 'digest', digest }],
  ] as const;
  for (const [text, selector] of cases) {
    const reference = parseReference(text);
    assert.ok(reference.kind === 'registry');
    assert.deepEqual(reference.selector, selector);
    assert.equal(registryReferenceText(reference), text);
  }
  const both = parseReference(`oci://r.example/a:1.0.0@${digest}#edge`);
  assert.deepEqual(both, {
    kind: 'registry',
    host: 'r.example',
    repository: 'a',
    selector: { kind: 'digest', digest },
    variant: 'edge',
  });
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
    ['oci://registry.example', 'REFERENCE_INVALID'],
    ['oci://registry.example/Upper:1', 'REFERENCE_INVALID'],
    ['oci://registry.example:99999/a:1', 'REFERENCE_INVALID'],
    ['oci://user:password@registry.example/a', 'REFERENCE_INVALID'],
    ['oci://registry.example/a:1 2?', 'REFERENCE_INVALID'],
    ['oci://registry.example/a@sha256:12', 'DIGEST_INVALID'],
    ['oci://registry.example/a:1#b#c', 'REFERENCE_INVALID'],
    ['oci://registry.example/../a:1', 'REFERENCE_INVALID'],
    ['hf://owner', 'REFERENCE_INVALID'],
    ['hf://owner/repo:', 'REFERENCE_INVALID'],
    ['hf://owner/repo/../x', 'NAME_INVALID'],
    ['hf://owner/repo@a@b', 'REFERENCE_INVALID'],
    ['ollama:', 'REFERENCE_INVALID'],
    ['ollama:../x', 'REFERENCE_INVALID'],
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
