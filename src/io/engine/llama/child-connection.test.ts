import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import type { GenerateEvent } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { ChildConnection, type RunningRequest } from './child-connection.ts';
import { EmbeddingRequest, GenerationRequest } from './child-request.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import { CHILD_FRAME_BYTES_MAX, type ParentMessage, parseParentMessage } from './protocol.ts';
import { SAMPLING_DEFAULTS } from './sampling.ts';

// The child of these tests is a script: what it says is not bound to any protocol.

const LIMITS = { contextTokens: 16, vocabularyTokens: 100 };
const USAGE = { promptTokens: 3, cachedTokens: 0, completionTokens: 1, promptMs: 1, completionMs: 1 };

class ScriptedChild {
  readonly received: ParentMessage[] = [];
  distrusted: FreeholdError | undefined;
  readonly connection: ChildConnection;
  readonly #channel: Duplex;

  constructor(limits = { templateTimeoutMs: 5000, cancelTimeoutMs: 5000, silenceTimeoutMs: 5000 }) {
    const reader = new FrameReader(1 << 24);
    this.#channel = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        for (const message of reader.push(chunk)) this.received.push(parseParentMessage(message));
        done();
      },
    });
    const distrust = (error: FreeholdError): void => {
      this.distrusted ??= error;
      this.connection.end(error);
    };
    this.connection = new ChildConnection(this.#channel, { distrust, threadsMeasured: () => {} }, limits);
  }

  say(...messages: unknown[]): void {
    for (const message of messages) this.sayBytes(encodeFrame(message));
  }

  sayBytes(bytes: Uint8Array): void {
    if (!this.#channel.destroyed) this.#channel.push(bytes);
  }

  generate(): { request: GenerationRequest; running: RunningRequest; events: Promise<GenerateEvent[]> } {
    const request = new GenerationRequest(LIMITS);
    const running = this.connection.start(request, (id) => ({
      kind: 'generate',
      id,
      prompt: { kind: 'text', text: 'x' },
      sampling: { ...SAMPLING_DEFAULTS, logitBias: {}, seed: 1 },
      isReproducible: false,
      stop: [],
    }));
    const events = Array.fromAsync(request.events.read());
    events.catch(() => {});
    return { request, running, events };
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('a request gets its own events, in order, and settles at the end', async () => {
  const child = new ScriptedChild();
  const first = child.generate();
  const second = child.generate();
  child.say(
    { kind: 'rendered', id: 2 },
    { kind: 'started', id: 2, promptTokens: 3 },
    { kind: 'started', id: 1, promptTokens: 3 },
    { kind: 'text', id: 2, text: 'two', tokens: [] },
    { kind: 'failed', id: 1, code: 'REQUEST_INVALID', message: 'no', detail: { param: 'x' } },
    { kind: 'finished', id: 2, reason: 'stop', stop: 'S', usage: USAGE },
  );
  await assert.rejects(first.events, { code: 'REQUEST_INVALID', message: 'no', detail: { param: 'x' } });
  assert.deepEqual(await second.events, [
    { kind: 'started', promptTokens: 3 },
    { kind: 'text', text: 'two', tokens: [] },
    { kind: 'finished', reason: 'stop', stop: 'S', usage: USAGE },
  ]);
  await Promise.all([first.running.settled, second.running.settled]);
  assert.equal(child.distrusted, undefined);
});

const started = { kind: 'started', id: 1, promptTokens: 3 };
const token = { id: 5, bytes: 'eA==', logprob: -1, top: [] };
const hostile: readonly (readonly [string, readonly unknown[]])[] = [
  ['an unknown kind', [{ kind: 'shell', id: 1 }]],
  ['an unknown field', [{ ...started, extra: 1 }]],
  ['a wrong type', [{ ...started, promptTokens: '3' }]],
  ['a negative count', [{ ...started, promptTokens: -1 }]],
  ['an id that nobody asked for', [{ ...started, id: 77 }]],
  ['an id of the prototype', [{ ...started, id: '__proto__' }]],
  ['a second start', [started, started]],
  ['text before the start', [{ kind: 'text', id: 1, text: 'x', tokens: [] }]],
  ['an end before the start', [{ kind: 'finished', id: 1, reason: 'stop', usage: USAGE }]],
  ['an event after the end', [started, { kind: 'finished', id: 1, reason: 'stop', usage: USAGE }, started]],
  ['a vector for a generation', [{ kind: 'vector', id: 1, vector: 'AAAA' }]],
  [
    'a token beyond the vocabulary',
    [started, { kind: 'text', id: 1, text: 'x', tokens: [{ ...token, id: 100 }] }],
  ],
  [
    'a probability above 1',
    [started, { kind: 'text', id: 1, text: 'x', tokens: [{ ...token, logprob: 5 }] }],
  ],
  [
    'more tokens than the context has',
    [started, { kind: 'text', id: 1, text: 'x', tokens: Array(17).fill(token) }],
  ],
  [
    'more text than the context has',
    [started, { kind: 'text', id: 1, text: 'x'.repeat(16 * 1024 + 1), tokens: [] }],
  ],
  ['a reserved error code', [{ kind: 'failed', id: 1, code: 'DIGEST_MISMATCH', message: '' }]],
  ['an endless error message', [{ kind: 'failed', id: 1, code: 'INTERNAL', message: 'x'.repeat(5000) }]],
  [
    'loaded twice',
    [
      { kind: 'load-failed', code: 'INTERNAL', message: '' },
      { kind: 'load-failed', code: 'INTERNAL', message: '' },
    ],
  ],
  ['an array', [[]]],
  ['null', [null]],
];

for (const [name, messages] of hostile) {
  test(`a child that sends ${name} is ended, and its request fails`, async () => {
    const child = new ScriptedChild();
    const { events, running } = child.generate();
    child.say(...messages);
    await running.settled;
    await turn();
    assert.equal(child.distrusted?.code, 'ENGINE_FAILED');
    if (name !== 'an event after the end') await assert.rejects(events, { code: 'ENGINE_FAILED' });
    assert.throws(() => child.generate(), { code: 'ENGINE_FAILED' });
  });
}

test('a frame over the cap is refused by its length alone, without waiting for it', async () => {
  const child = new ScriptedChild();
  const { events } = child.generate();
  const header = Buffer.alloc(4);
  header.writeUInt32BE(CHILD_FRAME_BYTES_MAX + 1);
  child.sayBytes(header);
  await assert.rejects(events, { code: 'ENGINE_FAILED', message: /at most 1048576/ });
});

test('no bytes of a hostile child escape as anything but an error of its own requests', async () => {
  const message = fc.oneof(
    fc.jsonValue(),
    fc.record(
      {
        kind: fc.constantFrom(
          'loaded',
          'load-failed',
          'rendered',
          'started',
          'text',
          'finished',
          'vector',
          'embedded',
          'failed',
        ),
        id: fc.oneof(fc.constantFrom(1, 2), fc.jsonValue()),
        promptTokens: fc.oneof(fc.nat(), fc.double()),
        text: fc.oneof(fc.string(), fc.jsonValue()),
        tokens: fc.oneof(fc.constant([]), fc.jsonValue()),
      },
      { requiredKeys: ['kind'] },
    ),
  );
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    message.map((value) => encodeFrame(value)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { maxLength: 6 }), fc.nat(40), async (chunks, cut) => {
      const child = new ScriptedChild();
      const { events } = child.generate();
      const embedding = new EmbeddingRequest(1, 2);
      child.connection.start(embedding, (id) => ({ kind: 'embed', id, inputs: ['x'] }));
      const all = Buffer.concat(chunks);
      child.sayBytes(all.subarray(0, cut));
      child.sayBytes(all.subarray(cut));
      await turn();
      child.connection.end(new FreeholdError('ENGINE_LOST', 'gone'));
      // Everything settles, with an error of ours or a well-formed end.
      const results = await Promise.allSettled([events, embedding.result]);
      for (const result of results) {
        if (result.status === 'rejected') assert.ok(result.reason instanceof FreeholdError);
      }
    }),
    { numRuns: 400 },
  );
});

