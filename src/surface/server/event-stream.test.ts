import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../../tests/fixtures/manual-clock.ts';
import type { FreeholdError } from '../../core/base/errors.ts';
import { CLIENT_STALL_MS, openEventStream, PING_INTERVAL_MS } from './event-stream.ts';

/** Frames that the test hands out one by one. */
class FrameSource implements AsyncIterable<string> {
  readonly #waiting: PromiseWithResolvers<IteratorResult<string>>[] = [];
  readonly #ready: PromiseWithResolvers<IteratorResult<string>>[] = [];
  isReturned = false;

  #slot(
    from: PromiseWithResolvers<IteratorResult<string>>[],
    to: PromiseWithResolvers<IteratorResult<string>>[],
  ) {
    const slot = from.shift() ?? Promise.withResolvers<IteratorResult<string>>();
    if (!to.includes(slot)) to.push(slot);
    return slot;
  }

  push(text: string): void {
    this.#slot(this.#waiting, this.#ready).resolve({ done: false, value: text });
  }

  end(): void {
    this.#slot(this.#waiting, this.#ready).resolve({ done: true, value: undefined });
  }

  fail(error: unknown): void {
    this.#slot(this.#waiting, this.#ready).reject(error);
  }

  [Symbol.asyncIterator](): AsyncIterator<string> {
    return {
      next: () => {
        const ready = this.#ready.shift();
        if (ready !== undefined) return ready.promise;
        const slot = Promise.withResolvers<IteratorResult<string>>();
        this.#waiting.push(slot);
        return slot.promise;
      },
      return: async () => {
        this.isReturned = true;
        return { done: true, value: undefined };
      },
    };
  }
}

async function open() {
  const clock = new ManualClock();
  const frames = new FrameSource();
  const abandoned: FreeholdError[] = [];
  frames.push('');
  const stream = await openEventStream({
    frames,
    clock,
    encodeFailure: (thrown) => `failure: ${thrown}`,
    abandon: (reason) => abandoned.push(reason),
  });
  const reader = stream.getReader();
  const read = async () => {
    const { done, value } = await reader.read();
    return done ? undefined : Buffer.from(value).toString();
  };
  return { clock, frames, abandoned, reader, read };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test('each frame is one chunk, an empty one is none, and the end closes', async () => {
  const { frames, read, clock } = await open();
  frames.push('a');
  frames.push('');
  frames.push('b');
  frames.end();
  assert.deepEqual([await read(), await read(), await read()], ['a', 'b', undefined]);
  assert.equal(clock.sleeperCount, 0, 'no timer is left behind');
});

test('silence is filled with comments, and the frame that was waited for is not lost', async () => {
  const { clock, frames, read } = await open();
  const first = read();
  await settled();
  await clock.advance(PING_INTERVAL_MS - 1);
  assert.equal(clock.sleeperCount, 1);
  await clock.advance(1);
  assert.equal(await first, ': ping\n\n');
  const second = read();
  await settled();
  await clock.advance(PING_INTERVAL_MS);
  assert.equal(await second, ': ping\n\n');
  frames.push('late');
  assert.equal(await read(), 'late');
});

test('a failure before the first frame is thrown, a later one is an event and the end', async () => {
  const frames = new FrameSource();
  frames.fail(new RangeError('early'));
  const options = { frames, clock: new ManualClock(), encodeFailure: String, abandon: () => {} };
  await assert.rejects(openEventStream(options), RangeError);

  const late = await open();
  late.frames.push('a');
  late.frames.fail(new RangeError('late'));
  assert.deepEqual(
    [await late.read(), await late.read(), await late.read()],
    ['a', 'failure: RangeError: late', undefined],
  );
});

test('a failure between two reads is kept for the next one', async () => {
  const { clock, frames, read } = await open();
  const first = read();
  await settled();
  await clock.advance(PING_INTERVAL_MS);
  await first;
  frames.fail(new RangeError('nobody reads'));
  await settled();
  assert.equal(await read(), 'failure: RangeError: nobody reads');
});

test('a client that takes nothing is given up', async () => {
  const { clock, frames, abandoned, read } = await open();
  frames.push('a');
  await read();
  await clock.advance(CLIENT_STALL_MS - 1);
  assert.equal(abandoned.length, 0);
  await clock.advance(1);
  assert.equal(abandoned[0]?.code, 'CANCELLED');
});

test('a client that hangs up ends the work', async () => {
  const { clock, frames, abandoned, reader, read } = await open();
  frames.push('a');
  await read();
  await reader.cancel();
  assert.equal(abandoned.length, 1);
  assert.ok(frames.isReturned);
  await settled();
  assert.equal(clock.sleeperCount, 0);
});
