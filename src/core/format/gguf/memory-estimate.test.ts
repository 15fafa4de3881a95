import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from '../../base/errors.ts';
import { ggmlType } from './ggml-types.ts';
import { ggufNumbers } from './gguf-array.ts';
import type { GgufFile, GgufTensor, GgufValue } from './gguf-types.ts';
import { ggufMetadata, ggufValue } from './gguf-values.ts';
import {
  BATCH_TOKENS,
  CONTEXT_TOKENS_DEFAULT_MAX,
  defaultContextTokens,
  estimateMemory,
  type MemoryFacts,
  memoryFacts,
} from './memory-estimate.ts';

const MIB = 2 ** 20;
const integer = (value: number) => ggufValue.number('uint32', value);
const list = (values: readonly number[]) => ggufValue.array(ggufNumbers('int32', values));

/** A header with these keys of its architecture, and tensors of these names. */
function header(
  architecture: string,
  keys: Readonly<Record<string, GgufValue>>,
  tensors: readonly string[] = [],
): GgufFile {
  return {
    name: 'test.gguf',
    version: 3,
    sizeBytes: 0,
    alignmentBytes: 32,
    dataOffset: 0,
    metadata: ggufMetadata([
      ['general.architecture', ggufValue.string(architecture)],
      ...Object.entries(keys).map(([key, value]) => [`${architecture}.${key}`, value] as const),
    ]),
    tensors: tensors.map((name): GgufTensor => {
      return { name, type: ggmlType('f32'), dimensions: [1], elementCount: 1, offset: 0, sizeBytes: 4 };
    }),
  };
}

/** SmolLM2-135M: grouped attention. */
const SMOL = {
  block_count: integer(30),
  context_length: integer(8192),
  embedding_length: integer(576),
  feed_forward_length: integer(1536),
  'attention.head_count': integer(9),
  'attention.head_count_kv': integer(3),
  vocab_size: integer(49_152),
};

test('keys and values of a model with grouped attention, as llama.cpp itself counts them', () => {
  const facts = memoryFacts(header('llama', SMOL));
  assert.equal(facts.cacheElementsPerToken, 30 * 3 * (64 + 64));
  const request = { weightsBytes: 1000, contextTokens: 2048, parallelRequests: 4 };
  // "llama_kv_cache: size = 180.00 MiB (2048 cells, 30 layers, 4/4 seqs)"
  assert.equal(estimateMemory(facts, request).contextBytes, 180 * MIB);
  assert.equal(estimateMemory(facts, { ...request, contextTokens: 8192 }).contextBytes, 720 * MIB);
  // Cells come in steps of 256.
  assert.equal(estimateMemory(facts, { ...request, contextTokens: 2047 }).contextBytes, 180 * MIB);
  assert.equal(estimateMemory(facts, { ...request, contextTokens: 2049 }).contextBytes, 202.5 * MIB);
});

test('the work of one call, close to what llama.cpp reserves for it', () => {
  const facts = memoryFacts(header('llama', SMOL));
  const work = (contextTokens: number, parallelRequests: number, batchTokens: number) =>
    estimateMemory(facts, { weightsBytes: 0, contextTokens, parallelRequests, batchTokens }).workBytes / MIB;
  // "CPU compute buffer size", beside which lie the logits, and the scores once more in 16 bits.
  for (const [contextTokens, parallel, batch, reserved] of [
    [2048, 1, 64, 5.8],
    [512, 4, 64, 2.05],
    [1024, 2, 512, 26.38],
    [8192, 4, 512, 166.38],
  ] as const) {
    const least = reserved + (parallel * 49_152 * 4) / MIB;
    const estimated = work(contextTokens, parallel, batch);
    assert.ok(estimated >= least && estimated <= 1.6 * least + 1, `${contextTokens}: ${estimated}, ${least}`);
  }
});