test('vectors are counted and measured', async () => {
  const vector = (values: number[]) => Buffer.from(Float32Array.from(values).buffer).toString('base64');
  const ask = async (...messages: unknown[]) => {
    const child = new ScriptedChild();
    const embedding = new EmbeddingRequest(2, 2);
    child.connection.start(embedding, (id) => ({ kind: 'embed', id, inputs: ['a', 'b'] }));
    child.say(...messages);
    return embedding.result;
  };
  const end = { kind: 'embedded', id: 1, promptTokens: 4 };
  const one = { kind: 'vector', id: 1, vector: vector([0.5, 1]) };
  const result = await ask(one, one, end);
  assert.deepEqual(result, { vectors: [Float32Array.of(0.5, 1), Float32Array.of(0.5, 1)], promptTokens: 4 });
  for (const messages of [
    [one, end],
    [one, one, one],
    [one, { ...one, vector: vector([1]) }],
    [one, { ...one, vector: vector([1, Number.NaN]) }],
    [started],
  ]) {
    await assert.rejects(ask(...messages), { code: 'ENGINE_FAILED' });
  }
});

test('a cancelled caller is told at once; the request settles when the child agrees', async () => {
  const child = new ScriptedChild();
  const { running, events } = child.generate();
  child.say(started);
  await turn();
  running.cancel(new FreeholdError('CANCELLED', 'gone'));
  await assert.rejects(events, { code: 'CANCELLED' });
  assert.deepEqual(child.received.at(-1), { kind: 'cancel', id: 1 });
  let isSettled = false;
  void running.settled.then(() => {
    isSettled = true;
  });
  child.say({ kind: 'text', id: 1, text: 'late', tokens: [] });
  await turn();
  assert.equal(isSettled, false);
  child.say({ kind: 'failed', id: 1, code: 'CANCELLED', message: 'cancelled' });
  await running.settled;
  assert.equal(child.distrusted, undefined);
});

