import assert from 'node:assert/strict';
import { test } from 'node:test';
import type OpenAI from 'openai';
import type { GeneratedToken, GenerateEvent, GenerateRequest, ToolUse, Usage } from '../base/engine-port.ts';
import type { Answer } from './answer.ts';
import { ChatChunkEncoder, TextChunkEncoder } from './openai-chunks.ts';
import type { AnswerRequest } from './openai-generation.ts';
import {
  type AnswerEnvelope,
  encodeChatCompletion,
  encodeModelList,
  encodeTextCompletion,
} from './openai-response.ts';

const ENVELOPE: AnswerEnvelope = {
  id: 'chatcmpl-1',
  createdSeconds: 1_700_000_000,
  model: 'm',
  fingerprint: 'fp_1',
  createCallId: () => 'call_1',
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
  calls: [],
  reason: 'stop',
  usage: USAGE,
  ...(tokens === undefined ? {} : { tokens }),
});

/** A request of so many choices. */
function request(fields: Partial<GenerateRequest> = {}, choices = 1, rest: Partial<AnswerRequest> = {}) {
  const generation: GenerateRequest = { prompt: { kind: 'text', text: '' }, ...fields };
  return {
    model: 'm',
    stream: true,
    includeUsage: false,
    generations: Array.from({ length: choices }, () => generation),
    choicesPerPrompt: choices,
    ...rest,
  } satisfies AnswerRequest;
}

const tools = (choice: ToolUse['choice']): ToolUse => ({
  definitions: [{ name: 'look_up' }],
  choice,
  isParallel: true,
});
const REQUIRED = tools({ kind: 'required' });
const NAMED = tools({ kind: 'named', name: 'look_up' });

test('a chat completion has the published shape', () => {
  // The assignment is the check of the types.
  const encoded: OpenAI.ChatCompletion = encodeChatCompletion(ENVELOPE, request(), [answer()]);
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
  const encoded = encodeChatCompletion(ENVELOPE, request(), [
    answer([token('é', -0.5, [token('é', -0.5), half])]),
  ]);
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

test('calls of tools: content null, the reason as OpenAI says it', () => {
  const called: Answer = {
    ...answer(),
    text: '',
    calls: [
      { name: 'look_up', arguments: '{"a":1}' },
      { name: 'look_up', arguments: '{}' },
    ],
    reason: 'tool-calls',
  };
  const encoded: OpenAI.ChatCompletion = encodeChatCompletion(ENVELOPE, request({ tools: REQUIRED }), [
    called,
  ]);
  assert.deepEqual(encoded.choices[0]?.message, {
    role: 'assistant',
    content: null,
    refusal: null,
    tool_calls: [
      { id: 'call_1', type: 'function', function: { name: 'look_up', arguments: '{"a":1}' } },
      { id: 'call_1', type: 'function', function: { name: 'look_up', arguments: '{}' } },
    ],
  });
  const reasonOf = (toolUse: ToolUse, reason: Answer['reason']) =>
    encodeChatCompletion(ENVELOPE, request({ tools: toolUse }), [{ ...called, reason }]).choices[0]
      ?.finish_reason;
  assert.deepEqual(
    [reasonOf(REQUIRED, 'tool-calls'), reasonOf(NAMED, 'tool-calls'), reasonOf(NAMED, 'length')],
    ['tool_calls', 'stop', 'length'],
  );
  const inWords = encodeChatCompletion(ENVELOPE, request({ tools: tools({ kind: 'none' }) }), [
    { ...answer(), text: '' },
  ]);
  assert.deepEqual(inWords.choices[0]?.message, { role: 'assistant', content: '', refusal: null });
});

const chunkOf = (delta: object, finish_reason: string | null = null, index = 0) => ({
  ...HEAD,
  object: 'chat.completion.chunk',
  choices: [{ index, delta, logprobs: null, finish_reason }],
});

test('the chunks of a chat stream', () => {
  const encoder = new ChatChunkEncoder(ENVELOPE, request({}, 2, { includeUsage: true }));
  const chunks = [
    encoder.encode({ kind: 'started', promptTokens: 5 }, 0),
    encoder.encode({ kind: 'text', text: '', tokens: [] }, 0),
    encoder.encode({ kind: 'text', text: 'Hi', tokens: [] }, 1),
    encoder.encode({ kind: 'finished', reason: 'length', usage: USAGE }, 1),
    encoder.encodeUsage([USAGE, { ...USAGE, cachedTokens: 5 }]),
  ] satisfies (OpenAI.ChatCompletionChunk | undefined)[];
  assert.deepEqual(chunks, [
    { ...chunkOf({ role: 'assistant', content: '', refusal: null }), usage: null },
    undefined,
    { ...chunkOf({ content: 'Hi' }, null, 1), usage: null },
    { ...chunkOf({}, 'length', 1), usage: null },
    {
      ...HEAD,
      object: 'chat.completion.chunk',
      choices: [],
      usage: { ...WIRE_USAGE, completion_tokens: 4, total_tokens: 9 },
    },
  ]);
  const unasked = new ChatChunkEncoder(ENVELOPE, request()).encode({ kind: 'started', promptTokens: 5 }, 0);
  assert.ok(unasked !== undefined && !('usage' in unasked), 'unasked for, there is no usage');
});

test('the chunks of a call', () => {
  const encoder = new ChatChunkEncoder(ENVELOPE, request({ tools: REQUIRED }));
  const events: GenerateEvent[] = [
    { kind: 'started', promptTokens: 5 },
    { kind: 'tool-call', index: 0, name: 'look_up' },
    { kind: 'tool-arguments', index: 0, text: '{' },
    { kind: 'finished', reason: 'tool-calls', usage: USAGE },
  ];
  assert.deepEqual(
    events.map((event) => encoder.encode(event, 0)),
    [
      chunkOf({ role: 'assistant', content: null, refusal: null }),
      chunkOf({
        tool_calls: [
          { index: 0, id: 'call_1', type: 'function', function: { name: 'look_up', arguments: '' } },
        ],
      }),
      chunkOf({ tool_calls: [{ index: 0, function: { arguments: '{' } }] }),
      chunkOf({}, 'tool_calls'),
    ],
  );
});

test('a plain completion: one choice per prompt, usage summed, parallel arrays of tokens', () => {
  const tokens = [
    token('a', -1, [token('b', -0.5), token('a', -1)]),
    token([0xc3], -2),
    token([0xa9], -3),
    token('c', -4),
  ];
  const encoded = encodeTextCompletion(ENVELOPE, request({}, 2, { choicesPerPrompt: 1 }), [
    answer(),
    answer(tokens),
  ]);
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
  const encoder = new TextChunkEncoder(ENVELOPE, request({ logprobs: { top: 0 } }, 2));
  const offsetsOf = (text: string, index: number) =>
    encoder.encode({ kind: 'text', text, tokens: [token(text, -1)] }, index)?.choices[0]?.logprobs
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
