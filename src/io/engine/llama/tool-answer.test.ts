import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { GenerateEvent } from '../../../core/base/engine-port.ts';
import { readToolAnswer } from './tool-answer.ts';

const usage = { promptTokens: 1, cachedTokens: 0, completionTokens: 1, promptMs: 1, completionMs: 1 };
const started: GenerateEvent = { kind: 'started', promptTokens: 1 };
const end = (reason: 'stop' | 'length', stop?: string): GenerateEvent => ({
  kind: 'finished',
  reason,
  ...(stop === undefined ? {} : { stop }),
  usage,
});
const say = (text: string): GenerateEvent => ({ kind: 'text', text, tokens: [] });

async function* streamOf(events: readonly GenerateEvent[]): AsyncGenerator<GenerateEvent> {
  yield* events;
}

const read = (...events: GenerateEvent[]) => Array.fromAsync(readToolAnswer(streamOf(events)));

const ANSWER = '[{"name":"f","arguments":{"a":"}]\\"[é"}},{"name":"g","arguments":{}}]';

test('an answer in whatever pieces becomes the same calls', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(ANSWER.length)), async (cuts) => {
      const borders = [0, ...cuts.toSorted((left, right) => left - right), ANSWER.length];
      const pieces = borders.slice(1).map((border, index) => say(ANSWER.slice(borders[index], border)));
      const events = await read(started, ...pieces, end('stop'));
      assert.deepEqual(
        [events[0], events.at(-1)],
        [started, { kind: 'finished', reason: 'tool-calls', usage }],
      );
      const names = events.flatMap((event) =>
        event.kind === 'tool-call' ? [[event.index, event.name]] : [],
      );
      assert.deepEqual(names, [
        [0, 'f'],
        [1, 'g'],
      ]);
      const argumentsOf = (index: number) =>
        events
          .map((event) => (event.kind === 'tool-arguments' && event.index === index ? event.text : ''))
          .join('');
      assert.deepEqual([argumentsOf(0), argumentsOf(1)], ['{"a":"}]\\"[é"}', '{}']);
      assert.ok(events.every((event) => event.kind !== 'text'));
    }),
  );
});

test('a cut answer finishes with the reason of the cut, a complete one never does', async () => {
  const half = ANSWER.slice(0, 30);
  assert.equal((await read(started, say(half), end('length'))).at(-1)?.kind, 'finished');
  const reasonOf = async (text: string, finished: GenerateEvent) => {
    const last = (await read(started, say(text), finished)).at(-1);
    return last?.kind === 'finished' ? [last.reason, last.stop] : assert.fail();
  };
  assert.deepEqual(await reasonOf(half, end('length')), ['length', undefined]);
  assert.deepEqual(await reasonOf(half, end('stop', 'é')), ['stop', 'é']);
  assert.deepEqual(await reasonOf('', end('length')), ['length', undefined]);
  assert.deepEqual(await reasonOf(ANSWER, end('length')), ['tool-calls', undefined]);
});

test('text that is no call, or ends in one, is the fault of the engine', async () => {
  await assert.rejects(read(started, say('Hello'), end('stop')), { code: 'ENGINE_FAILED' });
  await assert.rejects(read(started, say(ANSWER.slice(0, 30)), end('stop')), { code: 'ENGINE_FAILED' });
  await assert.rejects(read(started, end('stop')), { code: 'ENGINE_FAILED' });
});

test('tokens stay, without text; errors and an early end pass through', async () => {
  const token = { id: 1, bytes: new Uint8Array([0x7b]), logprob: -1, top: [] };
  const events = await read(
    started,
    { kind: 'text', text: '{"name":"f","argum', tokens: [token] },
    end('length'),
  );
  assert.deepEqual(
    events.map((event) => (event.kind === 'text' ? event : event.kind)),
    ['started', { kind: 'text', text: '', tokens: [token] }, 'tool-call', 'finished'],
  );
  let isClosed = false;
  async function* failing(): AsyncGenerator<GenerateEvent> {
    try {
      yield started;
      yield say('{"name":"f"');
      throw new Error('lost');
    } finally {
      isClosed = true;
    }
  }
  await assert.rejects(Array.fromAsync(readToolAnswer(failing())), /lost/);
  isClosed = false;
  for await (const event of readToolAnswer(failing())) if (event.kind === 'tool-call') break;
  assert.ok(isClosed, 'a reader who leaves closes what it read from');
});
