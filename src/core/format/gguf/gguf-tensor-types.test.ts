import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changedModel, smallModelContent } from '../../../../tests/fixtures/small-gguf.ts';
import { ggmlType } from './ggml-types.ts';
import { ggufValue } from './gguf-values.ts';
import { verifyModelGguf } from './gguf-verification.ts';

async function withTensor(name: string, type: string): Promise<void> {
  const tensors = [...smallModelContent().tensors, { name, type: ggmlType(type), dimensions: [256, 2] }];
  verifyModelGguf(await changedModel({ tensors }));
}

// What ggml aborts on, or calls NULL for: seen with the library itself.
const REFUSED: readonly [name: string, type: string][] = [
  ['blk.0.attn_norm.weight', 'f16'],
  ['blk.0.post_attention_norm', 'bf16'],
  ['blk.0.attn_q.bias', 'f16'],
  ['blk.0.exp_probs_b.bias', 'q8_0'],
  ['blk.0.ssm_a', 'f16'],
  ['blk.0.ssm_conv1d.weight', 'f16'],
  ['blk.0.attn_sinks.weight', 'f16'],
  ['rope_freqs.weight', 'f16'],
  ['convnext.0.dw.weight', 'bf16'],
  ['blk.0.attn_q.weight', 'i8'],
  ['blk.0.attn_q.weight', 'i32'],
  ['blk.0.attn_q.weight', 'f64'],
  ['blk.0.attn_q.weight', 'q8_K'],
];

for (const [name, type] of REFUSED) {
  test(`not given to native code: ${name} of type ${type}`, async () => {
    await assert.rejects(withTensor(name, type), {
      code: 'GGUF_INVALID',
      message: new RegExp(`${name} is of type ${type}`),
    });
  });
}

for (const [name, type] of [
  ['blk.0.attn_norm.weight', 'f32'],
  ['blk.0.ffn_up.weight', 'iq4_xs'],
  ['blk.0.ffn_gate_inp.weight', 'f16'],
  ['blk.0.ffn_gate_tid2eid.weight', 'i32'],
  ['d2t', 'i64'],
  ['convnext.0.dw.weight', 'f16'],
] as const) {
  test(`fine: ${name} of type ${type}`, () => withTensor(name, type));
}

test('tensors at places that native code cannot map are refused', async () => {
  const tensors = smallModelContent().tensors.slice(1);
  const alignment = { 'general.alignment': ggufValue.number('uint32', 8) };
  // A key whose length moves the data, byte by byte.
  const places = Array.from({ length: 4 }, (_, index) => ({
    ...alignment,
    [`x.${'y'.repeat(index * 8)}`]: ggufValue.boolean(true),
  }));
  const refused: string[] = [];
  for (const keys of places) {
    const file = await changedModel({ keys, tensors });
    try {
      verifyModelGguf(file);
      assert.equal(file.dataOffset % 32, 0);
    } catch (error) {
      refused.push(error instanceof Error ? error.message : '');
    }
  }
  assert.equal(refused.length, 3);
  assert.match(refused[0] ?? '', /not a multiple of the 32 that native code needs/);
});