test('heads that differ between blocks, and blocks without any', () => {
  const facts = memoryFacts(
    header('openelm', {
      block_count: integer(3),
      embedding_length: integer(1280),
      'attention.head_count': list([12, 12, 0]),
      'attention.head_count_kv': list([3, 4, 0]),
      'attention.key_length': integer(64),
      'attention.value_length': integer(32),
    }),
  );
  assert.equal(facts.cacheElementsPerToken, (3 + 4) * (64 + 32));
  assert.equal(facts.attentionHeads, 12);
});

test('a sliding window counts as a whole context, with the longer of the two head lengths', () => {
  const keys = {
    block_count: integer(2),
    embedding_length: integer(640),
    'attention.head_count': integer(4),
    'attention.head_count_kv': integer(1),
    'attention.key_length': integer(256),
    'attention.value_length': integer(256),
    'attention.sliding_window': integer(512),
  };
  assert.equal(memoryFacts(header('gemma3', keys)).cacheElementsPerToken, 2 * 512);
  const mixed = header('gemma4', { ...keys, 'attention.key_length_swa': integer(512) });
  assert.equal(memoryFacts(mixed).cacheElementsPerToken, 2 * (512 + 256));
});

test('without a number of key heads, every head has its own', () => {
  const facts = memoryFacts(
    header('gpt2', {
      block_count: integer(12),
      embedding_length: integer(768),
      'attention.head_count': integer(12),
    }),
  );
  assert.equal(facts.cacheElementsPerToken, 12 * 2 * 768);
});

test('an encoder remembers nothing, and has logits for each token of an input', () => {
  const facts = memoryFacts(
    header('bert', {
      block_count: integer(6),
      context_length: integer(512),
      embedding_length: integer(384),
      feed_forward_length: integer(1536),
      'attention.head_count': integer(12),
      'attention.causal': ggufValue.boolean(false),
      pooling_type: integer(1),
      vocab_size: integer(30_522),
    }),
  );
  assert.equal(facts.purpose, 'embed');
  const estimate = estimateMemory(facts, { weightsBytes: 0, contextTokens: 512, parallelRequests: 1 });
  assert.equal(estimate.contextBytes, 0);
  // 62 MB of logits, 17.5 MiB "CPU compute buffer size", and scores converted.
  assert.ok(estimate.workBytes > 77 * MIB && estimate.workBytes < 90 * MIB, `${estimate.workBytes / MIB}`);
  const half = estimateMemory(facts, { weightsBytes: 0, contextTokens: 256, parallelRequests: 1 });
  assert.ok(half.workBytes < estimate.workBytes / 2);
});

test('recurrent and hybrid models: a state for each request, keys only for blocks with attention', () => {
  const mamba = memoryFacts(
    header(
      'mamba',
      {
        block_count: integer(24),
        embedding_length: integer(768),
        'attention.head_count': integer(0),
        'ssm.conv_kernel': integer(4),
        'ssm.inner_size': integer(1536),
        'ssm.state_size': integer(16),
      },
      ['blk.0.ssm_in.weight'],
    ),
  );
  assert.equal(mamba.cacheElementsPerToken, 0);
  assert.equal(mamba.stateElements, 24 * (3 * 1536 + 16 * 1536));
  const request = { weightsBytes: 0, contextTokens: 8192, parallelRequests: 2 };
  assert.equal(estimateMemory(mamba, request).contextBytes, 2 * 4 * mamba.stateElements);

  const hybrid = memoryFacts(
    header(
      'jamba',
      {
        block_count: integer(4),
        embedding_length: integer(256),
        'attention.head_count': integer(4),
        'attention.head_count_kv': integer(4),
        'ssm.conv_kernel': integer(4),
        'ssm.inner_size': integer(512),
        'ssm.state_size': integer(16),
        'ssm.group_count': integer(2),
      },
      ['blk.0.ssm_in.weight', 'blk.1.attn_k.weight', 'blk.2.ssm_in.weight', 'blk.3.attn_kv_a_mqa.weight'],
    ),
  );
  assert.equal(hybrid.cacheElementsPerToken, 2 * 2 * 256);
  assert.equal(hybrid.stateElements, 4 * (3 * (512 + 2 * 2 * 16) + 16 * 512));

  const rwkv = memoryFacts(
    header('rwkv6', {
      block_count: integer(2),
      embedding_length: integer(128),
      'wkv.head_size': integer(64),
      token_shift_count: integer(2),
    }),
  );
  assert.equal(rwkv.stateElements, 2 * 128 * (64 + 2));
});

