import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorCode } from '../base/error-table.ts';
import { FreeholdError } from '../base/errors.ts';
import { parseChatRequest } from './openai-chat-request.ts';

const MESSAGES = [{ role: 'user', content: 'hi' }];
const minimal = (fields: object = {}) => ({ model: 'm', messages: MESSAGES, ...fields });

test('the smallest request asks for nothing more', () => {
  assert.deepEqual(parseChatRequest(minimal()), {
    model: 'm',
    stream: false,
    includeUsage: false,
    generations: [{ prompt: { kind: 'chat', messages: [{ role: 'user', content: 'hi' }] }, sampling: {} }],
    choicesPerPrompt: 1,
  });
});

test('every honoured field reaches the engine under its own name', () => {
  const parsed = parseChatRequest(
    minimal({
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'one' },
            { type: 'text', text: 'two' },
          ],
          name: 'ann',
        },
        { role: 'assistant', content: 'three', refusal: null, tool_calls: [], annotations: [] },
        { role: 'system', content: '' },
      ],
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.05,
      repeat_penalty: 1.1,
      presence_penalty: -2,
      frequency_penalty: 2,
      logit_bias: { '5': -100, '0': 1.5 },
      stop: 'END',
      seed: 42,
      stream: true,
      stream_options: { include_usage: true, include_obfuscation: false },
      max_completion_tokens: 17,
      logprobs: true,
      top_logprobs: 3,
      user: 'u',
      response_format: { type: 'json_object' },
      metadata: { a: 'b' },
      store: true,
    }),
  );
  assert.deepEqual(parsed, {
    model: 'm',
    stream: true,
    includeUsage: true,
    choicesPerPrompt: 1,
    generations: [
      {
        prompt: {
          kind: 'chat',
          messages: [
            { role: 'system', content: 'Be brief.' },
            { role: 'user', content: 'one\ntwo', name: 'ann' },
            { role: 'assistant', content: 'three' },
            { role: 'system', content: '' },
          ],
        },
        sampling: {
          temperature: 0.5,
          topP: 0.9,
          topK: 40,
          minP: 0.05,
          repeatPenalty: 1.1,
          presencePenalty: -2,
          frequencyPenalty: 2,
          logitBias: { '0': 1.5, '5': -100 },
          seed: 42,
        },
        maxTokens: 17,
        stop: ['END'],
        logprobs: { top: 3 },
        constraint: { kind: 'json-object' },
        requester: 'u',
      },
    ],
  });
});

test('null means absent, and an empty list of stops is none', () => {
  const nulls = Object.fromEntries(
    ['temperature', 'top_p', 'stop', 'seed', 'logprobs', 'logit_bias', 'max_tokens', 'stream', 'tools', 'n']
      .concat(['stream_options', 'response_format', 'top_logprobs', 'user', 'top_k', 'grammar'])
      .concat(['safety_identifier', 'tool_choice', 'parallel_tool_calls'])
      .map((field) => [field, null]),
  );
  assert.deepEqual(parseChatRequest(minimal(nulls)), parseChatRequest(minimal()));
  assert.deepEqual(parseChatRequest(minimal({ stop: [] })), parseChatRequest(minimal()));
});

test('seeds are folded into 32 bits without becoming random', () => {
  const seedOf = (seed: number) => parseChatRequest(minimal({ seed })).generations[0]?.sampling?.seed;
  assert.deepEqual(
    [seedOf(0), seedOf(-1), seedOf(2 ** 32 + 7), seedOf(2 ** 32 - 1)],
    [0, 2 ** 32 - 1, 7, 2 ** 32 - 1],
  );
});

const user = (content: unknown) => ({ messages: [{ role: 'user', content }] });
const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,AA' } };

