import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contentBytes } from '../../../../tests/fixtures/small-gguf.ts';
import { type AdapterOptions, adapterContent } from '../../../../tests/fixtures/tiny-adapter.ts';
import { TINY_VOCABULARY_TOKENS, tinyModelContent } from '../../../../tests/fixtures/tiny-model.ts';
import { memoryByteSource } from '../../base/byte-source.ts';
import { verifyAdapter } from './adapter-verification.ts';
import { ggmlType } from './ggml-types.ts';
import { ggufNumbers } from './gguf-array.ts';
import { readGguf } from './gguf-reader.ts';
import type { GgufFile, GgufTensorShape, GgufValue } from './gguf-types.ts';
import { ggufValue } from './gguf-values.ts';
import { encodeGgufHeader, type GgufContent } from './gguf-writer.ts';

const { string, number, array } = ggufValue;
const f32 = (name: string, ...dimensions: number[]): GgufTensorShape => ({
  name,
  type: ggmlType('f32'),
  dimensions,
});

/** Header and zeros only, so that shapes of real models cost nothing. */
function fileOf(content: GgufContent, name: string): GgufFile {
  const { tensors, sizeBytes, header } = encodeGgufHeader(content);
  const dataOffset = header.byteLength;
  const common = { name, version: 3 as const, sizeBytes, alignmentBytes: 32, dataOffset };
  return { ...common, metadata: content.metadata, tensors };
}

const tinyBase = tinyModelContent({ blocks: 1 });
const output = f32('output.weight', 256, TINY_VOCABULARY_TOKENS);
const untiedBase: GgufContent = { ...tinyBase, tensors: [...tinyBase.tensors, output] };
const expertBase: GgufContent = {
  ...tinyBase,
  tensors: [...tinyBase.tensors, f32('blk.0.ffn_up_exps.weight', 256, 32, 4)],
};

interface Change {
  readonly keys?: Readonly<Record<string, GgufValue | undefined>>;
  readonly options?: AdapterOptions;
  /** In place of, or after, the adapter's own. */
  readonly tensors?: (own: readonly GgufTensorShape[]) => readonly GgufTensorShape[];
  readonly base?: GgufContent;
}

function verified({ keys = {}, options, tensors, base = tinyBase }: Change) {
  const content = adapterContent(base, options);
  const metadata = new Map(content.metadata);
  for (const [key, value] of Object.entries(keys)) {
    if (value === undefined) metadata.delete(key);
    else metadata.set(key, value);
  }
  const changed = { ...content, metadata, tensors: tensors?.(content.tensors) ?? content.tensors };
  return verifyAdapter(fileOf(changed, 'a.gguf'), fileOf(base, 'base.gguf'));
}

const onlyQuery = (name: string) => name === 'blk.0.attn_q.weight';
const onlyTable = (name: string) => name === 'token_embd.weight';
const renamed = (from: RegExp, to: string) => (own: readonly GgufTensorShape[]) =>
  own.map((tensor) => ({ ...tensor, name: tensor.name.replace(from, to) }));
const retyped = (type: string, half: string) => (own: readonly GgufTensorShape[]) =>
  own.map((tensor) => (tensor.name.endsWith(half) ? { ...tensor, type: ggmlType(type) } : tensor));
const reshaped =
  (half: string, ...dimensions: number[]) =>
  (own: readonly GgufTensorShape[]) =>
    own.map((tensor) => (tensor.name.endsWith(half) ? { ...tensor, dimensions } : tensor));

