import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changedModel } from '../../../../tests/fixtures/small-gguf.ts';
import { ggufValue } from './gguf-values.ts';
import { verifyModelGguf } from './gguf-verification.ts';

const CASES: readonly [
  architecture: string,
  fine: Readonly<Record<string, number>>,
  wrong: Readonly<Record<string, number>>,
  message: RegExp,
][] = [
  [
    'hrm_text',
    { 'hrm.layers_per_stack': 1, 'hrm.h_cycles': 1, 'hrm.l_cycles': 1, block_count: 2 },
    { 'hrm.l_cycles': 31 },
    /cycles of its stack/,
  ],
  [
    'wavtokenizer-dec',
    { 'posnet.embedding_length': 32, 'convnext.embedding_length': 32 },
    { 'posnet.embedding_length': 33 },
    /length of convnext/,
  ],
  ['jamba', { 'ssm.inner_size': 64 }, { 'ssm.inner_size': 128 }, /twice the embedding length/],
  ['lfm2', { 'shortconv.l_cache': 3 }, { 'shortconv.l_cache': 1 }, /below 2/],
  ['ernie4_5-moe', { interleave_moe_layer_step: 1 }, { interleave_moe_layer_step: 0 }, /missing or 0/],
  [
    'qwen3next',
    { 'ssm.group_count': 2, 'ssm.time_step_rank': 4 },
    { 'ssm.time_step_rank': 3 },
    /no multiple/,
  ],
  ['qwen35', { 'ssm.group_count': 2, 'ssm.time_step_rank': 4 }, { 'ssm.group_count': 0 }, /no multiple/],
  [
    'deepseek2',
    { 'attention.key_length_mla': 16, 'rope.dimension_count': 8 },
    { 'attention.key_length_mla': 8 },
    /leaves nothing of a head/,
  ],
];

for (const [architecture, fine, wrong, message] of CASES) {
  test(`a relation of ${architecture} that native code asserts`, async () => {
    const verified = async (own: Readonly<Record<string, number>>) => {
      const shared = { block_count: 1, context_length: 64, embedding_length: 32, 'attention.head_count': 4 };
      const keys = Object.entries({ ...shared, ...own }).map(
        ([key, value]) => [`${architecture}.${key}`, ggufValue.number('uint32', value)] as const,
      );
      const named = { 'general.architecture': ggufValue.string(architecture), ...Object.fromEntries(keys) };
      return verifyModelGguf(await changedModel({ keys: named }));
    };
    assert.equal((await verified(fine)).architecture, architecture);
    await assert.rejects(verified({ ...fine, ...wrong }), { code: 'GGUF_INVALID', message });
  });
}
