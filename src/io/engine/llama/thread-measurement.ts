import type { ThreadChoice } from '../../../core/base/thread-choices.ts';
import type { NativeContext, Row, ThreadCounts } from './native-context.ts';
import { GRID_TOKENS } from './sequence-memory.ts';

/**
 * ggml's threads wait for each other by spinning: with more of them than idle cores decoding falls to a tenth, and small
 * models are slower with two threads than with one even on idle cores. No rule tells the best number, so it is measured.
 */

/** For all numbers of threads together. A model that needs longer for this is measured coarsely. */
const MEASUREMENT_MS_MAX = 3000;
/** Tokens written for each number of threads; fewer where that takes longer than `DECODE_MS_MAX`. */
const DECODE_TOKENS = 12;
const DECODE_TOKENS_MIN = 3;
const DECODE_MS_MAX = 300;
/** One more thread must be worth that much, since it is taken from others. */
const GAIN_MIN = 1.05;
/** A prompt of so many tokens is read for each number of threads. */
const PROMPT_TOKENS = GRID_TOKENS;

export interface MeasuredModel {
  readonly context: Pick<NativeContext, 'decode' | 'setThreads' | 'trim' | 'contextTokens'>;
  /** A token that may be evaluated: any of the vocabulary. */
  readonly token: number;
}

/** Milliseconds since some moment, and CPU seconds of this process. */
export interface Meter {
  monotonicMs(): number;
  cpuSeconds(): number;
}

/**
 * Measures which numbers of threads this model is fastest with, and leaves them set. Uses sequence 0, which is empty then.
 * @param current what is set before, and again when nothing comes of it
 * @param processors that this process may use
 * @returns undefined when a call was aborted, or the context is too small to measure anything
 */
export async function measureThreads(
  model: MeasuredModel,
  current: ThreadCounts,
  processors: number,
  meter: Meter,
): Promise<ThreadChoice | undefined> {
  const choice = await tryThreads(model, processors, meter);
  model.context.setThreads(choice === undefined ? current : { decode: choice.decode, batch: choice.batch });
  return choice;
}

async function tryThreads(
  model: MeasuredModel,
  processors: number,
  meter: Meter,
): Promise<ThreadChoice | undefined> {
  if (model.context.contextTokens < PROMPT_TOKENS + DECODE_TOKENS + 1) return undefined;
  const endMs = meter.monotonicMs() + MEASUREMENT_MS_MAX;
  const counts = threadCounts(processors);
  // The first call of a process reads the weights from the disk.
  model.context.trim(0, 0);
  if (!(await model.context.decode([firstRow(model.token)]))) return undefined;
  const results: Measurement[] = [];
  for (const count of counts) {
    const result = await measure(model, { decode: count, batch: count }, meter, endMs);
    if (result === undefined) return undefined;
    results.push(result);
    const best = Math.max(...results.map(({ decodeRate }) => decodeRate));
    // Too few threads for this model already: still fewer are not faster.
    const isHopeless = count < counts[0] && result.decodeRate < best / 2;
    if (isHopeless || meter.monotonicMs() > endMs) break;
  }
  const decode = fewestNearBest(results, ({ decodeRate }) => decodeRate);
  const batch = fewestNearBest(results, ({ promptRate }) => promptRate);
  return {
    decode: decode.threads,
    batch: batch.threads,
    tokensPerCpuSecond: decode.tokensPerCpuSecond,
  };
}

/** Half of them, which is good for most models; all of them; then fewer and fewer, as long as there is time. */
function threadCounts(processors: number): readonly [number, ...number[]] {
  const half = Math.max(1, processors >> 1);
  const fewer: number[] = [];
  for (let count = half >> 1; count >= 1; count >>= 1) fewer.push(count);
  return processors > half ? [half, processors, ...fewer] : [half];
}

interface Measurement {
  readonly threads: number;
  /** Tokens per second. */
  readonly decodeRate: number;
  readonly promptRate: number;
  readonly tokensPerCpuSecond: number;
}

