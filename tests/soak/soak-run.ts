import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Agent } from 'undici';
import { descendantsOf, isRunning, processStatus, waitUntil } from '../fixtures/processes.ts';
import { type SeededRandom, seededRandom } from '../fixtures/random.ts';
import { type RunningFreehold, servedUrl, startFreehold } from '../fixtures/running-freehold.ts';
import { ask, type Outcome, type Question } from './soak-client.ts';

export interface SoakOptions {
  /** With the models installed and trusted. */
  readonly home: string;
  /** Half of them, every few seconds another half, is asked; the others are idle, and unloaded if the server does that. */
  readonly models: readonly string[];
  readonly clients: number;
  readonly durationMs: number;
  /** Mean time between two kills of an engine; 60 s for each model stay below what the engine calls a crash loop. */
  readonly killEveryMs: number;
  /** Of an answer, at most. */
  readonly tokensMax: number;
  /** Longer than the queue of all clients takes on a slow machine. */
  readonly requestLimitMs: number;
  /** Further options of `freehold serve`. */
  readonly serveArguments?: readonly string[];
  readonly seed: number;
  readonly say?: (text: string) => void;
}

/** What a server holds while nothing runs. */
export interface Footprint {
  /** Objects that are in use, after all garbage was collected. */
  readonly liveMebibytes: number;
  readonly residentMebibytes: number;
  readonly descriptors: number;
  readonly children: number;
}

export interface SoakSummary {
  readonly seconds: number;
  readonly requests: number;
  readonly whole: number;
  readonly tokens: number;
  readonly left: number;
  /** How often each error was told. */
  readonly refused: Readonly<Record<string, number>>;
  readonly kills: number;
  /** Engine processes that were seen: one for each load. */
  readonly engines: number;
  /** After the first part, when everything is compiled and grown, and at the end. */
  readonly before: Footprint;
  readonly after: Footprint;
  /** Of the server while all clients are at it, from the end of the first part on. */
  readonly residentMebibytes: readonly number[];
  /** What must not be; empty when all is well. */
  readonly violations: readonly string[];
}

/** Of the whole time: until heaps have their size and every path is compiled. */
const WARM_UP_SHARE = 0.25;
/** A tenth of the answers is not waited for, as people close windows. */
const LEAVING_SHARE = 0.1;
const STREAMED_SHARE = 0.9;
const QUESTION_WORDS_MAX = 40;
/** A client that was told to wait does. */
const PAUSE_AFTER_ERROR_MS = 250;
/** It goes up and down by 5 MiB with what is in flight; a thousand requests that leave 10 KB each would pass it. */
const LIVE_SLACK_MEBIBYTES = 8;
/** V8 keeps pages for long: seen are 110 MiB more with nothing more in use. What grows beyond it is native memory. */
const RESIDENT_SLACK_MEBIBYTES = 192;
const DESCRIPTOR_SLACK = 2;
/** A soak in which nearly everything was refused has shown nothing. */
const WHOLE_SHARE_MIN = 0.5;
const VIOLATIONS_MAX = 20;
const SETTLE_LIMIT_MS = 30_000;
const LOOK_INTERVAL_MS = 200;
const FOCUS_MS = 4_000;
const MEMORY_SAMPLES = 12;
/** Looks, a second apart, that must agree: idle models have gone by then, and connections of clients that left. */
const SETTLED_LOOKS = 4;
const HEAP_PROBE = pathToFileURL(path.join(import.meta.dirname, 'heap-probe.js')).href;
const BYTES_PER_MEBIBYTE = 2 ** 20;
const WORDS = 'tell me of a river and the people who live beside it in summer and in winter'.split(' ');

/**
 * Starts `freehold serve` and lets clients stream from it while models come and go and engines are killed: every
 * request must end in a whole answer or a clear error, and afterwards the server must hold what it held before.
 */
export async function runSoak(
  context: Pick<TestContext, 'after'>,
  options: SoakOptions,
): Promise<SoakSummary> {
  const startedMs = performance.now();
  const running = startFreehold(
    context,
    ['serve', '--listen', '127.0.0.1:0', ...(options.serveArguments ?? [])],
    { home: options.home, env: { NODE_OPTIONS: `--import=${HEAP_PROBE}` } },
  );
  const soak = new Soak(options, running, await servedUrl(running));
  await soak.run(options.durationMs * WARM_UP_SHARE);
  const before = await soak.settle();
  await soak.run(options.durationMs * (1 - WARM_UP_SHARE));
  const after = await soak.settle();
  await soak.requireCleanStop();
  return soak.summary((performance.now() - startedMs) / 1000, before, after);
}

