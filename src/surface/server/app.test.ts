import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestApp, eventsOf } from '../../../tests/fixtures/http-app.ts';
import type { ErrorCode } from '../../core/base/error-table.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { OpenAiErrorBody } from '../../core/wire/openai-errors.ts';

const CHAT = { model: 'scripted', messages: [{ role: 'user', content: 'hi' }] };
const CHAT_PATH = '/v1/chat/completions';

async function errorOf(response: Response): Promise<OpenAiErrorBody['error']> {
  const body = (await response.json()) as OpenAiErrorBody;
  assert.deepEqual(Object.keys(body), ['error']);
  return body.error;
}

async function assertError(response: Response, status: number, code: string, param: string | null = null) {
  const error = await errorOf(response);
  assert.deepEqual([response.status, error.code, error.param], [status, code, param], error.message);
  assert.match(response.headers.get('x-request-id') ?? '', /^[\w.:-]{1,128}$/);
  return error;
}

test('health and readiness', async () => {
  const { get, host } = createTestApp();
  assert.deepEqual(await (await get('/healthz')).json(), { status: 'ok', version: '0.1.0' });
  assert.deepEqual(await (await get('/readyz')).json(), { status: 'ready' });
  host.notReady = new FreeholdError('DIGEST_MISMATCH', 'weights.gguf was altered');
  const response = await get('/readyz');
  await assertError(response, 503, 'digest_mismatch');
  assert.equal((await get('/healthz')).status, 200, 'alive all the same');
});

test('models are listed and found, also with a slash in the name', async () => {
  const { get } = createTestApp();
  const { data } = (await (await get('/v1/models')).json()) as { data: { id: string }[] };
  assert.deepEqual(
    data.map((model) => model.id),
    ['scripted', 'acme/scripted', 'base', 'embedder'],
  );
  const expected = { id: 'acme/scripted', object: 'model', created: 1_700_000_000, owned_by: 'acme' };
  assert.deepEqual(await (await get('/v1/models/acme/scripted')).json(), expected);
  assert.deepEqual(await (await get('/v1/models/acme%2Fscripted')).json(), expected);
});

test('hostile names of models are just not found', async () => {
  const { get, post, host } = createTestApp();
  for (const name of ['..%2f..%2fetc%2fpasswd', '%00', '%zz', 'a'.repeat(5000), '%F0%9F', '__proto__']) {
    await assertError(await get(`/v1/models/${name}`), 404, 'model_not_found', 'model');
  }
  const injected = await get('/v1/models/a%0d%0ax-evil:1');
  assert.deepEqual([injected.status, injected.headers.get('x-evil')], [404, null]);
  for (const model of ['', '../../etc/passwd', 'a\0b', 'é', 'x'.repeat(257)]) {
    await assertError(await post(CHAT_PATH, { ...CHAT, model }), 404, 'model_not_found', 'model');
  }
  assert.deepEqual(host.asked, ['../../etc/passwd'], 'what cannot be a name is not looked up');
});

test('unknown paths, wrong methods', async () => {
  const { app, get, post } = createTestApp();
  await assertError(await get('/v1/responses'), 404, 'route_not_found');
  await assertError(await get('/v1/models/'), 404, 'route_not_found');
  await assertError(await get('/'), 404, 'route_not_found');
  for (const [path, allow] of [
    ['/v1/models', 'GET, HEAD'],
    ['/v1/models/scripted', 'GET, HEAD'],
    ['/healthz', 'GET, HEAD'],
    ['/readyz', 'GET, HEAD'],
  ] as const) {
    const response = await post(path, {});
    await assertError(response, 405, 'method_not_allowed');
    assert.equal(response.headers.get('allow'), allow);
  }
  for (const path of [CHAT_PATH, '/v1/completions', '/v1/embeddings']) {
    const response = await get(path);
    await assertError(response, 405, 'method_not_allowed');
    assert.equal(response.headers.get('allow'), 'POST');
    const preflight = await app.request(path, { method: 'OPTIONS', headers: { host: 'localhost' } });
    await assertError(preflight, 405, 'method_not_allowed');
    assert.equal(preflight.headers.get('access-control-allow-origin'), null);
  }
});

