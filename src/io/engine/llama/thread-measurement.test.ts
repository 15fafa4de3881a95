import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Row, ThreadCounts } from './native-context.ts';
import { type Meter, measureThreads, SpeedWatch } from './thread-measurement.ts';

/** A model whose calls take as long as it is told, on a clock of its own. */
class TimedContext implements Meter {
  readonly contextTokens = 256;
  readonly #rowMs: (threads: number, rows: number) => number;
  #threads: ThreadCounts = { decode: 1, batch: 1 };
  #cells = 0;
  #nowMs = 0;
  #cpuMs = 0;
  calls = 0;

  constructor(rowMs: (threads: number, rows: number) => number) {
    this.#rowMs = rowMs;
  }

  get threads(): ThreadCounts {
    return this.#threads;
  }

  setThreads(threads: ThreadCounts): void {
    this.#threads = threads;
  }

  trim(): number {
    this.#cells = 0;
    return 0;
  }

  async decode(rows: readonly Row[]): Promise<boolean> {
    this.calls++;
    for (const row of rows) assert.equal(row.position, this.#cells++, 'positions in order');
    const threads = rows.length === 1 ? this.#threads.decode : this.#threads.batch;
    const milliseconds = this.#rowMs(threads, rows.length) * rows.length;
    this.#nowMs += milliseconds;
    // ggml's threads spin while they wait.
    this.#cpuMs += milliseconds * threads;
    return true;
  }

  monotonicMs = (): number => this.#nowMs;
  cpuSeconds = (): number => this.#cpuMs / 1000;
}

const measure = (context: TimedContext, processors: number) =>
  measureThreads({ context, token: 1 }, { decode: 1, batch: 1 }, processors, context);

test('a small model keeps one thread for answers and takes all for prompts', async () => {
  const context = new TimedContext((threads, rows) => (rows === 1 ? 7 + threads : 4 / threads));
  const choice = await measure(context, 4);
  assert.ok(choice !== undefined);
  assert.deepEqual([choice.decode, choice.batch, Math.round(choice.tokensPerCpuSecond)], [1, 4, 125]);
  assert.deepEqual(context.threads, { decode: 1, batch: 4 });
});

test('a large model takes as many threads as make it faster, no more', async () => {
  const context = new TimedContext((threads) => Math.max(10, 80 / threads) + threads / 10);
  assert.equal((await measure(context, 16))?.decode, 8);
});

test('where cores are taken, numbers that only get worse are not tried for long', async () => {
  const context = new TimedContext((threads) => (threads <= 2 ? 10 : 20 * threads));
  assert.ok((await measure(context, 64)) !== undefined);
  assert.ok(context.calls < 40, `${context.calls} calls`);
  assert.ok(context.monotonicMs() < 60_000);
});

test('a gain of a few per cent is not worth a core', async () => {
  const context = new TimedContext((threads) => 10 - threads / 10);
  assert.equal((await measure(context, 2))?.decode, 1);
});

test('a model that becomes slow for its CPU time is measured again, once a minute at most', () => {
  let [nowMs, cpuSeconds] = [0, 0];
  const meter: Meter = { monotonicMs: () => nowMs, cpuSeconds: () => cpuSeconds };
  const watch = new SpeedWatch({ decode: 2, batch: 2, tokensPerCpuSecond: 50 }, meter);
  const write = (tokens: number, secondsEach: number): void => {
    watch.pause();
    for (let token = 0; token < tokens; token++) {
      cpuSeconds += secondsEach;
      watch.onSoloToken(token);
    }
  };
  nowMs = 100_000;
  write(200, 0.025);
  assert.equal(watch.shouldMeasure, false, 'a little slower is no reason');
  write(200, 0.1);
  assert.equal(watch.shouldMeasure, true);
  watch.measured({ decode: 1, batch: 1, tokensPerCpuSecond: 45 });
  write(200, 0.1);
  assert.equal(watch.shouldMeasure, false, 'not again at once');
  nowMs += 60_000;
  assert.equal(watch.shouldMeasure, true);
});
