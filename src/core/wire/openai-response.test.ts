import assert from 'node:assert/strict';
import { test } from 'node:test';
import type OpenAI from 'openai';
import type { GeneratedToken, Usage } from '../base/engine-port.ts';
import {
  type Answer,
  type AnswerEnvelope,
  encodeChatChunk,
  encodeChatCompletion,
  encodeModelList,
  encodeTextCompletion,
  TextChunkEncoder,
} from './openai-response.ts';

const ENVELOPE: AnswerEnvelope = {
  id: 'chatcmpl-1',
  createdSeconds: 1_700_000_000,
  model: 'm',
  fingerprint: 'fp_1',
};
const USAGE: Usage = { promptTokens: 5, cachedTokens: 3, completionTokens: 2, promptMs: 1, completionMs: 1 };
const HEAD = { id: 'chatcmpl-1', created: 1_700_000_000, model: 'm', system_fingerprint: 'fp_1' };
const WIRE_USAGE = {
  prompt_tokens: 5,
  completion_tokens: 2,
  total_tokens: 7,
  prompt_tokens_details: { cached_tokens: 3 },
};

function token(
  bytes: readonly number[] | string,
  logprob: number,
  top: GeneratedToken['top'] = [],
): GeneratedToken {
  return {
    id: 1,
    bytes: typeof bytes === 'string' ? new TextEncoder().encode(bytes) : new Uint8Array(bytes),
    logprob,
    top,
  };
}

const answer = (tokens?: readonly GeneratedToken[]): Answer => ({
  text: 'Hi.',
  reason: 'stop',
  usage: USAGE,
  ...(tokens === undefined ? {} : { tokens }),
});

test('a chat completion has the published shape', () => {
  // The assignment is the check of the types.
  const encoded: OpenAI.ChatCompletion = encodeChatCompletion(ENVELOPE, answer());
  assert.deepEqual(encoded, {
    ...HEAD,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: 'Hi.', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ],
    usage: WIRE_USAGE,
  });
});

test('log-probabilities carry bytes, escape half characters and have no infinity', () => {
  const half = token([0xf0, 0x9f], Number.NEGATIVE_INFINITY);
  const encoded = encodeChatCompletion(ENVELOPE, answer([token('é', -0.5, [token('é', -0.5), half])]));
  assert.deepEqual(encoded.choices[0]?.logprobs, {
    content: [
      {
        token: 'é',
        logprob: -0.5,
        bytes: [0xc3, 0xa9],
        top_logprobs: [
          { token: 'é', logprob: -0.5, bytes: [0xc3, 0xa9] },
          { token: '\\xf0\\x9f', logprob: -9999, bytes: [0xf0, 0x9f] },
        ],
      },
    ],
    refusal: null,
  });
});

test('the chunks of a chat stream', () => {
  const chunks = [
    encodeChatChunk(ENVELOPE, { kind: 'begun' }, true),
    encodeChatChunk(ENVELOPE, { kind: 'text', text: 'Hi' }, true),
    encodeChatChunk(ENVELOPE, { kind: 'finished', reason: 'length' }, true),
    encodeChatChunk(ENVELOPE, { kind: 'usage', usages: [USAGE] }, true),
  ] satisfies OpenAI.ChatCompletionChunk[];
  const choice = (delta: object, finish_reason: string | null = null) => ({
    ...HEAD,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    usage: null,
  });
  assert.deepEqual(chunks, [
    choice({ role: 'assistant', content: '', refusal: null }),
    choice({ content: 'Hi' }),
    choice({}, 'length'),
    { ...HEAD, object: 'chat.completion.chunk', choices: [], usage: WIRE_USAGE },
  ]);
  assert.ok(
    !('usage' in encodeChatChunk(ENVELOPE, { kind: 'begun' }, false)),
    'unasked for, there is no usage',
  );
});

test('a plain completion: one choice per prompt, usage summed, parallel arrays of tokens', () => {
  const tokens = [
    token('a', -1, [token('b', -0.5), token('a', -1)]),
    token([0xc3], -2),
    token([0xa9], -3),
    token('c', -4),
  ];
  const encoded = encodeTextCompletion(ENVELOPE, [answer(), answer(tokens)]);
  assert.deepEqual(encoded.choices[0], { index: 0, text: 'Hi.', logprobs: null, finish_reason: 'stop' });
  assert.deepEqual(encoded.choices[1]?.logprobs, {
    tokens: ['a', 'bytes:\\xc3', 'bytes:\\xa9', 'c'],
    token_logprobs: [-1, -2, -3, -4],
    top_logprobs: [{ a: -1, b: -0.5 }, { 'bytes:\\xc3': -2 }, { 'bytes:\\xa9': -3 }, { c: -4 }],
    text_offset: [0, 1, 1, 2],
  });
  assert.deepEqual([encoded.usage?.prompt_tokens, encoded.usage?.total_tokens], [10, 14]);
});

test('offsets of tokens go on from chunk to chunk, for each choice by itself', () => {
  const encoder = new TextChunkEncoder(ENVELOPE, false);
  const offsetsOf = (text: string, index: number) =>
    encoder.encode({ kind: 'text', text, tokens: [token(text, -1)] }, index).choices[0]?.logprobs
      ?.text_offset;
  assert.deepEqual(
    [offsetsOf('ab', 0), offsetsOf('é', 0), offsetsOf('c', 0), offsetsOf('x', 1)],
    [[0], [2], [3], [0]],
  );
});

test('models', () => {
  const list = encodeModelList([
    { id: 'triage', reference: 'acme/triage@1.0.0', createdSeconds: 5, owner: 'acme' },
  ]);
  const models: OpenAI.Model[] = list.data;
  assert.deepEqual(models, [{ id: 'triage', object: 'model', created: 5, owned_by: 'acme' }]);
});
