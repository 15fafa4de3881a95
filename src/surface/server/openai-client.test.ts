import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { createTestApp, type TestApp } from '../../../tests/fixtures/http-app.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type RunningServer, startServer } from './listen.ts';

/** How soon a generation must know that its client is gone. */
const CANCEL_WITHIN_MS = 1000;
const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'hi' }];

let tested: TestApp;
let server: RunningServer;
let client: OpenAI;

before(async () => {
  tested = createTestApp();
  server = await startServer({ app: tested.app, listen: '127.0.0.1:0' });
  client = new OpenAI({ apiKey: 'none', baseURL: `${server.url}/v1`, maxRetries: 0 });
});
after(() => server.close({ graceMs: 0 }));

async function eventually(condition: () => boolean, what: string): Promise<void> {
  const untilMs = performance.now() + CANCEL_WITHIN_MS;
  while (!condition()) {
    assert.ok(performance.now() < untilMs, `not within ${CANCEL_WITHIN_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('models', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ['scripted', 'acme/scripted', 'base', 'embedder']);
  assert.equal((await client.models.retrieve('acme/scripted')).owned_by, 'acme');
  await assert.rejects(client.models.retrieve('nobody'), OpenAI.NotFoundError);
});

test('a chat answer with log-probabilities', async () => {
  tested.model.script = {};
  const completion = await client.chat.completions.create({
    model: 'scripted',
    messages: [{ role: 'developer', content: 'Be brief.' }, ...MESSAGES],
    logprobs: true,
    top_logprobs: 2,
  });
  const [choice] = completion.choices;
  assert.equal(choice?.message.content, 'Hello there.');
  assert.deepEqual(
    choice?.logprobs?.content?.map((token) => [token.token, token.logprob, token.top_logprobs.length]),
    [
      ['Hello', -0.25, 2],
      [' there', -0.5, 2],
      ['.', -0.75, 2],
    ],
  );
  assert.equal(completion.usage?.prompt_tokens_details?.cached_tokens, 2);
  assert.match(completion._request_id ?? '', /^req_/);
});

test("a streamed chat answer, put together by the client's own accumulator", async () => {
  tested.model.script = { reason: 'length' };
  const stream = client.chat.completions.stream({
    model: 'scripted',
    messages: MESSAGES,
    stream: true,
    logprobs: true,
    stream_options: { include_usage: true },
  });
  const completion = await stream.finalChatCompletion().catch((error: unknown) => error);
  // The accumulator reports "length" as an error of its own for parsed formats only.
  assert.ok(
    completion !== null && typeof completion === 'object' && 'choices' in completion,
    String(completion),
  );
  const { choices, usage } = completion as OpenAI.ChatCompletion;
  assert.deepEqual(
    [choices[0]?.message.role, choices[0]?.message.content, choices[0]?.finish_reason],
    ['assistant', 'Hello there.', 'length'],
  );
  assert.equal(choices[0]?.logprobs?.content?.length, 3);
  assert.equal(usage?.total_tokens, 10);
});

test('plain completions, streamed and not', async () => {
  const whole = await client.completions.create({ model: 'base', prompt: ['a', 'b'], logprobs: 1 });
  assert.deepEqual(
    whole.choices.map((choice) => [choice.index, choice.text, choice.logprobs?.text_offset]),
    [
      [0, 'Hello there.', [0, 5, 11]],
      [1, 'Hello there.', [0, 5, 11]],
    ],
  );
  const texts = ['', ''];
  for await (const chunk of await client.completions.create({
    model: 'base',
    prompt: ['a', 'b'],
    stream: true,
  })) {
    for (const choice of chunk.choices) texts[choice.index] += choice.text;
  }
  assert.deepEqual(texts, ['Hello there.', 'Hello there.']);
});

test('embeddings: the encoding that the client chooses by itself, and both by name', async () => {
  const request = { model: 'embedder', input: ['a', 'b'] };
  const expected = [
    [0.6, -0.8, 0],
    [0.6, -0.8, 1],
  ].map((vector) => Array.from(new Float32Array(vector)));
  for (const format of [undefined, 'float'] as const) {
    const response = await client.embeddings.create(
      format ? { ...request, encoding_format: format } : request,
    );
    assert.deepEqual(
      response.data.map((item) => Array.from(item.embedding)),
      expected,
    );
    assert.deepEqual(response.usage, { prompt_tokens: 2, total_tokens: 2 });
  }
  const raw = await client.embeddings.create({ ...request, encoding_format: 'base64' });
  assert.equal(typeof raw.data[0]?.embedding, 'string');
});

test("errors are the client's own classes, with code and param", async () => {
  const ask = (fields: object) =>
    client.chat.completions.create({ model: 'scripted', messages: MESSAGES, stream: false, ...fields });
  await assert.rejects(ask({ model: 'nobody' }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual(
      [error.code, error.param, error.type],
      ['model_not_found', 'model', 'invalid_request_error'],
    );
    return true;
  });
  await assert.rejects(ask({ functions: [{ name: 'f' }] }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.code, error.param], ['unsupported_parameter', 'functions']);
    return true;
  });
  tested.model.script = {
    failure: { at: 0, thrown: new FreeholdError('CONTEXT_EXCEEDED', '70 tokens, 64 fit') },
  };
  await assert.rejects(ask({}), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.code, error.param], ['context_length_exceeded', 'messages']);
    assert.match(error.message, /70 tokens, 64 fit/);
    return true;
  });
});

test('the client repeats what waiting can help, and nothing else', async () => {
  const patient = new OpenAI({ apiKey: 'none', baseURL: `${server.url}/v1`, maxRetries: 1 });
  const triesOf = async (code: 'ENGINE_LOST' | 'DIGEST_MISMATCH') => {
    tested.model.script = { failure: { at: 0, thrown: new FreeholdError(code, 'no') } };
    const before = tested.model.requests.length;
    const startMs = performance.now();
    await assert.rejects(
      patient.chat.completions.create({ model: 'scripted', messages: MESSAGES }),
      OpenAI.InternalServerError,
    );
    return [tested.model.requests.length - before, performance.now() - startMs >= 1400];
  };
  assert.deepEqual(await triesOf('ENGINE_LOST'), [2, true], 'once more, after retry-after');
  assert.deepEqual(await triesOf('DIGEST_MISMATCH'), [1, false]);
});

test('a failure in mid-stream is thrown by the iteration', async () => {
  tested.model.script = { failure: { at: 2, thrown: new FreeholdError('ENGINE_LOST', 'the child is gone') } };
  const stream = await client.chat.completions.create({
    model: 'scripted',
    messages: MESSAGES,
    stream: true,
  });
  const texts: string[] = [];
  await assert.rejects(
    async () => {
      for await (const chunk of stream) texts.push(chunk.choices[0]?.delta.content ?? '');
    },
    (error) => error instanceof OpenAI.APIError && error.code === 'engine_lost',
  );
  assert.deepEqual(texts, ['', 'Hello']);
});

for (const stream of [true, false]) {
  test(`an abort by the client cancels the generation (${stream ? 'streamed' : 'not streamed'})`, async () => {
    const gate = Promise.withResolvers<void>();
    tested.model.script = { gate: { at: 2, opened: gate.promise } };
    const before = tested.model.cancelledCount;
    const controller = new AbortController();
    const work = (async () => {
      const options = { signal: controller.signal };
      const body = { model: 'scripted', messages: MESSAGES };
      if (!stream) return client.chat.completions.create(body, options);
      for await (const chunk of await client.chat.completions.create({ ...body, stream: true }, options)) {
        if (chunk.choices[0]?.delta.content === 'Hello') controller.abort();
      }
    })().catch((error: unknown) => error);
    if (!stream) {
      await eventually(() => tested.model.runningCount === 1, 'the generation runs');
      controller.abort();
    }
    await eventually(() => tested.model.cancelledCount === before + 1, 'the generation is cancelled');
    await work;
    assert.equal(tested.model.runningCount, 0);
  });
}