test('the Host allow-list stops DNS rebinding', async () => {
  const { app, get } = createTestApp({ allowedHosts: ['Models.example', 'other.example:9000'] });
  const allowed = ['127.0.0.1', '127.0.0.1:8484', 'localhost:1', 'LOCALHOST', '[::1]', '[::1]:8484'].concat([
    'models.example',
    'MODELS.example:77',
    'other.example:9000',
  ]);
  for (const host of allowed) assert.equal((await get('/healthz', { host })).status, 200, host);
  const refused = [
    'evil.example',
    'localhost.',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '127.1',
  ].concat([
    '2130706433',
    '0.0.0.0',
    '[::]',
    '[::ffff:127.0.0.1]',
    'other.example',
    'other.example:9001',
    'localhost:8484:1',
    'localhost:x',
    'user@localhost',
    'localhost, evil.example',
    '',
  ]);
  for (const host of refused) await assertError(await get('/healthz', { host }), 403, 'host_refused');
  await assertError(await app.request('http://localhost/healthz'), 403, 'host_refused');
  // An absolute target overrides the header.
  const absolute = await app.request('http://evil.example/healthz', { headers: { host: 'localhost' } });
  await assertError(absolute, 403, 'host_refused');
});

test('a wrong allow-list is an error at the start', () => {
  for (const entry of ['http://a.example', 'a b', '*', '']) {
    assert.throws(() => createTestApp({ allowedHosts: [entry] }), { code: 'CONFIG_INVALID' }, entry);
  }
});

test('pages of other origins are refused', async () => {
  const { get, post } = createTestApp();
  const host = '127.0.0.1:8484';
  assert.equal((await get('/v1/models', { host, origin: 'http://127.0.0.1:8484' })).status, 200);
  for (const origin of [
    'http://evil.example',
    'null',
    'http://127.0.0.1:3000',
    'https://127.0.0.1:8484',
    '',
  ]) {
    await assertError(await post(CHAT_PATH, CHAT, { host, origin }), 403, 'origin_refused');
  }
});

test('only JSON is read as JSON', async () => {
  const { post } = createTestApp();
  const wrong = [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    '',
    'application/jsonp',
  ].concat(['application/json; charset=utf-16', 'text/plain; application/json']);
  for (const type of wrong) {
    const error = await assertError(
      await post(CHAT_PATH, CHAT, { 'content-type': type }),
      415,
      'media_type_refused',
    );
    assert.match(error.message, /-H 'content-type: application\/json'/);
  }
  for (const type of [
    'application/json; charset=utf-8',
    'Application/JSON',
    'application/json;charset="UTF-8"',
  ]) {
    assert.equal((await post(CHAT_PATH, CHAT, { 'content-type': type })).status, 200, type);
  }
  await assertError(await post(CHAT_PATH, CHAT, { 'content-encoding': 'gzip' }), 415, 'media_type_refused');
});

test('broken bodies are 400 with their place', async () => {
  const { post } = createTestApp();
  assert.match(
    (await assertError(await post(CHAT_PATH, '{"model":'), 400, 'request_invalid')).message,
    /JSON/,
  );
  assert.match(
    (await assertError(await post(CHAT_PATH, '{"a":1,}'), 400, 'request_invalid')).message,
    /position 7/,
  );
  for (const body of ['', '[]', 'null', '"text"'])
    await assertError(await post(CHAT_PATH, body), 400, 'request_invalid');
});

test('a chat answer', async () => {
  const { post, model } = createTestApp();
  const response = await post(CHAT_PATH, { ...CHAT, temperature: 0, max_tokens: 5 });
  assert.equal(response.status, 200);
  const body = (await response.json()) as Record<string, unknown>;
  assert.match(String(body.id), /^chatcmpl-[0-9a-f]{32}$/);
  assert.match(String(body.system_fingerprint), /^fp_[0-9a-f]{10}$/);
  assert.deepEqual(body.choices, [
    {
      index: 0,
      message: { role: 'assistant', content: 'Hello there.', refusal: null },
      logprobs: null,
      finish_reason: 'stop',
    },
  ]);
  assert.deepEqual(model.requests, [
    {
      prompt: { kind: 'chat', messages: [{ role: 'user', content: 'hi' }] },
      sampling: { temperature: 0 },
      maxTokens: 5,
    },
  ]);
});

