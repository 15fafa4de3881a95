import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestApp, eventsOf, type TestApp } from '../../../tests/fixtures/http-app.ts';
import type { GenerateEvent } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { ChatChunk } from '../../core/wire/openai-chunks.ts';
import type { ChatCompletion, TextCompletion } from '../../core/wire/openai-response.ts';

const CHAT = { model: 'scripted', messages: [{ role: 'user', content: 'hi' }] };
const CHAT_PATH = '/v1/chat/completions';
const TOOLS = [
  { type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } },
  { type: 'function', function: { name: 'note' } },
];
const CALLS = [
  { name: 'look_up', pieces: ['{"a"', ':1}'] },
  { name: 'note', pieces: ['{}'] },
];

async function bodyOf<Body>(response: Response): Promise<Body> {
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text) as Body;
}

async function chunksOf(tested: TestApp, body: object): Promise<ChatChunk[]> {
  const events = eventsOf(await (await tested.post(CHAT_PATH, { ...body, stream: true })).text());
  assert.equal(events.pop(), '[DONE]');
  return events.map((event) => JSON.parse(event) as ChatChunk);
}

async function errorOf(response: Response): Promise<unknown[]> {
  const { error } = (await response.json()) as { error: { code: string; param: string | null } };
  return [response.status, error.code, error.param];
}

test('several answers: choices in order, the prompt counted once, each with its own seed', async () => {
  const { post, model } = createTestApp();
  model.script = (_, order) => ({ pieces: Array(order + 1).fill('x'), cachedTokens: order === 2 ? 3 : 7 });
  const body = await bodyOf<ChatCompletion>(await post(CHAT_PATH, { ...CHAT, n: 3, seed: 5 }));
  assert.deepEqual(
    body.choices.map((choice) => [choice.index, choice.message.content]),
    [
      [0, 'x'],
      [1, 'xx'],
      [2, 'xxx'],
    ],
  );
  assert.deepEqual(body.usage, {
    prompt_tokens: 7,
    completion_tokens: 6,
    total_tokens: 13,
    prompt_tokens_details: { cached_tokens: 3 },
  });
  assert.deepEqual(
    model.requests.map((request) => request.sampling?.seed),
    [5, 6, 7],
  );
  assert.equal(model.runningMax, 3, 'they ran at once');
});

test('several answers streamed: interleaved, for each one role and one reason, usage once', async () => {
  const tested = createTestApp();
  const chunks = await chunksOf(tested, { ...CHAT, n: 3, stream_options: { include_usage: true } });
  const last = chunks.pop();
  assert.deepEqual([last?.choices, last?.usage?.prompt_tokens, last?.usage?.completion_tokens], [[], 7, 9]);
  assert.ok(chunks.every((chunk) => chunk.usage === null && chunk.id === last?.id));
  const choices = chunks.map((chunk) => chunk.choices[0]);
  for (const index of [0, 1, 2]) {
    const own = choices.filter((choice) => choice?.index === index);
    assert.deepEqual(
      own.map((choice) => [choice?.delta.role, choice?.delta.content, choice?.finish_reason]),
      [
        ['assistant', '', null],
        [undefined, 'Hello', null],
        [undefined, ' there', null],
        [undefined, '.', null],
        [undefined, undefined, 'stop'],
      ],
    );
  }
  assert.deepEqual(
    choices.slice(0, 6).map((choice) => choice?.index),
    [0, 1, 2, 0, 1, 2],
    'none waits for the end of another',
  );
});

test('no more run at once than the model works on', async () => {
  const { post, host } = createTestApp();
  const base = host.models.get('base');
  assert.ok(base !== undefined);
  const prompt = Array.from({ length: 64 }, (_, index) => `p${index}`);
  const body = await bodyOf<TextCompletion>(await post('/v1/completions', { model: 'base', prompt, n: 2 }));
  assert.deepEqual(
    body.choices.map((choice) => choice.index),
    Array.from({ length: 128 }, (_, index) => index),
  );
  assert.deepEqual([base.runningMax, base.requests.length], [4, 128]);
  assert.equal(body.usage?.prompt_tokens, 64 * 7);
});

