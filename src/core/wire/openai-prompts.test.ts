import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import { parseCompletionRequest } from './openai-completion-request.ts';
import { encodeEmbeddings, parseEmbeddingRequest, requireDimensions } from './openai-embedding.ts';
import { requireTokensKnown } from './openai-prompts.ts';

const paramOf = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    if (error instanceof FreeholdError) return `${error.code} ${error.detail.param}`;
    throw error;
  }
  return 'accepted';
};

test('the four forms of a prompt', () => {
  const promptsOf = (prompt: unknown) =>
    parseCompletionRequest({ model: 'm', prompt }).generations.map((generation) => generation.prompt);
  assert.deepEqual(promptsOf(''), [{ kind: 'text', text: '' }]);
  assert.deepEqual(promptsOf(['a', 'b']), [
    { kind: 'text', text: 'a' },
    { kind: 'text', text: 'b' },
  ]);
  assert.deepEqual(promptsOf([1, 2]), [{ kind: 'tokens', tokens: [1, 2] }]);
  assert.deepEqual(promptsOf([[1], [2, 3]]), [
    { kind: 'tokens', tokens: [1] },
    { kind: 'tokens', tokens: [2, 3] },
  ]);
});

test('a plain completion has 16 tokens unless it says otherwise', () => {
  const maxTokensOf = (fields: object) =>
    parseCompletionRequest({ model: 'm', prompt: 'a', ...fields }).generations[0]?.maxTokens;
  assert.deepEqual([maxTokensOf({}), maxTokensOf({ max_tokens: 5 })], [16, 5]);
});

test('logprobs of plain completions is a number, and 0 asks for the chosen tokens', () => {
  const logprobsOf = (logprobs: unknown) =>
    parseCompletionRequest({ model: 'm', prompt: 'a', logprobs }).generations[0]?.logprobs;
  assert.deepEqual([logprobsOf(0), logprobsOf(5), logprobsOf(null)], [{ top: 0 }, { top: 5 }, undefined]);
});

test('wrong prompts are refused by their place', () => {
  const cases: readonly [unknown, string][] = [
    [undefined, 'prompt'],
    [null, 'prompt'],
    [5, 'prompt'],
    [{}, 'prompt'],
    [[], 'prompt'],
    [[[]], 'prompt[0]'],
    [['a', 5], 'prompt[1]'],
    [[1, -1], 'prompt[1]'],
    [[1, 1.5], 'prompt[1]'],
    [[1, 2 ** 31], 'prompt[1]'],
    [[1, 'a'], 'prompt[1]'],
    [[[1], [null]], 'prompt[1][0]'],
    ['\udfff', 'prompt'],
    [Array(65).fill('a'), 'prompt'],
  ];
  for (const [prompt, param] of cases) {
    assert.equal(
      paramOf(() => parseCompletionRequest({ model: 'm', prompt })),
      `REQUEST_INVALID ${param}`,
    );
  }
});

test('what plain completions refuse', () => {
  const refuse = (fields: object) =>
    paramOf(() => parseCompletionRequest({ model: 'm', prompt: 'a', ...fields }));
  assert.equal(refuse({ logprobs: 6 }), 'REQUEST_INVALID logprobs');
  assert.equal(refuse({ best_of: 2 }), 'FIELD_NOT_SUPPORTED best_of');
  assert.equal(refuse({ echo: true }), 'FIELD_NOT_SUPPORTED echo');
  assert.equal(refuse({ suffix: 'x' }), 'FIELD_NOT_SUPPORTED suffix');
  assert.equal(refuse({ response_format: { type: 'json_object' } }), 'FIELD_NOT_SUPPORTED response_format');
  assert.equal(refuse({ tools: [] }), 'FIELD_NOT_SUPPORTED tools');
  assert.equal(refuse({ messages: [] }), 'FIELD_NOT_SUPPORTED messages');
  assert.equal(refuse({ best_of: 1, echo: false, suffix: '', n: 1 }), 'accepted');
});

test('embeddings: forms, encodings, refusals', () => {
  const parse = (fields: object) => parseEmbeddingRequest({ model: 'm', input: 'a', ...fields });
  assert.deepEqual(parse({}), { model: 'm', embed: { inputs: ['a'] }, encoding: 'float' });
  assert.deepEqual(parse({ input: [[1], [2]], encoding_format: 'base64', user: 'u' }), {
    model: 'm',
    embed: { inputs: [[1], [2]] },
    encoding: 'base64',
  });
  assert.equal(
    paramOf(() => parse({ input: '' })),
    'REQUEST_INVALID input',
  );
  assert.equal(
    paramOf(() => parse({ input: ['a', ''] })),
    'REQUEST_INVALID input',
  );
  assert.equal(
    paramOf(() => parse({ input: Array(2049).fill('a') })),
    'REQUEST_INVALID input',
  );
  assert.equal(
    paramOf(() => parse({ encoding_format: 'int8' })),
    'REQUEST_INVALID encoding_format',
  );
  assert.equal(
    paramOf(() => requireDimensions(parse({ dimensions: 4 }), 3)),
    'REQUEST_INVALID dimensions',
  );
  assert.equal(
    paramOf(() => requireDimensions(parse({ dimensions: 3 }), 3)),
    'accepted',
  );
  for (const dimensions of [0, -1, 1.5, '2', 1e9]) {
    assert.equal(
      paramOf(() => requireDimensions(parse({ dimensions }), 3)),
      'REQUEST_INVALID dimensions',
    );
  }
});

test('fewer dimensions are the first ones at length 1 again', () => {
  const vectorsOf = (dimensions: number | null, vectors: number[][]) =>
    encodeEmbeddings(parseEmbeddingRequest({ model: 'm', input: 'a', dimensions }), {
      vectors: vectors.map((vector) => new Float32Array(vector)),
      promptTokens: 1,
    }).data.map((item) => item.embedding);
  const unit = [0.5, 0.5, 0.5, 0.5];
  assert.deepEqual(vectorsOf(null, [unit]), [unit]);
  assert.deepEqual(vectorsOf(4, [unit]), [unit]);
  assert.deepEqual(vectorsOf(1, [unit, [-0.5, 0.5, 0.5, 0.5]]), [[1], [-1]]);
  assert.deepEqual(vectorsOf(2, [[0.375, 0.5, 0.75, 0.25]]), [Array.from(new Float32Array([0.6, 0.8]))]);
  assert.deepEqual(vectorsOf(2, [[0, 0, 1, 0]]), [[0, 0]], 'without a direction it stays without one');
});

test('base64 is little-endian 32-bit floats', () => {
  const request = parseEmbeddingRequest({ model: 'm', input: 'a', encoding_format: 'base64' });
  const encoded = encodeEmbeddings(request, { vectors: [new Float32Array([1, -2])], promptTokens: 4 });
  assert.equal(encoded.data[0]?.embedding, Buffer.from('0000803f000000c0', 'hex').toString('base64'));
  assert.deepEqual(encoded.usage, { prompt_tokens: 4, total_tokens: 4 });
});

test('tokens beyond the vocabulary are refused before native code sees them', () => {
  assert.equal(
    paramOf(() => requireTokensKnown([0, 9], 10, 'prompt')),
    'accepted',
  );
  assert.equal(
    paramOf(() => requireTokensKnown([10], 10, 'prompt')),
    'REQUEST_INVALID prompt',
  );
});