async function measure(
  { context, token }: MeasuredModel,
  threads: ThreadCounts,
  meter: Meter,
  endMs: number,
): Promise<Measurement | undefined> {
  context.setThreads(threads);
  context.trim(0, 0);
  const row = (position: number): Row => ({ ...firstRow(token), position });
  const prompt = Array.from({ length: PROMPT_TOKENS }, (_, position) => ({
    ...row(position),
    wantsLogits: false,
  }));
  try {
    const begunMs = meter.monotonicMs();
    if (!(await context.decode(prompt))) return undefined;
    const readMs = meter.monotonicMs();
    const cpuSeconds = meter.cpuSeconds();
    let tokens = 0;
    let decodeMs = 0;
    const isEnough = (): boolean =>
      tokens >= DECODE_TOKENS_MIN && (decodeMs > DECODE_MS_MAX || meter.monotonicMs() > endMs);
    while (tokens < DECODE_TOKENS && !isEnough()) {
      if (!(await context.decode([row(PROMPT_TOKENS + tokens)]))) return undefined;
      tokens++;
      decodeMs = meter.monotonicMs() - readMs;
    }
    return {
      threads: threads.decode,
      promptRate: (PROMPT_TOKENS * 1000) / (readMs - begunMs),
      decodeRate: (tokens * 1000) / decodeMs,
      tokensPerCpuSecond: tokens / Math.max(0.001, meter.cpuSeconds() - cpuSeconds),
    };
  } finally {
    context.trim(0, 0);
  }
}

function firstRow(token: number): Row {
  return { token, position: 0, sequence: 0, wantsLogits: true };
}

function fewestNearBest(results: readonly Measurement[], rate: (result: Measurement) => number): Measurement {
  const rising = results.toSorted((left, right) => left.threads - right.threads);
  return rising.reduce((best, next) => (rate(next) >= rate(best) * GAIN_MIN ? next : best));
}

/** Tokens after which the speed is looked at. */
const WATCH_TOKENS = 64;
/** Longer contexts take more time for each token: only the beginning is compared. */
const WATCH_POSITIONS_MAX = 1024;
/** Below this share of what was measured, cores are taken by others, or free again. */
const LOSS_MAX = 0.6;
/** Measuring takes time from requests. */
const REMEASURE_MS_MIN = 60_000;

/** Notices that a model has become slow for the CPU time that it takes: threads that spin and wait for a core. */
export class SpeedWatch {
  readonly #meter: Meter;
  #expected: number;
  #tokens = 0;
  #cpuSeconds = 0;
  #lastCpuSeconds: number | undefined;
  #measuredMs: number;
  #isSlow = false;

  constructor(choice: ThreadChoice, meter: Meter) {
    this.#meter = meter;
    this.#expected = choice.tokensPerCpuSecond;
    this.#measuredMs = meter.monotonicMs();
  }

  /** One token of the only running answer was evaluated, at `position`. */
  onSoloToken(position: number): void {
    const now = this.#meter.cpuSeconds();
    const before = this.#lastCpuSeconds;
    this.#lastCpuSeconds = now;
    // The first token of an answer: what went before was reading.
    if (before === undefined || position > WATCH_POSITIONS_MAX) return;
    this.#tokens++;
    this.#cpuSeconds += now - before;
    if (this.#tokens < WATCH_TOKENS) return;
    this.#isSlow = this.#tokens / Math.max(0.001, this.#cpuSeconds) < this.#expected * LOSS_MAX;
    this.#tokens = 0;
    this.#cpuSeconds = 0;
  }

  /** The answer has ended, or others run beside it. */
  pause(): void {
    this.#lastCpuSeconds = undefined;
  }

  get shouldMeasure(): boolean {
    return this.#isSlow && this.#meter.monotonicMs() - this.#measuredMs >= REMEASURE_MS_MIN;
  }

  measured(choice: ThreadChoice): void {
    this.#expected = choice.tokensPerCpuSecond;
    this.#measuredMs = this.#meter.monotonicMs();
    this.#isSlow = false;
  }
}