class Soak {
  readonly #options: SoakOptions;
  readonly #running: RunningFreehold;
  readonly #pid: number;
  readonly #url: string;
  readonly #random: SeededRandom;
  readonly #outcomes: Record<Outcome['kind'], number> = { whole: 0, refused: 0, left: 0, broken: 0 };
  readonly #refused: Record<string, number> = {};
  readonly #violations: string[] = [];
  readonly #engines = new Set<number>();
  #memorySamples: number[] = [];
  #focus: readonly string[] = [];
  #tokens = 0;
  #kills = 0;
  #isOver = true;

  constructor(options: SoakOptions, running: RunningFreehold, url: string) {
    this.#options = options;
    this.#running = running;
    this.#pid = running.pid;
    this.#url = url;
    this.#random = seededRandom(options.seed);
  }

  /** All clients, the killer, and who counts the engines, for so long; then until the last answer. */
  async run(durationMs: number): Promise<void> {
    this.#isOver = false;
    this.#focus = this.#options.models;
    this.#memorySamples = [];
    const dispatcher = new Agent();
    const end = sleep(durationMs).then(() => {
      this.#isOver = true;
    });
    const clients = Array.from({ length: this.#options.clients }, () => this.#client(dispatcher));
    await Promise.all([
      ...[end, ...clients, this.#kill(), this.#moveFocus()],
      ...[this.#watchEngines(), this.#sampleMemory(durationMs / MEMORY_SAMPLES)],
    ]);
    await dispatcher.close();
  }

  async #client(dispatcher: Agent): Promise<void> {
    while (!this.#isOver) {
      const outcome = await ask(this.#url, this.#question(), dispatcher, this.#options.requestLimitMs);
      this.#record(outcome);
      if (outcome.kind === 'refused' || outcome.kind === 'broken') await sleep(PAUSE_AFTER_ERROR_MS);
    }
  }

  #question(): Question {
    const random = this.#random;
    return {
      model: this.#pick(this.#focus),
      words: Array.from({ length: 1 + random.below(QUESTION_WORDS_MAX) }, () => this.#pick(WORDS)).join(' '),
      tokens: 1 + random.below(this.#options.tokensMax),
      isStreamed: this.#happens(STREAMED_SHARE),
      leaves: this.#happens(LEAVING_SHARE),
    };
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#random.below(items.length)] as T;
  }

  #happens(share: number): boolean {
    return this.#random.below(1000) < share * 1000;
  }

  #record(outcome: Outcome): void {
    this.#outcomes[outcome.kind]++;
    if (outcome.kind === 'whole') this.#tokens += outcome.tokens;
    if (outcome.kind === 'refused') this.#refused[outcome.code] = (this.#refused[outcome.code] ?? 0) + 1;
    if (outcome.kind === 'broken') this.#violate(outcome.reason);
  }

  async #kill(): Promise<void> {
    while (!this.#isOver) {
      await this.#pause(this.#random.below(2 * this.#options.killEveryMs));
      const engines = descendantsOf(this.#pid).filter(isRunning);
      if (this.#isOver || engines.length === 0) continue;
      const victim = this.#pick(engines);
      this.#options.say?.(`kill -9 of engine ${victim}, one of ${engines.length}`);
      try {
        process.kill(victim, 'SIGKILL');
        this.#kills++;
      } catch {
        // It was unloaded just now.
      }
    }
  }

  async #moveFocus(): Promise<void> {
    const { models } = this.#options;
    while (!this.#isOver) {
      const first = this.#random.below(models.length);
      this.#focus = [...models.slice(first), ...models.slice(0, first)].slice(
        0,
        Math.ceil(models.length / 2),
      );
      await this.#pause(FOCUS_MS);
    }
  }

  /** Not longer than the clients go on. */
  async #pause(durationMs: number): Promise<void> {
    const untilMs = performance.now() + durationMs;
    while (!this.#isOver && performance.now() < untilMs) await sleep(LOOK_INTERVAL_MS);
  }

  async #sampleMemory(everyMs: number): Promise<void> {
    while (!this.#isOver) {
      this.#memorySamples.push(this.#residentMebibytes());
      await this.#pause(everyMs);
    }
  }

  async #watchEngines(): Promise<void> {
    while (!this.#isOver) {
      for (const engine of descendantsOf(this.#pid)) this.#engines.add(engine);
      await sleep(LOOK_INTERVAL_MS);
    }
  }

  /** Asks every model once, so that the same ones were used last each time, and looks what the server holds then. */
  async settle(): Promise<Footprint> {
    for (const model of this.#options.models) await this.#askUntilWhole(model);
    let last = this.#holdings();
    let equalLooks = 0;
    await waitUntil(
      async () => {
        await sleep(1_000);
        const now = this.#holdings();
        const isEqual = now.descriptors === last.descriptors && now.children === last.children;
        equalLooks = isEqual ? equalLooks + 1 : 0;
        last = now;
        return equalLooks >= SETTLED_LOOKS;
      },
      SETTLE_LIMIT_MS,
      () => `the server does not come to rest: ${JSON.stringify(last)}`,
    );
    const liveMebibytes = await this.#liveMebibytes();
    const footprint = { liveMebibytes, residentMebibytes: this.#residentMebibytes(), ...last };
    this.#options.say?.(`at rest: ${JSON.stringify(footprint)}`);
    return footprint;
  }

  /** After kills a model may be paused for half a minute. */
  async #askUntilWhole(model: string): Promise<void> {
    const dispatcher = new Agent();
    const question = { model, words: 'hello', tokens: 2, isStreamed: true, leaves: false };
    let last: Outcome | undefined;
    await waitUntil(
      async () => {
        last = await ask(this.#url, question, dispatcher, this.#options.requestLimitMs);
        if (last.kind !== 'whole') await sleep(PAUSE_AFTER_ERROR_MS);
        return last.kind === 'whole';
      },
      2 * SETTLE_LIMIT_MS + this.#options.requestLimitMs,
      () => `${model} does not answer any more: ${JSON.stringify(last)}`,
    );
    await dispatcher.close();
  }

  #residentMebibytes(): number {
    return Math.round(Number.parseInt(processStatus(this.#pid, 'VmRSS') ?? '0', 10) / 1024);
  }

  /** Asks `heap-probe.js`. */
  async #liveMebibytes(): Promise<number> {
    const answers = () => [...this.#running.stderr().matchAll(/^live-bytes (\d+)$/gm)];
    const { length } = answers();
    process.kill(this.#pid, 'SIGUSR2');
    await waitUntil(() => answers().length > length, SETTLE_LIMIT_MS, 'the heap probe does not answer');
    return Math.round((10 * Number(answers().at(-1)?.[1])) / BYTES_PER_MEBIBYTE) / 10;
  }

  #holdings(): Pick<Footprint, 'descriptors' | 'children'> {
    return {
      descriptors: readdirSync(`/proc/${this.#pid}/fd`).length,
      children: descendantsOf(this.#pid).filter(isRunning).length,
    };
  }

  async requireCleanStop(): Promise<void> {
    const family = descendantsOf(this.#pid);
    const { code, signal } = await this.#running.stop();
    if (code !== 0)
      this.#violate(`the server ended with ${code ?? signal}: ${this.#running.stderr().slice(-500)}`);
    const left = family.filter(isRunning);
    if (left.length > 0) this.#violate(`${left.length} engines outlived the server`);
  }

  summary(seconds: number, before: Footprint, after: Footprint): SoakSummary {
    const { whole, left } = this.#outcomes;
    const requests = Object.values(this.#outcomes).reduce((sum, count) => sum + count, 0);
    if (after.liveMebibytes > before.liveMebibytes + LIVE_SLACK_MEBIBYTES)
      this.#violate(`live memory grew from ${before.liveMebibytes} to ${after.liveMebibytes} MiB`);
    if (after.residentMebibytes > before.residentMebibytes + RESIDENT_SLACK_MEBIBYTES)
      this.#violate(
        `resident memory grew from ${before.residentMebibytes} to ${after.residentMebibytes} MiB`,
      );
    if (after.descriptors > before.descriptors + DESCRIPTOR_SLACK)
      this.#violate(`descriptors grew from ${before.descriptors} to ${after.descriptors}`);
    if (after.children > before.children)
      this.#violate(`there were ${before.children} engines, now there are ${after.children}`);
    if (whole < (requests - left) * WHOLE_SHARE_MIN)
      this.#violate(`only ${whole} of ${requests - left} requests were answered`);
    return {
      seconds: Math.round(seconds),
      requests,
      whole,
      tokens: this.#tokens,
      left,
      refused: this.#refused,
      kills: this.#kills,
      engines: this.#engines.size,
      before,
      after,
      residentMebibytes: this.#memorySamples,
      violations: this.#violations,
    };
  }

  #violate(reason: string): void {
    this.#options.say?.(`VIOLATION: ${reason}`);
    if (this.#violations.length < VIOLATIONS_MAX) this.#violations.push(reason);
  }
}
