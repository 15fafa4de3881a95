import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoadRequest } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import type { ThreadChoice } from '../../../core/base/thread-choices.ts';
import type { GgufDescription } from '../../../core/format/gguf/gguf-description.ts';
import { PARALLEL_REQUESTS_DEFAULT } from '../../../core/format/gguf/memory-estimate.ts';
import { describeIsolation, type LaunchedChild, launchChild } from '../sandbox/launch.ts';
import { FIRST_INHERITED_FD } from '../sandbox/launch-order.ts';
import { ChildConnection, type ConnectionLimits } from './child-connection.ts';
import type { LibraryFiles } from './library-folder.ts';
import type { LoadMessage, ModelFacts } from './protocol.ts';
import { cancelled } from './wait-queue.ts';
import { type OpenWeights, openWeights } from './weights-files.ts';

/** Mapping is instant; a cold disk reads a 20 GB file at 100 MB/s in 200 s. */
export const LOAD_TIMEOUT_MS = 600_000;
/** A chat template works for milliseconds; a busy machine gets a thousand times that. */
export const TEMPLATE_TIMEOUT_MS = 10_000;
/** A cancellation takes effect within 200 ms; after this the process is stuck. */
export const CANCEL_TIMEOUT_MS = 10_000;
/** The child says every 5 s that it is alive; a slow machine may hold one call of a large model for that long. */
export const SILENCE_TIMEOUT_MS = 60_000;
/** Politeness before SIGKILL: nothing is lost either way, the child keeps nothing. */
export const CLOSE_GRACE_MS = 500;
/** Of the child's output, as much as helps in an error message. */
const TAIL_LINES_MAX = 8;
const TAIL_CHARACTERS_MAX = 1500;

const CHILD_SCRIPT = path.join(
  import.meta.dirname,
  `llama-child${path.extname(fileURLToPath(import.meta.url))}`,
);

export interface ProcessOrder {
  readonly request: LoadRequest;
  readonly library: LibraryFiles;
  readonly threads: ThreadPlan;
  readonly limits?: ConnectionLimits;
}

/** What the process is told about threads. */
export type ThreadPlan =
  /** The caller's own number, for everything. */
  | { readonly kind: 'fixed'; readonly count: number }
  | { readonly kind: 'chosen'; readonly choice: ThreadChoice }
  /** Measure while loading. @param count for models that are not measured */
  | { readonly kind: 'measured'; readonly count: number };

/** A live process with a loaded model. */
export interface ModelProcess {
  readonly pid: number | undefined;
  readonly connection: ChildConnection;
  readonly description: GgufDescription;
  readonly facts: ModelFacts;
  readonly isolation: string;
  /** Resolves once it is gone: with the reason when that was not `close`. */
  readonly gone: Promise<FreeholdError | undefined>;
  close(): Promise<void>;
}

const LIMITS: ConnectionLimits = {
  templateTimeoutMs: TEMPLATE_TIMEOUT_MS,
  cancelTimeoutMs: CANCEL_TIMEOUT_MS,
  silenceTimeoutMs: SILENCE_TIMEOUT_MS,
};

/**
 * Opens and verifies the weights, starts a child, and waits until it has them.
 * @param onThreads called with each measurement: while loading, and again when the machine's load has changed
 * @throws what `Engine.load` throws
 */
export async function startModelProcess(
  order: ProcessOrder,
  onThreads: (choice: ThreadChoice) => void,
  signal?: AbortSignal,
): Promise<ModelProcess> {
  const { request } = order;
  const weights = await openWeights(request, signal);
  try {
    requireServable(request.name, weights.description);
    const child = await launchChild(
      {
        script: CHILD_SCRIPT,
        inheritFds: [...weights.descriptors, ...weights.adapterDescriptors],
        readPaths: [order.library.folder, ...reopenedShards(weights.descriptors)],
        // A failed assertion of ggml would otherwise start a debugger to print a backtrace.
        env: { GGML_NO_BACKTRACE: '1' },
        isRequired: request.requireSandbox === true,
        title: `freehold: ${request.name}`,
      },
      signal,
    );
    const process = new RunningProcess(child, order, weights.description, onThreads);
    try {
      await process.load(order, weights, signal);
    } catch (error) {
      await process.close();
      throw error;
    }
    return process;
  } finally {
    await weights.close();
  }
}

/** llama.cpp takes shards by path only: the sandbox must let the child open what it holds already. */
function reopenedShards(descriptors: readonly number[]): readonly string[] {
  return descriptors.length === 1 ? [] : descriptors.map((descriptor) => `/proc/self/fd/${descriptor}`);
}

function requireServable(name: string, description: GgufDescription): void {
  if (description.pooling === 'rank') {
    throw new FreeholdError(
      'NOT_SUPPORTED',
      `${name} ranks pairs of texts; this version generates and embeds only`,
    );
  }
}

class RunningProcess implements ModelProcess {
  readonly connection: ChildConnection;
  readonly description: GgufDescription;
  readonly isolation: string;
  readonly gone: Promise<FreeholdError | undefined>;
  readonly #name: string;
  readonly #child: LaunchedChild;
  #facts: ModelFacts | undefined;
  #isClosing = false;
  #distrustedFor: FreeholdError | undefined;