test('experts: those that work on one token, and the shared one', () => {
  const keys = {
    block_count: integer(2),
    embedding_length: integer(128),
    feed_forward_length: integer(1000),
    expert_count: integer(64),
    expert_used_count: integer(8),
  };
  assert.equal(memoryFacts(header('qwen3moe', keys)).feedForwardLength, 8000);
  const shared = {
    ...keys,
    expert_feed_forward_length: integer(200),
    expert_shared_feed_forward_length: integer(500),
  };
  assert.equal(memoryFacts(header('qwen3moe', shared)).feedForwardLength, 2100);
});

test('adapters count as weights', () => {
  const facts = memoryFacts(header('llama', SMOL));
  const request = { weightsBytes: 1000, contextTokens: 256, parallelRequests: 1 };
  const [without, having] = [
    estimateMemory(facts, request),
    estimateMemory(facts, { ...request, adapterBytes: 77 }),
  ];
  assert.equal(having.weightsBytes, 1077);
  assert.equal(having.totalBytes - without.totalBytes, 77);
});

test('the default context is the trained one, up to a cap', () => {
  assert.equal(defaultContextTokens({ contextTokens: 512 }), 512);
  assert.equal(defaultContextTokens({ contextTokens: 131_072 }), CONTEXT_TOKENS_DEFAULT_MAX);
  assert.equal(defaultContextTokens({}), CONTEXT_TOKENS_DEFAULT_MAX);
});

const facts: fc.Arbitrary<MemoryFacts> = fc.record({
  vocabularyTokens: fc.nat(300_000),
  embeddingLength: fc.nat(20_000),
  cacheElementsPerToken: fc.nat(10_000_000),
  stateElements: fc.nat(10_000_000),
  attentionHeads: fc.nat(256),
  feedForwardLength: fc.nat(100_000),
  purpose: fc.constantFrom('generate' as const, 'embed' as const),
});

test('more of anything never needs less, and the parts make the whole', () => {
  const request = fc.record({
    weightsBytes: fc.nat(),
    contextTokens: fc.integer({ min: 1, max: 1 << 20 }),
    parallelRequests: fc.integer({ min: 1, max: 2 * BATCH_TOKENS }),
  });
  fc.assert(
    fc.property(facts, request, fc.nat(5000), fc.nat(8), (known, asked, tokens, requests) => {
      const less = estimateMemory(known, asked);
      const more = estimateMemory(known, {
        ...asked,
        contextTokens: asked.contextTokens + tokens,
        parallelRequests: asked.parallelRequests + requests,
      });
      assert.ok(more.totalBytes >= less.totalBytes);
      const { weightsBytes, contextBytes, workBytes, processBytes, totalBytes } = less;
      assert.equal(weightsBytes + contextBytes + workBytes + processBytes, totalBytes);
      assert.ok(Number.isFinite(totalBytes) && totalBytes > 0);
    }),
  );
});

test('numbers that no model has are refused before anything is made of them', () => {
  const long = list(new Array<number>(100_000).fill(1));
  for (const keys of [
    { ...SMOL, block_count: integer(2 ** 31) },
    { ...SMOL, block_count: ggufValue.number('int32', -1) },
    { ...SMOL, 'attention.head_count': long },
    { ...SMOL, 'attention.head_count': list([-5]) },
    { ...SMOL, 'attention.key_length': integer(2 ** 30) },
    { ...SMOL, embedding_length: ggufValue.string('wide') },
    { ...SMOL, 'ssm.state_size': ggufValue.bigint('uint64', 2n ** 62n) },
  ]) {
    assert.throws(
      () => memoryFacts(header('llama', keys)),
      (error: unknown) => error instanceof FreeholdError && error.code === 'GGUF_INVALID',
    );
  }
});