const REFUSED: readonly [what: string, change: Change, message: RegExp][] = [
  ['a model', { keys: { 'general.type': string('model') } }, /general\.type is "model" instead of "adapter"/],
  ['a file of no type', { keys: { 'general.type': undefined } }, /general\.type is missing/],
  ['another kind of adapter', { keys: { 'adapter.type': string('cvec') } }, /adapter\.type is "cvec"/],
  [
    'another architecture',
    { keys: { 'general.architecture': string('qwen2') } },
    /is "qwen2" instead of "llama"/,
  ],
  [
    'an alpha of another type',
    { keys: { 'adapter.lora.alpha': number('uint32', 8) } },
    /alpha is uint32 instead of float32/,
  ],
  ['a NaN', { keys: { 'adapter.lora.alpha': number('float32', Number.NaN) } }, /alpha is NaN/],
  [
    'an infinite alpha',
    { keys: { 'adapter.lora.alpha': number('float32', Number.POSITIVE_INFINITY) } },
    /Infinity/,
  ],
  ['an absurd alpha', { keys: { 'adapter.lora.alpha': number('float32', 1e30) } }, /beyond ±65536/],
  [
    'one that acts behind a sequence only',
    { keys: { 'adapter.alora.invocation_tokens': array(ggufNumbers('uint32', [1])) } },
    /activated adapters are not supported/,
  ],
  ['a split', { keys: { 'split.count': number('uint16', 2) } }, /an adapter is one file/],
  ['nothing', { tensors: () => [] }, /holds no pair/],
  ['norms only', { tensors: () => [f32('blk.0.attn_norm.weight', 256)] }, /holds no pair/],
  ['half a pair', { tensors: (own) => own.slice(1) }, /blk\.0\.attn_q\.weight\.lora_a is missing/],
  ['the other half', { tensors: (own) => own.toSpliced(1, 1) }, /blk\.0\.attn_q\.weight\.lora_b is missing/],
  [
    'a whole tensor',
    { tensors: (own) => [...own, f32('blk.0.attn_q.weight', 256, 256)] },
    /is no half of a pair/,
  ],
  ['two suffixes', { tensors: renamed(/attn_q/, 'attn_q.lora_b') }, /has two suffixes/],
  [
    'a tensor that the base lacks',
    { tensors: renamed(/blk\.0\./, 'blk.7.') },
    /changes a tensor that the base lacks/,
  ],
  [
    'a norm as a pair',
    { tensors: () => [f32('output_norm.weight.lora_a', 256, 1), f32('output_norm.weight.lora_b', 1, 256)] },
    /no matrix/,
  ],
  ['integers', { tensors: retyped('i32', 'lora_a') }, /lora_a is of type i32/],
  [
    'intermediate results',
    { options: { rank: 32 }, tensors: retyped('q8_1', 'lora_b') },
    /lora_b is of type q8_1/,
  ],
  [
    'rows of another length',
    { options: { isTarget: onlyQuery }, tensors: reshaped('lora_a', 128, 4) },
    /is \[128, 4\] instead of \[256, 4\]/,
  ],
  [
    'other rows',
    { options: { isTarget: onlyQuery }, tensors: reshaped('lora_b', 4, 128) },
    /is \[4, 128\] instead of \[4, 256\]/,
  ],
  [
    'two ranks in a pair',
    { options: { isTarget: onlyQuery }, tensors: reshaped('lora_b', 8, 256) },
    /is \[256, 4\] instead of \[256, 8\]/,
  ],
  [
    'the other way round',
    { options: { isTarget: onlyQuery }, tensors: reshaped('lora_a', 4, 256) },
    /is \[4, 256\]/,
  ],
  [
    'a third dimension',
    { options: { isTarget: onlyQuery }, tensors: reshaped('lora_b', 4, 256, 2) },
    /is \[4, 256, 2\]/,
  ],
  ['an absurd rank', { options: { isTarget: onlyQuery, rank: 4097 } }, /rank 4097, above 4096/],
  ['a table that is input and output', { options: { isTarget: onlyTable } }, /uses for its output too/],
  [
    'a table whose halves do not match (not checked by llama.cpp)',
    {
      base: untiedBase,
      options: { isTarget: onlyTable },
      tensors: reshaped('lora_a', 8, TINY_VOCABULARY_TOKENS),
    },
    /lora_a is \[8, 283\] instead of \[4, 283\]/,
  ],
  [
    'other experts than the base has (not checked by llama.cpp)',
    {
      base: expertBase,
      options: { isTarget: (name) => name.includes('exps') },
      tensors: reshaped('lora_b', 4, 32, 2),
    },
    /lora_b is \[4, 32, 2\] instead of \[4, 32, 4\]/,
  ],
  [
    'a base of a type that takes none',
    {
      base: {
        ...tinyBase,
        tensors: tinyBase.tensors.map((tensor) =>
          onlyQuery(tensor.name) ? { ...tensor, type: ggmlType('nvfp4') } : tensor,
        ),
      },
    },
    /of type nvfp4, which takes no adapter/,
  ],
];

for (const [what, change, message] of REFUSED) {
  test(`not given to native code: ${what}`, () => {
    assert.throws(() => verified(change), { code: 'ADAPTER_INVALID', message });
  });
}

test('an adapter for the tiny model is described', () => {
  assert.deepEqual(verified({ options: { rank: 4, isTarget: onlyQuery } }), {
    architecture: 'llama',
    name: 'Tiny Random Adapter',
    alpha: 8,
    rank: 4,
    targets: ['blk.0.attn_q.weight'],
    parameterCount: 2 * 4 * 256,
    weightsBytes: 2 * 4 * 256 * 4,
    withoutEffect: [],
  });
});

const FINE: readonly [what: string, change: Change][] = [
  ['all matrices of a block', {}],
  ['no alpha', { keys: { 'adapter.lora.alpha': undefined } }],
  ['a table apart from the output', { base: untiedBase, options: { isTarget: onlyTable } }],
  ['the output', { base: untiedBase, options: { isTarget: (name) => name === 'output.weight' } }],
  ['experts', { base: expertBase, options: { isTarget: (name) => name.includes('exps') } }],
  ['quantized halves', { options: { rank: 32 }, tensors: retyped('q8_0', 'lora_a') }],
  ['half precision', { tensors: retyped('bf16', 'lora_b') }],
];

for (const [what, change] of FINE) {
  test(`fine: ${what}`, () => {
    assert.ok(verified(change).targets.length > 0);
  });
}

test('trained norms are passed over, and named', () => {
  const tensors = (own: readonly GgufTensorShape[]) => [...own, f32('blk.0.attn_norm.weight', 256)];
  assert.deepEqual(verified({ tensors }).withoutEffect, ['blk.0.attn_norm.weight']);
});

test('a base in several files is one base', () => {
  const [first, ...others] = tinyBase.tensors;
  assert.ok(first !== undefined);
  const shards = [
    fileOf({ ...tinyBase, tensors: [first] }, '1'),
    fileOf({ ...tinyBase, tensors: others }, '2'),
  ];
  const adapter = fileOf(adapterContent(tinyBase), 'a.gguf');
  assert.equal(verifyAdapter(adapter, shards).targets.length, 7);
});

test('tensors with room between them are refused', async () => {
  const bytes = await contentBytes(adapterContent(tinyBase));
  const file = await readGguf(memoryByteSource(bytes), 'a.gguf');
  const tensors = file.tensors.map((tensor, index) =>
    index === 0 ? tensor : { ...tensor, offset: tensor.offset + 32 },
  );
  assert.throws(() => verifyAdapter({ ...file, tensors }, fileOf(tinyBase, 'base.gguf')), {
    code: 'GGUF_INVALID',
    message: /lies at \d+ instead of \d+/,
  });
});