  constructor(
    child: LaunchedChild,
    order: ProcessOrder,
    description: GgufDescription,
    onThreads: (choice: ThreadChoice) => void,
  ) {
    this.#child = child;
    this.#name = order.request.name;
    this.description = description;
    this.isolation = describeIsolation(child.isolation);
    this.connection = new ChildConnection(
      child.channel,
      { distrust: (error) => this.#distrust(error), threadsMeasured: onThreads },
      order.limits ?? LIMITS,
    );
    this.gone = new Promise((resolve) => {
      const onExit = (code: number | null, signal: NodeJS.Signals | null): void => {
        const reason = this.#isClosing ? undefined : (this.#distrustedFor ?? this.#exitError(code, signal));
        this.connection.end(reason ?? new FreeholdError('CANCELLED', `${this.#name} was closed`));
        resolve(reason);
      };
      const { exitCode, signalCode } = child.process;
      if (exitCode !== null || signalCode !== null) onExit(exitCode, signalCode);
      // `close` comes after all output was read, which the message quotes.
      else child.process.once('close', onExit);
    });
  }

  get pid(): number | undefined {
    return this.#child.process.pid;
  }

  get facts(): ModelFacts {
    if (this.#facts === undefined) throw new FreeholdError('INTERNAL', `${this.#name} is not loaded`);
    return this.#facts;
  }

  async load(order: ProcessOrder, weights: OpenWeights, signal: AbortSignal | undefined): Promise<void> {
    const { request } = order;
    const inherited = [...weights.descriptors, ...weights.adapterDescriptors].map(
      (_, index) => FIRST_INHERITED_FD + index,
    );
    this.connection.send({
      kind: 'load',
      library: order.library,
      weights: inherited.slice(0, weights.descriptors.length),
      adapters: inherited.slice(weights.descriptors.length),
      ...(request.chatTemplate === undefined ? {} : { chatTemplate: request.chatTemplate }),
      purpose: weights.description.purpose,
      ...(request.contextTokens === undefined ? {} : { contextTokens: request.contextTokens }),
      parallelRequests: request.parallelRequests ?? PARALLEL_REQUESTS_DEFAULT,
      ...encodeThreads(order.threads),
    });
    this.#facts = await this.#withinLimits(this.connection.loaded, signal);
    // Written to between hashing and mapping, or by a process that kept it open: what is mapped is not what was signed.
    await weights.requireUnchanged();
  }

  async close(): Promise<void> {
    if (!this.#isClosing) {
      this.#isClosing = true;
      this.connection.send({ kind: 'close' });
      this.connection.end(new FreeholdError('CANCELLED', `${this.#name} was closed`));
    }
    const timer = setTimeout(() => this.#child.process.kill('SIGKILL'), CLOSE_GRACE_MS);
    await this.gone;
    clearTimeout(timer);
  }

  async #withinLimits<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const { promise: given, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(cancelled(signal));
    const timer = setTimeout(
      () =>
        reject(new FreeholdError('TIMEOUT', `${this.#name} did not load within ${LOAD_TIMEOUT_MS / 1000} s`)),
      LOAD_TIMEOUT_MS,
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    try {
      return await Promise.race([promise, given]);
    } catch (error) {
      throw this.#loadError(error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /**
   * A process that dies while it loads is no lost request: the model cannot be used. Killed from outside it may come to life
   * at the next try; whether it fits was estimated before.
   */
  #loadError(error: unknown): unknown {
    if (!(error instanceof FreeholdError) || error.code !== 'ENGINE_LOST') return error;
    if (error.detail.signal === 'SIGKILL') return error;
    return new FreeholdError('ENGINE_FAILED', `${this.#name} could not be loaded: ${error.message}`, {
      detail: error.detail,
      cause: error,
    });
  }

  #distrust(error: FreeholdError): void {
    this.#distrustedFor ??= error;
    this.connection.end(error);
    this.#child.process.kill('SIGKILL');
  }

  #exitError(code: number | null, signal: NodeJS.Signals | null): FreeholdError {
    const tail = lastLines(this.#child.stderrTail());
    const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
    const guess = signal === 'SIGKILL' ? ' (by hand, or by the kernel for want of memory)' : '';
    return new FreeholdError(
      'ENGINE_LOST',
      `the engine process of ${this.#name} ${how}${guess}${tail === '' ? '' : `: ${tail.split('\n').at(-1)}`}`,
      { detail: { exitCode: code, signal, output: tail } },
    );
  }
}

function encodeThreads(
  plan: ThreadPlan,
): Pick<LoadMessage, 'threads' | 'measuresThreads' | 'tokensPerCpuSecond'> {
  if (plan.kind === 'chosen') {
    const { decode, batch, tokensPerCpuSecond } = plan.choice;
    return { threads: { decode, batch }, tokensPerCpuSecond, measuresThreads: false };
  }
  return { threads: { decode: plan.count, batch: plan.count }, measuresThreads: plan.kind === 'measured' };
}

function lastLines(output: string): string {
  return output.trim().split('\n').slice(-TAIL_LINES_MAX).join('\n').slice(-TAIL_CHARACTERS_MAX);
}
