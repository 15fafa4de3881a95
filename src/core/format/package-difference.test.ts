import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Digest } from '../base/digest.ts';
import { ggufStrings } from './gguf/gguf-array.ts';
import type { GgufMetadata } from './gguf/gguf-types.ts';
import { ggufMetadata, ggufValue } from './gguf/gguf-values.ts';
import type { PackageDescriptor } from './package-descriptor.ts';
import { comparePackages, type PackageContent, type TensorFacts } from './package-difference.ts';
import { lineDifferences } from './text-difference.ts';

const DESCRIPTOR: PackageDescriptor = {
  schemaVersion: 1,
  kind: 'model',
  name: 'acme/triage',
  version: '1.0.0',
  variant: 'q4_0',
  license: 'Apache-2.0',
  model: {
    format: 'gguf',
    architecture: 'llama',
    purpose: 'generate',
    parameterCount: 1,
    contextTokens: 1,
    quantization: 'Q4_0',
  },
  engine: { name: 'llama.cpp' },
  memoryBytes: 1,
  protection: { sealed: false },
  files: [],
};

const content = (change: Partial<PackageContent> = {}): PackageContent => ({
  descriptor: DESCRIPTOR,
  metadata: new Map(),
  tensors: [],
  ...change,
});

const tokens = (...texts: string[]): GgufMetadata =>
  ggufMetadata([['tokenizer.ggml.tokens', ggufValue.array(ggufStrings(texts))]]);

test('tokens are compared by number', () => {
  const compare = (before: GgufMetadata, after: GgufMetadata) =>
    comparePackages(content({ metadata: before }), content({ metadata: after })).tokens;
  assert.equal(compare(tokens('a', 'b'), tokens('a', 'b')), undefined);
  assert.equal(compare(new Map(), new Map()), undefined);
  assert.deepEqual(compare(tokens('a', 'b', ''), tokens('a', 'c', '', 'd')), {
    beforeTokens: 3,
    afterTokens: 4,
    changedTokens: 2,
    examples: [
      { id: 1, before: 'b', after: 'c' },
      { id: 3, after: 'd' },
    ],
  });
  assert.equal(compare(new Map(), tokens('a'))?.changedTokens, 1);
});

test('an empty token is a token: one that is gone is a change', () => {
  const { tokens: found } = comparePackages(
    content({ metadata: tokens('a', '') }),
    content({ metadata: tokens('a') }),
  );
  assert.deepEqual(found?.examples, [{ id: 1, before: '' }]);
});

test('tensors by name, shape and bytes', () => {
  const tensor = (name: string, shape: string, bytes: string): TensorFacts => ({
    name,
    shape,
    sizeBytes: 10,
    digest: Digest.of(bytes),
  });
  const { tensors, sameTensors, sameTensorBytes } = comparePackages(
    content({
      tensors: [
        tensor('same', 'F32 1', 'a'),
        tensor('bytes', 'F32 1', 'a'),
        tensor('shape', 'F32 1', 'a'),
        tensor('gone', 'F32 1', 'a'),
      ],
    }),
    content({
      tensors: [
        tensor('same', 'F32 1', 'a'),
        tensor('bytes', 'F32 1', 'b'),
        tensor('shape', 'F32 1×1', 'a'),
        tensor('new', 'F32 1', 'a'),
      ],
    }),
  );
  assert.deepEqual(
    tensors.map(({ name, kind }) => [name, kind]),
    [
      ['bytes', 'changed'],
      ['shape', 'changed'],
      ['gone', 'removed'],
      ['new', 'added'],
    ],
  );
  assert.deepEqual([sameTensors, sameTensorBytes], [1, 10]);
});

test('the template of the package wins over the one in the weights', () => {
  const metadata = ggufMetadata([['tokenizer.chat_template', ggufValue.string('old')]]);
  const compare = (after: Partial<PackageContent>) =>
    comparePackages(content({ metadata }), content({ metadata, ...after })).chatTemplate;
  assert.deepEqual(compare({}), []);
  assert.deepEqual(compare({ chatTemplate: 'old' }), []);
  assert.deepEqual(
    compare({ chatTemplate: 'new' }).map(({ kind, text }) => `${kind} ${text}`),
    ['removed old', 'added new'],
  );
});

test('lines: each text is what is same and its own', () => {
  const lines = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(lines, lines, (left, right) => {
      const found = lineDifferences(left.join('\n'), right.join('\n'));
      const removed = found.filter(({ kind }) => kind === 'removed').length;
      const added = found.filter(({ kind }) => kind === 'added').length;
      assert.equal(left.length - removed, right.length - added, 'the same number of lines stays');
      assert.ok(removed <= left.length && added <= right.length);
      if (left.join() === right.join()) assert.deepEqual(found, []);
      else assert.ok(removed + added > 0);
    }),
  );
  assert.deepEqual(
    lineDifferences('1\n2\n3\n4\n5\n6\n7', '1\n2\n3\nx\n5\n6\n7').map(({ kind, text }) => [kind[0], text]),
    [
      ['s', '2'],
      ['s', '3'],
      ['r', '4'],
      ['a', 'x'],
      ['s', '5'],
      ['s', '6'],
    ],
  );
});

test('texts of very many lines are not compared line by line', () => {
  const text = (seed: string) => Array.from({ length: 100_000 }, (_, index) => `${seed}${index}`).join('\n');
  const started = performance.now();
  assert.equal(lineDifferences(text('a'), text('b')).length, 200_000);
  assert.ok(performance.now() - started < 20_000);
});