/** Fields → code and `param` of the refusal. */
const REFUSED: readonly [string, object, ErrorCode, string][] = [
  ['no model', { model: null }, 'REQUEST_INVALID', 'model'],
  ['a model that is no text', { model: 5 }, 'REQUEST_INVALID', 'model'],
  ['an empty model', { model: '' }, 'MODEL_NOT_FOUND', 'model'],
  ['a model with a line feed', { model: 'a\nb' }, 'MODEL_NOT_FOUND', 'model'],
  ['a model of 10 kB', { model: 'a'.repeat(10_000) }, 'MODEL_NOT_FOUND', 'model'],
  ['no messages', { messages: null }, 'REQUEST_INVALID', 'messages'],
  ['empty messages', { messages: [] }, 'REQUEST_INVALID', 'messages'],
  ['a message that is text', { messages: ['hi'] }, 'REQUEST_INVALID', 'messages[0].role'],
  ['an unknown role', { messages: [{ role: 'robot', content: '' }] }, 'REQUEST_INVALID', 'messages[0].role'],
  [
    'a role of Object',
    { messages: [{ role: 'constructor', content: '' }] },
    'REQUEST_INVALID',
    'messages[0].role',
  ],
  [
    'a function message',
    { messages: [...MESSAGES, { role: 'function', name: 'x', content: '' }] },
    'FIELD_NOT_SUPPORTED',
    'messages[1].role',
  ],
  ['no content', { messages: [{ role: 'user' }] }, 'REQUEST_INVALID', 'messages[0].content'],
  ['content null', user(null), 'REQUEST_INVALID', 'messages[0].content'],
  ['content as a number', user(5), 'REQUEST_INVALID', 'messages[0].content'],
  ['no parts', user([]), 'REQUEST_INVALID', 'messages[0].content'],
  ['half a character', user('\ud800'), 'REQUEST_INVALID', 'messages[0].content'],
  ['a part without text', user([{ type: 'text' }]), 'REQUEST_INVALID', 'messages[0].content[0]'],
  ['a part with more', user([{ type: 'text', text: '', x: 1 }]), 'REQUEST_INVALID', 'messages[0].content[0]'],
  ['an unknown part', user([{ type: 'video' }]), 'FIELD_NOT_SUPPORTED', 'messages[0].content[0].type'],
  [
    'an image',
    user([{ type: 'text', text: 'a' }, image]),
    'MODALITY_NOT_SUPPORTED',
    'messages[0].content[1]',
  ],
  ['audio', user([{ type: 'input_audio' }]), 'MODALITY_NOT_SUPPORTED', 'messages[0].content[0]'],
  ['a file', user([{ type: 'file' }]), 'MODALITY_NOT_SUPPORTED', 'messages[0].content[0]'],
  [
    'markup as a name',
    { messages: [{ role: 'user', content: '', name: '<|im_end|>' }] },
    'REQUEST_INVALID',
    'messages[0].name',
  ],
  [
    'a control character in a name',
    { messages: [{ role: 'user', content: '', name: 'a\u0001b' }] },
    'REQUEST_INVALID',
    'messages[0].name',
  ],
  [
    'an unknown message field',
    { messages: [{ ...MESSAGES[0], x: 1 }] },
    'FIELD_NOT_SUPPORTED',
    'messages[0].x',
  ],
  ['temperature too high', { temperature: 2.1 }, 'REQUEST_INVALID', 'temperature'],
  ['temperature as text', { temperature: '1' }, 'REQUEST_INVALID', 'temperature'],
  ['temperature below 0', { temperature: -0.1 }, 'REQUEST_INVALID', 'temperature'],
  ['top_p above 1', { top_p: 1.01 }, 'REQUEST_INVALID', 'top_p'],
  ['presence_penalty', { presence_penalty: 2.5 }, 'REQUEST_INVALID', 'presence_penalty'],
  ['frequency_penalty', { frequency_penalty: -2.5 }, 'REQUEST_INVALID', 'frequency_penalty'],
  ['top_k as a fraction', { top_k: 1.5 }, 'REQUEST_INVALID', 'top_k'],
  ['min_p', { min_p: 2 }, 'REQUEST_INVALID', 'min_p'],
  ['repeat_penalty 0', { repeat_penalty: 0 }, 'REQUEST_INVALID', 'repeat_penalty'],
  ['a bias of 101', { logit_bias: { '1': 101 } }, 'REQUEST_INVALID', 'logit_bias.1'],
  ['a bias for a word', { logit_bias: { word: 1 } }, 'REQUEST_INVALID', 'logit_bias.word'],
  ['max_tokens 0', { max_tokens: 0 }, 'REQUEST_INVALID', 'max_tokens'],
  ['two limits', { max_tokens: 1, max_completion_tokens: 2 }, 'REQUEST_INVALID', 'max_tokens'],
  ['an empty stop', { stop: '' }, 'REQUEST_INVALID', 'stop[0]'],
  ['17 stops', { stop: Array(17).fill('a') }, 'REQUEST_INVALID', 'stop'],
  ['a fraction as seed', { seed: 1.5 }, 'REQUEST_INVALID', 'seed'],
  ['top_logprobs alone', { top_logprobs: 2 }, 'REQUEST_INVALID', 'top_logprobs'],
  ['top_logprobs 21', { logprobs: true, top_logprobs: 21 }, 'REQUEST_INVALID', 'top_logprobs'],
  ['logprobs as a number', { logprobs: 1 }, 'REQUEST_INVALID', 'logprobs'],
  ['stream_options alone', { stream_options: {} }, 'REQUEST_INVALID', 'stream_options'],
  ['stream_options.x', { stream: true, stream_options: { x: 1 } }, 'REQUEST_INVALID', 'stream_options'],
  ['functions', { functions: [{ name: 'x' }] }, 'FIELD_NOT_SUPPORTED', 'functions'],
  ['function_call', { function_call: 'auto' }, 'FIELD_NOT_SUPPORTED', 'function_call'],
  ['no answer', { n: 0 }, 'REQUEST_INVALID', 'n'],
  ['17 answers', { n: 17 }, 'REQUEST_INVALID', 'n'],
  ['a billion answers', { n: 1e9 }, 'REQUEST_INVALID', 'n'],
  ['an answer and a half', { n: 1.5 }, 'REQUEST_INVALID', 'n'],
  ['a user that is a number', { user: 5 }, 'REQUEST_INVALID', 'user'],
  ['a user of 513 characters', { user: 'u'.repeat(513) }, 'REQUEST_INVALID', 'user'],
  ['half a character as a user', { safety_identifier: '\ud800' }, 'REQUEST_INVALID', 'safety_identifier'],
  ['spoken answers', { modalities: ['text', 'audio'] }, 'FIELD_NOT_SUPPORTED', 'modalities'],
];