test('a streamed chat answer: one id, the role first, the reason last, then usage and [DONE]', async () => {
  const { post } = createTestApp();
  const body = { ...CHAT, stream: true, stream_options: { include_usage: true } };
  const response = await post(CHAT_PATH, body);
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  assert.equal(response.headers.get('cache-control'), 'no-cache');
  assert.equal(response.headers.get('x-accel-buffering'), 'no');
  const events = eventsOf(await response.text());
  assert.equal(events.at(-1), '[DONE]');
  const chunks = events.slice(0, -1).map((event) => JSON.parse(event));
  assert.equal(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.created} ${chunk.object}`)).size, 1);
  assert.deepEqual(
    chunks.map((chunk) => [
      chunk.choices[0]?.delta,
      chunk.choices[0]?.finish_reason,
      chunk.usage?.total_tokens,
    ]),
    [
      [{ role: 'assistant', content: '', refusal: null }, null, undefined],
      [{ content: 'Hello' }, null, undefined],
      [{ content: ' there' }, null, undefined],
      [{ content: '.' }, null, undefined],
      [{}, 'stop', undefined],
      [undefined, undefined, 10],
    ],
  );
});

test('plain completions: several prompts, streamed and not', async () => {
  const { post, model } = createTestApp();
  const body = { model: 'base', prompt: ['a', 'b'] };
  const whole = (await (await post('/v1/completions', body)).json()) as { choices: unknown[]; usage: object };
  assert.deepEqual(whole.choices, [
    { index: 0, text: 'Hello there.', logprobs: null, finish_reason: 'stop' },
    { index: 1, text: 'Hello there.', logprobs: null, finish_reason: 'stop' },
  ]);
  const streamed = await post('/v1/completions', {
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  });
  const events = eventsOf(await streamed.text());
  assert.equal(events.at(-1), '[DONE]');
  const chunks = events.slice(0, -1).map((event) => JSON.parse(event));
  assert.deepEqual(
    chunks.map((chunk) => [chunk.choices[0]?.index, chunk.choices[0]?.text, chunk.choices[0]?.finish_reason]),
    [
      ['Hello', null],
      [' there', null],
      ['.', null],
      ['', 'stop'],
    ]
      .flatMap((rest): unknown[] => [
        [0, ...rest],
        [1, ...rest],
      ])
      .concat([[undefined, undefined, undefined]]),
  );
  assert.deepEqual(chunks.at(-1).usage, (whole as { usage: unknown }).usage);
  assert.equal(model.requests.length, 0, 'another model was asked');
});

test('requests that do not fit the model', async () => {
  const { post } = createTestApp();
  await assertError(await post(CHAT_PATH, { ...CHAT, model: 'nobody' }), 404, 'model_not_found', 'model');
  await assertError(await post(CHAT_PATH, { ...CHAT, model: 'embedder' }), 400, 'not_supported', 'model');
  await assertError(await post(CHAT_PATH, { ...CHAT, model: 'base' }), 400, 'not_supported', 'model');
  const biased = { ...CHAT, logit_bias: { '1000': 1 } };
  await assertError(await post(CHAT_PATH, biased), 400, 'request_invalid', 'logit_bias');
  const tokens = { model: 'base', prompt: [[1], [5, 1000]] };
  await assertError(await post('/v1/completions', tokens), 400, 'request_invalid', 'prompt');
  const embedding = { model: 'embedder', input: [5, 1000] };
  await assertError(await post('/v1/embeddings', embedding), 400, 'request_invalid', 'input');
  const dimensions = { model: 'embedder', input: 'a', dimensions: 4 };
  await assertError(await post('/v1/embeddings', dimensions), 400, 'request_invalid', 'dimensions');
});

test('errors before the first event are HTTP statuses, streamed or not', async () => {
  const cases: readonly [ErrorCode, number, string, string | null, string | null][] = [
    ['CONTEXT_EXCEEDED', 400, 'context_length_exceeded', 'messages', null],
    ['TEMPLATE_FAILED', 400, 'template_failed', 'messages', null],
    ['ENGINE_LOST', 503, 'engine_lost', null, '2'],
    ['BUSY', 503, 'busy', null, '2'],
    ['ADAPTER_INVALID', 500, 'adapter_invalid', 'model', null],
    ['DIGEST_MISMATCH', 500, 'digest_mismatch', null, null],
  ];
  for (const stream of [false, true]) {
    for (const [code, status, wireCode, param, retryAfter] of cases) {
      const { post, model } = createTestApp();
      model.script = { failure: { at: 0, thrown: new FreeholdError(code, 'no') } };
      const response = await post(CHAT_PATH, { ...CHAT, stream });
      await assertError(response, status, wireCode, param);
      assert.equal(response.headers.get('retry-after'), retryAfter);
    }
  }
});

test('an input that does not fit names the field of the input', async () => {
  const { post, host } = createTestApp();
  const embedder = host.models.get('embedder');
  assert.ok(embedder !== undefined);
  embedder.embedFailure = new FreeholdError('CONTEXT_EXCEEDED', 'input 0: 70 tokens, 64 fit');
  const response = await post('/v1/embeddings', { model: 'embedder', input: 'a' });
  await assertError(response, 400, 'context_length_exceeded', 'input');
  const base = host.models.get('base');
  assert.ok(base !== undefined);
  base.script = { failure: { at: 0, thrown: new FreeholdError('CONTEXT_EXCEEDED', 'no') } };
  const completion = await post('/v1/completions', { model: 'base', prompt: 'a' });
  await assertError(completion, 400, 'context_length_exceeded', 'prompt');
});

test('a failure in mid-stream is an event, and [DONE] does not follow', async () => {
  const { post, model, records } = createTestApp();
  model.script = { failure: { at: 2, thrown: new FreeholdError('ENGINE_LOST', 'the child is gone') } };
  const events = eventsOf(await (await post(CHAT_PATH, { ...CHAT, stream: true })).text());
  assert.equal(events.length, 3);
  assert.equal(JSON.parse(events[2] ?? '').error.code, 'engine_lost');
  assert.ok(records.some((record) => record.event === 'stream-failed'));
});

test('a generation that stops without its end is an error, not a short answer', async () => {
  const { post, model } = createTestApp();
  model.script = { isTruncated: true };
  await assertError(await post(CHAT_PATH, CHAT), 500, 'internal');
  const events = eventsOf(await (await post(CHAT_PATH, { ...CHAT, stream: true })).text());
  assert.equal(JSON.parse(events.at(-1) ?? '').error.code, 'internal');
});

test('an unforeseen exception shows nothing of itself to the client and everything to the log', async () => {
  const { post, model, records } = createTestApp();
  model.script = { failure: { at: 0, thrown: new TypeError('secret prompt') } };
  const response = await post(CHAT_PATH, CHAT, { 'x-request-id': 'abc' });
  const error = await assertError(response, 500, 'internal');
  assert.match(error.message, /abc/);
  assert.doesNotMatch(error.message, /secret/);
  const crash = records.find((record) => record.event === 'request-crashed');
  assert.equal(crash?.fields?.requestId, 'abc');
  assert.match(String(crash?.fields?.stack), /secret prompt/);
});

test('every answer has a request id: a good one of the client, else a new one', async () => {
  const { get, records } = createTestApp();
  const idOf = async (id: string) =>
    (await get('/healthz', { 'x-request-id': id })).headers.get('x-request-id');
  assert.equal(await idOf('trace-1:a.b_C'), 'trace-1:a.b_C');
  for (const id of ['a b', 'é', 'x'.repeat(129), '<script>'])
    assert.match((await idOf(id)) ?? '', /^req_[0-9a-f]{32}$/);
  assert.deepEqual(
    { ...records[0]?.fields },
    { requestId: 'trace-1:a.b_C', method: 'GET', path: '/healthz', status: 200, code: null, durationMs: 0 },
  );
});

test('no prompt and no answer gets into the log', async () => {
  const { post, records, model } = createTestApp();
  model.script = { pieces: ['confidential answer'] };
  const messages = [{ role: 'user', content: 'confidential question' }];
  await (await post(CHAT_PATH, { ...CHAT, messages })).text();
  await (await post(CHAT_PATH, { ...CHAT, messages, stream: true })).text();
  await (await post(CHAT_PATH, { ...CHAT, messages, confidential: 1 })).text();
  assert.ok(records.length >= 3);
  assert.doesNotMatch(JSON.stringify(records), /confidential/);
});

test('a draining server takes nothing new', async () => {
  const { app } = createTestApp();
  const env = { draining: AbortSignal.abort() };
  const response = await app.request('/healthz', { headers: { host: 'localhost' } }, env);
  await assertError(response, 503, 'busy');
  assert.equal(response.headers.get('retry-after'), '2');
});
