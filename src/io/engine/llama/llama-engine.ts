import { availableParallelism } from 'node:os';
import type { Clock } from '../../../core/base/clock.ts';
import type { Engine, LoadRequest } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import type { Log } from '../../../core/base/log.ts';
import { STOP_STRING_CHARACTERS_MAX } from '../../../core/base/request-limits.ts';
import type { ConnectionLimits } from './child-connection.ts';
import { CrashGuard } from './crash-guard.ts';
import { locateLibrary } from './library-folder.ts';
import { LlamaModel } from './llama-model.ts';
import { startModelProcess } from './model-process.ts';
import { CONTEXT_TOKENS_MAX } from './protocol.ts';
import { resolveSampling } from './sampling.ts';

export interface LlamaEngineOptions {
  readonly log: Log;
  /** Times the pauses after crashes; absent: the machine's. */
  readonly clock?: Pick<Clock, 'monotonicMs'>;
  /** For tests that do not want to wait. */
  readonly limits?: ConnectionLimits;
}

/** llama.cpp, one process per loaded model. Nothing is started before the first `load`. */
export function createLlamaEngine(options: LlamaEngineOptions): Engine {
  const clock = options.clock ?? { monotonicMs: () => performance.now() };
  return {
    load: async (request, signal) => {
      requireLoadRequest(request);
      const order = {
        request,
        library: locateLibrary(),
        threads: request.threads ?? defaultThreads(),
        ...(options.limits === undefined ? {} : { limits: options.limits }),
      };
      const begunMs = clock.monotonicMs();
      const process = await startModelProcess(order, signal);
      const model = new LlamaModel(process, {
        name: request.name,
        log: options.log,
        guard: new CrashGuard(request.name, clock),
        defaults: request.defaults,
        restart: () => startModelProcess(order),
      });
      options.log({
        level: 'info',
        event: 'engine-started',
        fields: {
          model: request.name,
          milliseconds: Math.round(clock.monotonicMs() - begunMs),
          threads: order.threads,
          contextTokens: model.info.contextTokens,
          isolation: model.info.isolation,
        },
      });
      return model;
    },
  };
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
  const { threads, contextTokens, defaults } = request;
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
