import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changedModel, type ModelChange } from '../../../../tests/fixtures/small-gguf.ts';
import { TINY_VOCABULARY_TOKENS as TOKENS } from '../../../../tests/fixtures/tiny-model.ts';
import { ggmlType } from './ggml-types.ts';
import { ggufNumbers, ggufStrings } from './gguf-array.ts';
import type { GgufValue } from './gguf-types.ts';
import { ggufValue } from './gguf-values.ts';
import { verifyModelGguf } from './gguf-verification.ts';

const { string, number, boolean, array } = ggufValue;
const uint32 = (value: number) => number('uint32', value);
const float32 = (value: number) => number('float32', value);

const f32 = (name: string, ...dimensions: number[]) => ({ name, type: ggmlType('f32'), dimensions });
const embedding = f32('token_embd.weight', 8, TOKENS);
const tokens = (count: number, text: (index: number) => string | Uint8Array = (index) => `t${index}`) =>
  array(ggufStrings(Array.from({ length: count }, (_, index) => text(index))));
const types = (type: number) => array(ggufNumbers('int32', new Array(TOKENS).fill(type)));
const set = (key: string, value: GgufValue | undefined): ModelChange => ({ keys: { [key]: value } });

const REFUSED: readonly [what: string, change: ModelChange, message: RegExp][] = [
  ['no architecture', set('general.architecture', undefined), /general\.architecture is missing/],
  [
    'an architecture that is a path',
    set('general.architecture', string('../x')),
    /is not the name of an architecture/,
  ],
  ['an adapter', set('general.type', string('adapter')), /general\.type is "adapter" instead of "model"/],
  ['no blocks', set('llama.block_count', uint32(0)), /block_count is 0 instead of 1 to 512/],
  ['513 blocks (pull request 25821)', set('llama.block_count', uint32(513)), /block_count is 513/],
  ['block_count missing', set('llama.block_count', undefined), /block_count is missing/],
  [
    'block_count as a text',
    set('llama.block_count', string('2')),
    /block_count is string instead of an integer/,
  ],
  [
    'more posnet blocks than blocks (pull request 26892)',
    set('llama.posnet.block_count', uint32(2)),
    /posnet\.block_count is 2 instead of 0 to 1/,
  ],
  [
    'more predicting blocks than blocks',
    set('llama.nextn_predict_layers', uint32(2)),
    /nextn_predict_layers is 2/,
  ],
  ['a context of 0', set('llama.context_length', uint32(0)), /context_length is 0/],
  ['an absurd context', set('llama.context_length', uint32(2 ** 31)), /context_length is 2147483648/],
  ['a width of 0', set('llama.embedding_length', uint32(0)), /embedding_length is 0/],
  [
    'an absurd feed-forward width',
    set('llama.feed_forward_length', uint32(2 ** 32 - 1)),
    /feed_forward_length is 4294967295/,
  ],
  ['a negative head length', set('llama.attention.key_length', number('int32', -1)), /key_length is -1/],
  [
    '600 values per block',
    set('llama.feed_forward_length', array(ggufNumbers('uint32', new Array(600).fill(8)))),
    /has 600 elements, above 512/,
  ],
  [
    'no heads, but attention (issue 2247)',
    {
      ...set('llama.attention.head_count', uint32(0)),
      tensors: [embedding, f32('blk.0.attn_q.weight', 8, 8)],
    },
    /head_count is 0/,
  ],
  [
    'more heads than width',
    set('llama.attention.head_count', uint32(17)),
    /head_count is 17, more than the width of 16/,
  ],
  [
    'heads that key heads do not divide',
    set('llama.attention.head_count_kv', uint32(3)),
    /is 3, which does not divide the 8 heads/,
  ],
  [
    'an odd rotation',
    { keys: { 'llama.attention.key_length': uint32(4), 'llama.rope.dimension_count': uint32(3) } },
    /rope\.dimension_count is 3/,
  ],
  [
    'a rotation of nothing, which never ends',
    set('llama.rope.dimension_count', uint32(0)),
    /is 0, which is no even number/,
  ],
  [
    'a rotation of nothing in a window',
    set('llama.rope.dimension_count_swa', uint32(0)),
    /dimension_count_swa is 0/,
  ],
  [
    'a rotation beyond the head',
    { keys: { 'llama.attention.key_length': uint32(4), 'llama.rope.dimension_count': uint32(6) } },
    /head length of 4/,
  ],
  [
    'an unknown scaling of the rotation',
    set('llama.rope.scaling.type', string('x')),
    /rope\.scaling\.type is "x" instead of/,
  ],
  [
    'a NaN epsilon',
    set('llama.attention.layer_norm_rms_epsilon', float32(Number.NaN)),
    /layer_norm_rms_epsilon is NaN/,
  ],
  [
    'an infinite rotation base',
    set('llama.rope.freq_base', float32(Number.POSITIVE_INFINITY)),
    /freq_base is Infinity/,
  ],
  ['a negative epsilon', set('llama.attention.layer_norm_rms_epsilon', float32(-1)), /is -1, below 0/],
  ['513 experts', set('llama.expert_count', uint32(513)), /expert_count is 513/],
  [
    'more experts used than there are',
    { keys: { 'llama.expert_count': uint32(4), 'llama.expert_used_count': uint32(5) } },
    /expert_used_count is 5/,
  ],
  [
    'experts of which none is used',
    set('llama.expert_count', uint32(4)),
    /expert_used_count is missing of 4 experts/,
  ],
  [
    'one expert, not used',
    { keys: { 'llama.expert_count': uint32(1), 'llama.expert_used_count': uint32(0) } },
    /expert_used_count is 0 of 1 experts/,
  ],
  [
    'experts used per block, more than there are',
    {
      keys: { 'llama.expert_count': uint32(2), 'llama.expert_used_count': array(ggufNumbers('uint32', [3])) },
    },
    /expert_used_count is 3 of 2 experts/,
  ],
  [
    'groups that do not divide the experts',
    {
      keys: {
        'llama.expert_count': uint32(4),
        'llama.expert_used_count': uint32(1),
        'llama.expert_group_count': uint32(3),
      },
    },
    /expert_group_count is 3, of 4/,
  ],
  [
    'groups of which none is used',
    {
      keys: {
        'llama.expert_count': uint32(4),
        'llama.expert_used_count': uint32(1),
        'llama.expert_group_count': uint32(2),
      },
    },
    /expert_group_used_count is missing/,
  ],
  ['no tokenizer', set('tokenizer.ggml.model', undefined), /tokenizer\.ggml\.model is missing/],
  [
    'an absurd vocabulary without tokenizer (pull request 26690)',
    { keys: { 'tokenizer.ggml.model': string('none'), 'llama.vocab_size': uint32(2 ** 31) } },
    /vocab_size is 2147483648/,
  ],
  ['no tokens', set('tokenizer.ggml.tokens', undefined), /tokenizer\.ggml\.tokens is missing/],
  [
    'an empty vocabulary',
    { keys: { 'llama.vocab_size': undefined, 'tokenizer.ggml.tokens': tokens(0) } },
    /has 0 tokens/,
  ],
  [
    'tokens that are numbers',
    set('tokenizer.ggml.tokens', array(ggufNumbers('int32', [1]))),
    /is an array of int32 instead of an array of string/,
  ],
  [
    'a vocabulary of another size than declared',
    set('llama.vocab_size', uint32(TOKENS + 1)),
    /vocab_size is \d+, and there are \d+ tokens/,
  ],
  [
    'a table with fewer rows than tokens',
    { tensors: [f32('token_embd.weight', 8, TOKENS - 1)] },
    /tokens has \d+ tokens, and token_embd\.weight has \d+ rows/,
  ],
  ['a table of one dimension', { tensors: [f32('token_embd.weight', 8)] }, /token_embd\.weight has 1 rows/],
  [
    'a token of 100 kB (CVE-2025-49847)',
    set(
      'tokenizer.ggml.tokens',
      tokens(TOKENS, (index) => 'x'.repeat(index === 7 ? 100_000 : 1)),
    ),
    /has the token 7 of 100000 bytes/,
  ],
  [
    'a token twice',
    set(
      'tokenizer.ggml.tokens',
      tokens(TOKENS, (index) => `t${index % 200}`),
    ),
    /has the token 200 a second time: "t0"/,
  ],
  [
    'tokens that are one as C strings',
    set(
      'tokenizer.ggml.tokens',
      tokens(TOKENS, (index) => (index < 2 ? `a\0${index}` : `t${index}`)),
    ),
    /has the token 1 a second time: "a"/,
  ],
  [
    'scores as bytes (issue 24888)',
    set('tokenizer.ggml.scores', array(ggufNumbers('uint8', new Array(TOKENS).fill(0)))),
    /scores is an array of uint8 instead of an array of float32/,
  ],
  [
    'too few scores (pull request 20735)',
    set('tokenizer.ggml.scores', array(ggufNumbers('float32', [1]))),
    /scores has 1 elements, and there are/,
  ],
  [
    'a NaN among the scores',
    set('tokenizer.ggml.scores', array(ggufNumbers('float32', new Array(TOKENS).fill(Number.NaN)))),
    /scores is NaN for token 0/,
  ],
  [
    'types as bytes (issue 24888)',
    set('tokenizer.ggml.token_type', array(ggufNumbers('int8', new Array(TOKENS).fill(1)))),
    /token_type is an array of int8/,
  ],
  [
    'too many types',
    set('tokenizer.ggml.token_type', array(ggufNumbers('int32', new Array(TOKENS + 1).fill(1)))),
    /token_type has \d+ elements/,
  ],
  ['an unknown type', set('tokenizer.ggml.token_type', types(7)), /token_type is 7 for token 0/],
  ['a negative type', set('tokenizer.ggml.token_type', types(-1)), /token_type is -1 for token 0/],
  [
    'a byte token of −1 (pull request 25969)',
    {
      keys: {
        'tokenizer.ggml.model': string('plamo2'),
        'tokenizer.ggml.token_type': types(6),
        'tokenizer.ggml.tokens': tokens(TOKENS, (index) => `<0x-${index}>`),
      },
    },
    /byte token 0, which is not written like <0x0A>/,
  ],
  [
    'merges that are numbers',
    set('tokenizer.ggml.merges', array(ggufNumbers('uint8', [1]))),
    /merges is an array of uint8/,
  ],
  [
    'an end token behind the vocabulary (GHSA-g4cc-763q-h9h6)',
    set('tokenizer.ggml.eos_token_id', uint32(TOKENS)),
    /eos_token_id is \d+, and there are/,
  ],
  [
    'an end token of −1',
    set('tokenizer.ggml.eos_token_id', uint32(2 ** 32 - 1)),
    /eos_token_id is 4294967295/,
  ],
  [
    'a default token behind the vocabulary (pull request 25508)',
    {
      keys: {
        'tokenizer.ggml.model': string('bert'),
        'tokenizer.ggml.tokens': tokens(50),
        'tokenizer.ggml.token_type': undefined,
        'llama.vocab_size': undefined,
      },
      tensors: [f32('token_embd.weight', 8, 50)],
    },
    /seperator_token_id is missing and 102 by default/,
  ],
  [
    'a suppressed token behind the vocabulary',
    set('tokenizer.ggml.suppress_tokens', array(ggufNumbers('int32', [1, TOKENS]))),
    /suppress_tokens has \d+, and there are/,
  ],
  [
    'suppressed tokens as bytes (issue 24888)',
    set('tokenizer.ggml.suppress_tokens', array(ggufNumbers('uint8', [1]))),
    /suppress_tokens is an array of uint8/,
  ],
  [
    'a character map of 3 bytes (GHSA-ppcr-mg43-5hq3)',
    set('tokenizer.ggml.precompiled_charsmap', array(ggufNumbers('uint8', [0, 0, 0]))),
    /precompiled_charsmap of 3 bytes/,
  ],
  [
    'a character map larger than itself',
    set('tokenizer.ggml.precompiled_charsmap', array(ggufNumbers('uint8', [8, 0, 0, 0, 1, 1, 1, 1]))),
    /precompiled_charsmap of 8 bytes/,
  ],
  [
    'a character map without an end (GHSA-4383-xr9f-c744)',
    set('tokenizer.ggml.precompiled_charsmap', array(ggufNumbers('uint8', [4, 0, 0, 0, 1, 1, 1, 1, 65]))),
    /precompiled_charsmap of 9 bytes/,
  ],
  [
    'weights of a type for intermediate results',
    { tensors: [{ ...embedding, type: ggmlType('q8_1'), dimensions: [32, TOKENS] }] },
    /is of type q8_1/,
  ],
  [
    'a chat template that is no text',
    set('tokenizer.chat_template', boolean(true)),
    /chat_template is bool instead of a string/,
  ],
];