test('if one answer fails all do, and none runs on', async () => {
  for (const stream of [false, true]) {
    const { post, model } = createTestApp();
    const gate = Promise.withResolvers<void>();
    model.script = (_, order) =>
      order === 1
        ? { failure: { at: 2, thrown: new FreeholdError('ENGINE_LOST', 'the child is gone') } }
        : { gate: { at: 2, opened: gate.promise } };
    const response = await post(CHAT_PATH, { ...CHAT, n: 3, stream });
    if (stream) {
      const events = eventsOf(await response.text());
      assert.equal(JSON.parse(events.at(-1) ?? '').error.code, 'engine_lost');
    } else {
      assert.deepEqual(await errorOf(response), [503, 'engine_lost', null]);
    }
    assert.deepEqual([model.runningCount, model.cancelledCount], [0, 2]);
  }
});

test('one answer that ends without its end spoils the whole stream', async () => {
  const { post, model } = createTestApp();
  model.script = (_, order) => (order === 1 ? { isTruncated: true } : {});
  const events = eventsOf(await (await post(CHAT_PATH, { ...CHAT, n: 2, stream: true })).text());
  assert.equal(JSON.parse(events.at(-1) ?? '').error.code, 'internal');
});

test('log-probabilities of each of several answers', async () => {
  const { post } = createTestApp();
  const body = await bodyOf<ChatCompletion>(
    await post(CHAT_PATH, { ...CHAT, n: 2, logprobs: true, top_logprobs: 1 }),
  );
  assert.deepEqual(
    body.choices.map((choice) => choice.logprobs?.content.map((token) => token.top_logprobs.length)),
    [
      [1, 1, 1],
      [1, 1, 1],
    ],
  );
});

test('a call, whole', async () => {
  const { post, model } = createTestApp();
  model.script = { calls: CALLS };
  const body = await bodyOf<ChatCompletion>(
    await post(CHAT_PATH, { ...CHAT, tools: TOOLS, tool_choice: 'required' }),
  );
  const [choice] = body.choices;
  assert.deepEqual(
    [choice?.message.content, choice?.finish_reason, choice?.logprobs],
    [null, 'tool_calls', null],
  );
  const calls = choice?.message.tool_calls ?? [];
  assert.deepEqual(
    calls.map((call) => [call.type, call.function.name, call.function.arguments]),
    [
      ['function', 'look_up', '{"a":1}'],
      ['function', 'note', '{}'],
    ],
  );
  assert.ok(calls.every((call) => /^call_[0-9a-f]{32}$/.test(call.id)));
  assert.equal(new Set(calls.map((call) => call.id)).size, 2);
  assert.deepEqual(model.requests[0]?.tools?.choice, { kind: 'required' });
});

test('a call, streamed: everything but the arguments first, then the arguments in pieces', async () => {
  const tested = createTestApp();
  tested.model.script = { calls: CALLS };
  const named = { type: 'function', function: { name: 'look_up' } };
  const chunks = await chunksOf(tested, { ...CHAT, tools: TOOLS, tool_choice: named });
  assert.deepEqual(chunks[0]?.choices[0]?.delta, { role: 'assistant', content: null, refusal: null });
  assert.deepEqual(
    chunks
      .slice(1, -1)
      .map((chunk) =>
        chunk.choices[0]?.delta.tool_calls?.map((call) => [
          call.index,
          'id' in call ? [/^call_/.test(call.id), call.type, call.function.name] : undefined,
          call.function.arguments,
        ]),
      ),
    [
      [[0, [true, 'function', 'look_up'], '']],
      [[0, undefined, '{"a"']],
      [[0, undefined, ':1}']],
      [[1, [true, 'function', 'note'], '']],
      [[1, undefined, '{}']],
    ],
  );
  assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'stop', 'as OpenAI says of a function by its name');
});

test('a call that was cut says so', async () => {
  const { post, model } = createTestApp();
  model.script = { calls: [{ name: 'note', pieces: ['{"a'] }], reason: 'length' };
  const body = await bodyOf<ChatCompletion>(
    await post(CHAT_PATH, { ...CHAT, tools: TOOLS, tool_choice: 'required' }),
  );
  assert.equal(body.choices[0]?.finish_reason, 'length');
  assert.equal(body.choices[0]?.message.tool_calls?.[0]?.function.arguments, '{"a');
});

test('several answers with calls have ids of their own', async () => {
  const { post, model } = createTestApp();
  model.script = { calls: CALLS };
  const body = await bodyOf<ChatCompletion>(
    await post(CHAT_PATH, { ...CHAT, n: 2, tools: TOOLS, tool_choice: 'required' }),
  );
  const ids = body.choices.flatMap((choice) => choice.message.tool_calls?.map((call) => call.id) ?? []);
  assert.equal(new Set(ids).size, 4);
});

