import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mergeStreams } from './merge-streams.ts';

const never = new AbortController().signal;
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Counts up, and notes what happens to it. */
class Source {
  readonly name: string;
  asked = 0;
  isRunning = false;
  isAborted = false;

  constructor(name: string) {
    this.name = name;
  }

  readonly begin = async function* (this: Source, signal: AbortSignal): AsyncGenerator<string> {
    this.isRunning = true;
    try {
      for (;;) {
        await settled();
        if (signal.aborted) {
          this.isAborted = true;
          throw signal.reason;
        }
        this.asked += 1;
        yield `${this.name}${this.asked}`;
      }
    } finally {
      this.isRunning = false;
    }
  }.bind(this);
}

async function* listed(items: readonly string[]): AsyncGenerator<string> {
  for (const item of items) {
    await settled();
    yield item;
  }
}

test('every item of every stream comes once and in the order of its stream, at any concurrency', async () => {
  const streams = fc.array(fc.array(fc.string({ maxLength: 3 }), { maxLength: 6 }), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(streams, fc.integer({ min: 0, max: 9 }), async (contents, concurrentMax) => {
      let running = 0;
      let runningMax = 0;
      const begin = contents.map(
        (items) =>
          async function* () {
            running += 1;
            runningMax = Math.max(runningMax, running);
            yield* listed(items);
            running -= 1;
          },
      );
      const got = contents.map((): string[] => []);
      for await (const { index, item } of mergeStreams(begin, { concurrentMax, signal: never })) {
        got[index]?.push(item);
      }
      assert.deepEqual(got, contents);
      assert.equal(running, 0);
      assert.equal(runningMax, Math.min(contents.length, Math.max(1, concurrentMax)));
    }),
    { numRuns: 100 },
  );
});

test('no stream waits behind a faster one', async () => {
  async function* ready(name: string): AsyncGenerator<string> {
    for (let count = 0; count < 50; count++) yield name;
  }
  const order: number[] = [];
  const merged = mergeStreams([() => ready('a'), () => ready('b'), () => ready('c')], {
    concurrentMax: 3,
    signal: never,
  });
  for await (const { index } of merged) order.push(index);
  for (const index of [0, 1, 2]) assert.ok(order.slice(0, 9).includes(index), `${index} in ${order}`);
});

test('of each stream one item is asked for ahead, no more', async () => {
  const sources = [new Source('a'), new Source('b')];
  const merged = mergeStreams(
    sources.map((source) => source.begin),
    { concurrentMax: 2, signal: never },
  );
  for (let count = 0; count < 3; count++) await merged.next();
  for (let count = 0; count < 10; count++) await settled();
  const asked = sources.reduce((sum, source) => sum + source.asked, 0);
  assert.ok(asked <= 3 + sources.length, `${asked} items for 3 that were taken`);
  await merged.return();
});

test('a caller who leaves ends every stream, and is told only when they have ended', async () => {
  const sources = [new Source('a'), new Source('b'), new Source('c')];
  const merged = mergeStreams(
    sources.map((source) => source.begin),
    { concurrentMax: 2, signal: never },
  );
  await merged.next();
  assert.equal(sources.filter((source) => source.isRunning).length, 2, 'the third has not begun');
  await merged.return();
  assert.ok(sources.every((source) => !source.isRunning));
  assert.equal(sources[2]?.asked, 0);
});

test('the first failure is thrown, and the others have been aborted by then', async () => {
  const failure = new Error('first');
  const others = [new Source('a'), new Source('b')];
  const merged = mergeStreams(
    [
      ...others.map((source) => source.begin),
      async function* () {
        yield 'x';
        await settled();
        throw failure;
      },
    ],
    { concurrentMax: 3, signal: never },
  );
  await assert.rejects(
    async () => {
      for await (const _ of merged);
    },
    (error) => error === failure,
  );
  assert.deepEqual(
    others.map(({ isRunning, asked }) => [isRunning, asked > 0]),
    [
      [false, true],
      [false, true],
    ],
  );
  assert.ok(
    others.some((source) => source.isAborted),
    'one was in the middle of its work',
  );
});

test('a stream that cannot even begin is a failure like any other', async () => {
  const source = new Source('a');
  const merged = mergeStreams<string>(
    [
      source.begin,
      () => {
        throw new Error('no');
      },
    ],
    { concurrentMax: 2, signal: never },
  );
  await assert.rejects(merged.next(), /no/);
  assert.equal(source.isRunning, false);
});

test('an abort from outside reaches every stream', async () => {
  const sources = [new Source('a'), new Source('b')];
  const controller = new AbortController();
  const merged = mergeStreams(
    sources.map((source) => source.begin),
    { concurrentMax: 2, signal: controller.signal },
  );
  await merged.next();
  const reason = new Error('gone');
  controller.abort(reason);
  await assert.rejects(
    async () => {
      for await (const _ of merged);
    },
    (error) => error === reason,
  );
  assert.ok(sources.every((source) => !source.isRunning));
});

test('no streams, no items', async () => {
  const merged = mergeStreams([], { concurrentMax: 4, signal: never });
  assert.deepEqual(await merged.next(), { done: true, value: undefined });
});
