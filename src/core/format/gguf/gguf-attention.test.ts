import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changedModel, type ModelChange } from '../../../../tests/fixtures/small-gguf.ts';
import { ggmlType } from './ggml-types.ts';
import { ggufNumbers } from './gguf-array.ts';
import type { GgufValue } from './gguf-types.ts';
import { ggufValue } from './gguf-values.ts';
import { verifyModelGguf } from './gguf-verification.ts';

const uint32 = (value: number) => ggufValue.number('uint32', value);

/** Heads of 8 elements in a model of this architecture, but for the change. */
function heads(architecture: string, keys: Readonly<Record<string, GgufValue | undefined>>): ModelChange {
  const own = {
    block_count: uint32(1),
    context_length: uint32(64),
    embedding_length: uint32(32),
    'attention.head_count': uint32(4),
    ...keys,
  };
  const named = Object.entries(own).map(([key, value]) => [`${architecture}.${key}`, value] as const);
  return { keys: { 'general.architecture': ggufValue.string(architecture), ...Object.fromEntries(named) } };
}

const perBlock = (...counts: number[]) => ggufValue.array(ggufNumbers('uint32', counts));

const REFUSED: readonly [what: string, change: ModelChange, message: RegExp][] = [
  [
    'values shorter than keys',
    heads('qwen2', { 'attention.value_length': uint32(4) }),
    /value_length is 4, and keys have 8/,
  ],
  [
    'keys longer than values',
    heads('gemma3', { 'attention.key_length': uint32(16) }),
    /value_length is 8, and keys have 16/,
  ],
  [
    'values shorter than keys, heads per block',
    heads('qwen2', { 'attention.head_count': perBlock(4), 'attention.value_length': uint32(4) }),
    /value_length is 4/,
  ],
  [
    'half a rotation',
    heads('qwen2', { 'rope.dimension_count': uint32(4) }),
    /is 4, and qwen2 rotates all 8 of a head/,
  ],
  [
    'more heads than the queries have',
    {
      ...heads('bert', { 'attention.head_count': uint32(8) }),
      tensors: [{ name: 'blk.0.attn_q.weight', type: ggmlType('f32'), dimensions: [32, 24] }],
    },
    /attn_q\.weight has 24 rows, no multiple of the 32/,
  ],
  [
    'cycles that run another number of blocks',
    heads('hrm_text', {
      'hrm.layers_per_stack': uint32(1),
      'hrm.h_cycles': uint32(1),
      'hrm.l_cycles': uint32(31),
    }),
    /block_count is not what the cycles of its stack run/,
  ],
  [
    'no number of heads, but attention',
    {
      ...heads('qwen2', { 'attention.head_count': undefined }),
    },
    /head_count is missing, and qwen2 has attention/,
  ],
  [
    'no experts where there must be some',
    heads('glm4moe', {}),
    /expert_count is 0, and glm4moe has no variant/,
  ],
  [
    'values of a window shorter than its keys',
    heads('exaone-moe', { 'attention.value_length_swa': uint32(4) }),
    /value_length_swa is 4, and keys have 8/,
  ],
  [
    'heads of a block that key heads do not divide',
    heads('pangu-embedded', { block_count: uint32(2), 'attention.head_count_kv': perBlock(2, 3) }),
    /head_count_kv is 3, which does not divide the 4 heads/,
  ],
  [
    'keys that are no heads',
    {
      ...heads('qwen2', { 'attention.head_count_kv': uint32(2) }),
      tensors: [{ name: 'blk.0.attn_k.weight', type: ggmlType('f32'), dimensions: [32, 24] }],
    },
    /attn_k\.weight has 24 rows, no multiple of the 16/,
  ],
];

for (const [what, change, message] of REFUSED) {
  test(`not given to native code: ${what}`, async () => {
    const file = await changedModel(change);
    assert.throws(() => verifyModelGguf(file), { code: 'GGUF_INVALID', message });
  });
}

const FINE: readonly [what: string, change: ModelChange][] = [
  [
    'a window with heads of its own',
    heads('gemma3', { 'attention.key_length_swa': uint32(4), 'attention.value_length_swa': uint32(4) }),
  ],
  ['no heads in a recurrent model', heads('mamba', { 'attention.head_count': uint32(0) })],
  ['one length', heads('qwen2', {})],
  [
    'one length, declared',
    heads('qwen2', { 'attention.key_length': uint32(16), 'attention.value_length': uint32(16) }),
  ],
  [
    'latent attention',
    heads('deepseek2', { 'attention.key_length': uint32(24), 'attention.value_length': uint32(16) }),
  ],
  ['a quarter of a rotation', heads('phi2', { 'rope.dimension_count': uint32(2) })],
  ['an architecture that we do not know', heads('tomorrow', { 'attention.value_length': uint32(4) })],
];

for (const [what, change] of FINE) {
  test(`fine: ${what}`, async () => {
    assert.ok(verifyModelGguf(await changedModel(change)).architecture.length > 0);
  });
}