for (const [what, change, message] of REFUSED) {
  test(`not given to native code: ${what}`, async () => {
    const file = await changedModel(change);
    assert.throws(() => verifyModelGguf(file), { code: 'GGUF_INVALID', message });
  });
}

const FINE: readonly [what: string, change: ModelChange][] = [
  ['the model without a change', {}],
  ['heads per block', set('llama.attention.head_count', array(ggufNumbers('uint32', [8])))],
  [
    'experts in groups',
    {
      keys: {
        'llama.expert_count': uint32(8),
        'llama.expert_used_count': uint32(2),
        'llama.expert_group_count': uint32(4),
        'llama.expert_group_used_count': uint32(2),
      },
    },
  ],
  [
    'a tokenizer of none',
    { keys: { 'tokenizer.ggml.model': string('none'), 'tokenizer.ggml.tokens': undefined } },
  ],
  [
    'several tokens without text',
    set(
      'tokenizer.ggml.tokens',
      tokens(TOKENS, (index) => (index % 9 === 0 ? '' : `t${index}`)),
    ),
  ],
  [
    'scores of −∞',
    set(
      'tokenizer.ggml.scores',
      array(ggufNumbers('float32', new Array(TOKENS).fill(Number.NEGATIVE_INFINITY))),
    ),
  ],
  [
    'a character map',
    set('tokenizer.ggml.precompiled_charsmap', array(ggufNumbers('uint8', [4, 0, 0, 0, 1, 1, 1, 1, 65, 0]))),
  ],
  [
    'byte tokens',
    {
      keys: {
        'tokenizer.ggml.model': string('llama'),
        'tokenizer.ggml.token_type': array(
          ggufNumbers(
            'int32',
            Array.from({ length: TOKENS }, (_, index) => (index < 256 ? 6 : 1)),
          ),
        ),
        'tokenizer.ggml.tokens': tokens(TOKENS, (index) =>
          index < 256 ? `<0x${index.toString(16).toUpperCase().padStart(2, '0')}>` : `t${index}`,
        ),
      },
    },
  ],
  ['what a merge of shards leaves', set('split.count', number('uint16', 0))],
];

for (const [what, change] of FINE) {
  test(`fine: ${what}`, async () => {
    assert.equal(verifyModelGguf(await changedModel(change)).architecture, 'llama');
  });
}

test('tensors in another order than their places, or with room between them, are refused', async () => {
  const file = await changedModel({});
  const [first, second] = file.tensors;
  assert.ok(first !== undefined && second !== undefined);
  const message = /lies at \d+ instead of \d+/;
  assert.throws(() => verifyModelGguf({ ...file, tensors: [second, first] }), {
    code: 'GGUF_INVALID',
    message,
  });
  assert.throws(
    () => verifyModelGguf({ ...file, tensors: [first, { ...second, offset: second.offset + 32 }] }),
    {
      code: 'GGUF_INVALID',
      message,
    },
  );
});
