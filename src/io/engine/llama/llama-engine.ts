import { availableParallelism } from 'node:os';
import type { Clock } from '../../../core/base/clock.ts';
import { Digest } from '../../../core/base/digest.ts';
import type { Engine, LoadRequest } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import type { Log } from '../../../core/base/log.ts';
import { PARALLEL_REQUESTS_MAX, STOP_STRING_CHARACTERS_MAX } from '../../../core/base/request-limits.ts';
import type { ThreadChoice, ThreadChoices } from '../../../core/base/thread-choices.ts';
import type { ConnectionLimits } from './child-connection.ts';
import { CrashGuard } from './crash-guard.ts';
import { locateLibrary } from './library-folder.ts';
import { LLAMA_VERSION } from './llama-layouts.ts';
import { LlamaModel } from './llama-model.ts';
import { type ProcessOrder, startModelProcess, type ThreadPlan } from './model-process.ts';
import { CONTEXT_TOKENS_MAX } from './protocol.ts';
import { resolveSampling } from './sampling.ts';

export interface LlamaEngineOptions {
  readonly log: Log;
  /** Times the pauses after crashes; absent: the machine's. */
  readonly clock?: Pick<Clock, 'monotonicMs'>;
  /** For tests that do not want to wait. */
  readonly limits?: ConnectionLimits;
  /** Remembers which numbers of threads are best; absent: half of the processors, and nothing is measured. */
  readonly threadChoices?: ThreadChoices;
  /** How long a request may wait for its turn before it fails with BUSY. */
  readonly queueTimeoutMs?: number;
}

/** Clients give up after ten minutes at the latest. */
const QUEUE_TIMEOUT_MS_DEFAULT = 600_000;

/** llama.cpp, one process per loaded model. Nothing is started before the first `load`. */
export function createLlamaEngine(options: LlamaEngineOptions): Engine {
  const clock = options.clock ?? { monotonicMs: () => performance.now() };
  return {
    load: async (request, signal) => {
      requireLoadRequest(request);
      const begunMs = clock.monotonicMs();
      const threads = await planThreads(request, options.threadChoices);
      const limits = options.limits === undefined ? {} : { limits: options.limits };
      const order: ProcessOrder = { request, library: locateLibrary(), threads, ...limits };
      const memory = new ThreadMemory(order, options);
      const process = await startModelProcess(order, memory.remember, signal);
      const model = new LlamaModel(process, {
        name: request.name,
        adapters: (request.adapters ?? []).map(({ name }) => name),
        log: options.log,
        guard: new CrashGuard(request.name, clock),
        defaults: request.defaults,
        queueTimeoutMs: options.queueTimeoutMs ?? QUEUE_TIMEOUT_MS_DEFAULT,
        restart: () => startModelProcess(memory.order, memory.remember),
      });
      options.log({
        level: 'info',
        event: 'engine-started',
        fields: {
          model: request.name,
          milliseconds: Math.round(clock.monotonicMs() - begunMs),
          ...threadFields(memory.order.threads),
          contextTokens: model.info.contextTokens,
          parallelRequests: model.info.parallelRequests,
          isolation: model.info.isolation,
        },
      });
      return model;
    },
  };
}

/** What is measured while the model works, for its next process and for the next load. */
class ThreadMemory {
  #order: ProcessOrder;
  readonly #options: LlamaEngineOptions;

  constructor(order: ProcessOrder, options: LlamaEngineOptions) {
    this.#order = order;
    this.#options = options;
  }

  get order(): ProcessOrder {
    return this.#order;
  }

  readonly remember = (choice: ThreadChoice): void => {
    const { request } = this.#order;
    this.#order = { ...this.#order, threads: { kind: 'chosen', choice } };
    const { log, threadChoices } = this.#options;
    log({
      level: 'info',
      event: 'threads-measured',
      fields: { model: request.name, ...threadFields(this.#order.threads) },
    });
    const key = threadKey(request);
    if (key !== undefined) void threadChoices?.write(key, choice);
  };
}

async function planThreads(request: LoadRequest, choices: ThreadChoices | undefined): Promise<ThreadPlan> {
  if (request.threads !== undefined) return { kind: 'fixed', count: request.threads };
  const count = defaultThreads();
  const key = threadKey(request);
  if (choices === undefined || key === undefined) return { kind: 'fixed', count };
  const choice = await choices.read(key);
  return choice === undefined ? { kind: 'measured', count } : { kind: 'chosen', choice };
}

/** Of the same weights under the same library the same number is best. */
function threadKey({ weights }: LoadRequest): string | undefined {
  const digests = weights.map(({ digest }) => digest);
  if (digests.some((digest) => digest === undefined)) return undefined;
  return `${LLAMA_VERSION} ${Digest.of(Buffer.from(digests.join(' ')))}`;
}

function threadFields(plan: ThreadPlan): { threads: number; batchThreads: number } {
  if (plan.kind !== 'chosen') return { threads: plan.count, batchThreads: plan.count };
  return { threads: plan.choice.decode, batchThreads: plan.choice.batch };
}

/**
 * Half of the processors that this process may use, at least one. ggml's threads wait for each other by spinning: with
 * more of them than idle cores, decoding falls from 107 to 2–9 tokens/s, and small models are slower with two threads
 * than with one even on idle cores.
 */
export function defaultThreads(processors: number = availableParallelism()): number {
  return Math.max(1, Math.floor(processors / 2));
}

/** @throws REQUEST_INVALID */
function requireLoadRequest(request: LoadRequest): void {
  const { threads, contextTokens, defaults, parallelRequests } = request;
  if (
    parallelRequests !== undefined &&
    !(
      Number.isInteger(parallelRequests) &&
      parallelRequests >= 1 &&
      parallelRequests <= PARALLEL_REQUESTS_MAX
    )
  ) {
    throw new FreeholdError(
      'REQUEST_INVALID',
      `parallelRequests is ${parallelRequests}, it must be from 1 to ${PARALLEL_REQUESTS_MAX}`,
    );
  }
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 1024)) {
    throw new FreeholdError('REQUEST_INVALID', `threads is ${threads}, it must be from 1 to 1024`);
  }
  if (
    contextTokens !== undefined &&
    !(Number.isInteger(contextTokens) && contextTokens >= 1 && contextTokens <= CONTEXT_TOKENS_MAX)
  ) {
    throw new FreeholdError(
      'REQUEST_INVALID',
      `contextTokens is ${contextTokens}, it must be from 1 to ${CONTEXT_TOKENS_MAX}`,
    );
  }
  // Wrong defaults would fail every request; better that the load says so.
  resolveSampling({}, defaults);
  const stop = defaults?.stop?.find((text) => text === '' || text.length > STOP_STRING_CHARACTERS_MAX);
  if (stop !== undefined)
    throw new FreeholdError('REQUEST_INVALID', `a default stop string has ${stop.length} characters`);
}