for (const [name, fields, code, param] of REFUSED) {
  test(`refused: ${name}`, () => {
    assert.throws(
      () => parseChatRequest(minimal(fields)),
      (error) => {
        assert.ok(error instanceof FreeholdError);
        assert.deepEqual([error.code, error.detail.param], [code, param], error.message);
        return true;
      },
    );
  });
}

test('several answers: one prompt, seeds that count on, and the rest alike', () => {
  const { generations, choicesPerPrompt } = parseChatRequest(minimal({ n: 3, seed: -2, temperature: 1 }));
  assert.equal(choicesPerPrompt, 3);
  assert.deepEqual(
    generations.map((generation) => generation.sampling),
    [2 ** 32 - 2, 2 ** 32 - 1, 0].map((seed) => ({ temperature: 1, seed })),
  );
  assert.deepEqual(new Set(generations.map((generation) => generation.prompt)).size, 1, 'shared, not copied');
  const unseeded = parseChatRequest(minimal({ n: 16 })).generations;
  assert.deepEqual([unseeded.length, unseeded[15]?.sampling], [16, {}]);
});

test('who asks: the safety identifier before the user, and nothing from nothing', () => {
  const requesterOf = (fields: object) => parseChatRequest(minimal(fields)).generations[0]?.requester;
  assert.equal(requesterOf({ user: 'u' }), 'u');
  assert.equal(requesterOf({ user: 'u', safety_identifier: 's' }), 's');
  assert.equal(requesterOf({ safety_identifier: null, user: 'u' }), 'u');
  assert.equal(requesterOf({ user: '' }), undefined);
  assert.equal(requesterOf({}), undefined);
});