test('an engine that breaks the order of events is an error, never an answer', async () => {
  const usage = { promptTokens: 1, cachedTokens: 0, completionTokens: 1, promptMs: 0, completionMs: 0 };
  const started: GenerateEvent = { kind: 'started', promptTokens: 1 };
  const finished: GenerateEvent = { kind: 'finished', reason: 'tool-calls', usage };
  const call = (index: number): GenerateEvent => ({ kind: 'tool-call', index, name: 'note' });
  const args = (index: number): GenerateEvent => ({ kind: 'tool-arguments', index, text: '{}' });
  const broken: [string, GenerateEvent[], string][] = [
    ['arguments without a call', [started, args(0), finished], 'required'],
    ['a call out of order', [started, call(1), finished], 'required'],
    ['arguments of the call before', [started, call(0), call(1), args(0), finished], 'required'],
    ['a call that nobody asked for', [started, call(0), args(0), finished], 'none'],
    ['something after the end', [started, call(0), finished, args(0)], 'required'],
    ['two ends', [started, finished, finished], 'required'],
  ];
  for (const [name, events, tool_choice] of broken) {
    for (const stream of [false, true]) {
      const { post, model } = createTestApp();
      model.script = { events };
      const response = await post(CHAT_PATH, { ...CHAT, tools: TOOLS, tool_choice, stream });
      const text = await response.text();
      assert.match(text, /"code":"internal"/, name);
      assert.doesNotMatch(text, /\[DONE\]/, name);
    }
  }
});

test('what cannot be enforced is a 400 that names the place, streamed or not', async () => {
  const schema = { type: 'object', properties: { a: { not: {} } } };
  const format = { type: 'json_schema', json_schema: { name: 'x', schema } };
  const tools = [{ type: 'function', function: { name: 'note', parameters: schema } }];
  const cases: [object, FreeholdError, string][] = [
    [
      { response_format: format },
      new FreeholdError('SCHEMA_NOT_SUPPORTED', 'no', { detail: { path: '#/properties/a/not' } }),
      'response_format.json_schema.schema.properties.a.not',
    ],
    [
      { tools, tool_choice: 'required' },
      new FreeholdError('SCHEMA_NOT_SUPPORTED', 'no', {
        detail: { path: 'tools[0].parameters#/properties/a/not' },
      }),
      'tools[0].function.parameters.properties.a.not',
    ],
    [{ grammar: 'x' }, new FreeholdError('GRAMMAR_INVALID', 'no'), 'grammar'],
  ];
  for (const [fields, thrown, param] of cases) {
    for (const stream of [false, true]) {
      const { post, model } = createTestApp();
      model.script = { failure: { at: 0, thrown } };
      const response = await post(CHAT_PATH, { ...CHAT, ...fields, stream, n: 2 });
      assert.deepEqual(await errorOf(response), [400, thrown.code.toLowerCase(), param]);
      assert.equal(model.runningCount, 0);
    }
  }
});

test('what else reaches the engine: the form, who asks', async () => {
  const { post, model, host } = createTestApp();
  const body = await bodyOf<ChatCompletion>(
    await post(CHAT_PATH, {
      ...CHAT,
      response_format: { type: 'json_object' },
      user: 'ann',
    }),
  );
  assert.equal(body.model, 'scripted');
  assert.deepEqual(host.asked, ['scripted']);
  assert.deepEqual(model.requests[0], {
    prompt: { kind: 'chat', messages: CHAT.messages },
    sampling: {},
    constraint: { kind: 'json-object' },
    requester: 'ann',
  });
});

test('a request of 16 answers leaves no warning of too many listeners', async (context) => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on('warning', onWarning);
  context.after(() => process.off('warning', onWarning));
  const { post, host } = createTestApp();
  const base = host.models.get('base');
  assert.ok(base !== undefined);
  const gate = Promise.withResolvers<void>();
  base.script = { gate: { at: 1, opened: gate.promise } };
  Object.assign(base.info, { parallelRequests: 128 });
  const answered = post('/v1/completions', { model: 'base', prompt: Array(64).fill('a'), n: 2 });
  while (base.runningCount < 128) await new Promise((resolve) => setImmediate(resolve));
  gate.resolve();
  await bodyOf(await answered);
  assert.deepEqual(warnings, []);
});