test('a child that ignores a cancellation, or whose template never returns, is ended', async () => {
  const deaf = new ScriptedChild({ templateTimeoutMs: 5000, cancelTimeoutMs: 20, silenceTimeoutMs: 5000 });
  const first = deaf.generate();
  first.running.cancel(new FreeholdError('CANCELLED', 'gone'));
  await first.running.settled;
  assert.equal(deaf.distrusted?.code, 'ENGINE_LOST');

  const endless = new ScriptedChild({ templateTimeoutMs: 20, cancelTimeoutMs: 5000, silenceTimeoutMs: 5000 });
  const second = endless.generate();
  await assert.rejects(second.events, { code: 'TEMPLATE_FAILED' });
  assert.equal(endless.distrusted?.code, 'TEMPLATE_FAILED');
});

test('a slow reader gets one joined event, not one per token', async () => {
  const child = new ScriptedChild();
  const request = new GenerationRequest(LIMITS);
  child.connection.start(request, (id) => ({ kind: 'embed', id, inputs: [] }));
  const texts = Array.from({ length: 10 }, (_, index) => ({
    kind: 'text',
    id: 1,
    text: `${index}`,
    tokens: [token],
  }));
  child.say(started, ...texts, { kind: 'finished', id: 1, reason: 'length', usage: USAGE });
  await turn();
  const events = await Array.fromAsync(request.events.read());
  assert.deepEqual(
    events.map((event) => event.kind),
    ['started', 'text', 'finished'],
  );
  const text = events[1];
  assert.ok(text?.kind === 'text' && text.text === '0123456789' && text.tokens.length === 10);
});

test('frames survive any cut of the stream', () => {
  fc.assert(
    fc.property(
      fc.array(fc.jsonValue(), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
      (values, lengths) => {
        const bytes = Buffer.concat(values.map((value) => encodeFrame(value)));
        const reader = new FrameReader(1 << 20);
        const read: unknown[] = [];
        for (let at = 0, turnCount = 0; at < bytes.length; turnCount++) {
          const length = lengths[turnCount % lengths.length] as number;
          read.push(...reader.push(bytes.subarray(at, at + length)));
          at += length;
        }
        assert.deepEqual(read, JSON.parse(JSON.stringify(values)));
      },
    ),
  );
});

test('a child that is not heard of any more is ended; one that says that it lives is waited for', async () => {
  const child = new ScriptedChild({ templateTimeoutMs: 5000, cancelTimeoutMs: 5000, silenceTimeoutMs: 100 });
  const { events } = child.generate();
  const failed = assert.rejects(events, { code: 'ENGINE_LOST', message: /not been heard of/ });
  for (let count = 0; count < 6; count++) {
    await new Promise((resolve) => setTimeout(resolve, 40));
    assert.equal(child.distrusted, undefined);
    child.say({ kind: 'alive' });
  }
  await failed;
});

test('a child that measures threads again and again is not believed', async () => {
  const child = new ScriptedChild();
  const measured = { kind: 'threads-measured', choice: { decode: 1, batch: 1, tokensPerCpuSecond: 10 } };
  const codeAfterSaying = async (): Promise<string | undefined> => {
    child.say(measured);
    await new Promise((resolve) => setImmediate(resolve));
    return child.distrusted?.code;
  };
  assert.equal(await codeAfterSaying(), undefined);
  assert.equal(await codeAfterSaying(), 'ENGINE_FAILED');
});
