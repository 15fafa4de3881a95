import { randomInt } from 'node:crypto';
import { unlessAborted } from '../../../core/base/abort.ts';
import type {
  EmbedRequest,
  EmbedResult,
  GenerateEvent,
  GenerateRequest,
  LoadedModel,
  LoadRequest,
  ModelInfo,
} from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import type { Log } from '../../../core/base/log.ts';
import type { RunningRequest } from './child-connection.ts';
import { EmbeddingRequest, GenerationRequest } from './child-request.ts';
import type { CrashGuard } from './crash-guard.ts';
import { generateMessage, mustCall, requireEmbedRequest } from './generate-message.ts';
import { GrammarCache } from './grammar-cache.ts';
import type { ModelProcess } from './model-process.ts';
import { readToolAnswer } from './tool-answer.ts';
import { cancelled, WaitQueue } from './wait-queue.ts';

/** Requests that wait for one model; each may take a minute, and clients give up long before the last. */
export const WAITING_REQUESTS_MAX = 64;

export interface LlamaModelOptions {
  readonly name: string;
  /** Names of the adapters, in the order of the load request. */
  readonly adapters: readonly string[];
  readonly log: Log;
  /** How long a request may wait for its turn. */
  readonly queueTimeoutMs: number;
  readonly guard: CrashGuard;
  /** The package's own defaults. */
  readonly defaults: LoadRequest['defaults'];
  /** Opens and verifies the weights again and starts a new process. */
  readonly restart: () => Promise<ModelProcess>;
}

/** A model in a process of its own, which is replaced when it dies. */
export class LlamaModel implements LoadedModel {
  readonly info: ModelInfo;
  readonly #options: LlamaModelOptions;
  readonly #queue: WaitQueue;
  readonly #grammars = new GrammarCache();
  #process: ModelProcess | undefined;
  #starting: Promise<ModelProcess> | undefined;
  #closing: Promise<void> | undefined;

  constructor(process: ModelProcess, options: LlamaModelOptions) {
    this.#options = options;
    const { description, facts, isolation } = process;
    this.#queue = new WaitQueue(options.name, {
      slots: facts.parallelRequests,
      waitingMax: WAITING_REQUESTS_MAX,
      waitMsMax: options.queueTimeoutMs,
    });
    this.info = {
      architecture: description.architecture,
      parameterCount: description.parameterCount,
      contextTokens: facts.contextTokens,
      vocabularyTokens: facts.vocabularyTokens,
      embeddingLength: facts.embeddingLength,
      hasChatTemplate: facts.hasChatTemplate,
      purpose: description.purpose,
      isolation,
      parallelRequests: facts.parallelRequests,
      adapters: options.adapters,
    };
    this.#adopt(process);
  }

  /** Of the process that works now; undefined while there is none. For tests and diagnosis. */
  get processId(): number | undefined {
    return this.#process?.pid;
  }

  async *generate(
    request: GenerateRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<GenerateEvent, void, undefined> {
    this.#requirePurpose('generate');
    const message = generateMessage(request, {
      defaults: this.#options.defaults,
      seed: randomInt(2 ** 32),
      contextTokens: this.info.contextTokens,
      adapters: this.info.adapters,
      grammars: this.#grammars,
    });
    const generation = new GenerationRequest(this.info);
    const running = await this.#run(
      (process) => process.connection.start(generation, (id) => ({ ...message, id })),
      signal,
      request.requester,
    );
    const stopListening = onAbort(signal, () => running.cancel(cancelled(signal)));
    try {
      const events = generation.events.read();
      yield* mustCall(request) ? readToolAnswer(events) : events;
    } finally {
      stopListening();
      // The reader may have left before the end.
      running.cancel(cancelled(signal));
    }
  }

  async embed(request: EmbedRequest, signal?: AbortSignal): Promise<EmbedResult> {
    this.#requirePurpose('embed');
    const inputs = requireEmbedRequest(request, this.info);
    if (inputs.length === 0) return { vectors: [], promptTokens: 0 };
    const embedding = new EmbeddingRequest(inputs.length, this.info.embeddingLength);
    const running = await this.#run(
      (process) => process.connection.start(embedding, (id) => ({ kind: 'embed', id, inputs })),
      signal,
    );
    const stopListening = onAbort(signal, () => running.cancel(cancelled(signal)));
    try {
      return await embedding.result;
    } finally {
      stopListening();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#queue.close(new FreeholdError('CANCELLED', `${this.#options.name} was closed`));
    // One may be dying while the next is being started.
    await Promise.all([this.#process?.close(), this.#starting?.catch(() => undefined)]);
  }

  /** Waits for a slot, starts the request, and gives the slot back when the child is done with it. */
  async #run(
    start: (process: ModelProcess) => RunningRequest,
    signal: AbortSignal | undefined,
    requester?: string,
  ): Promise<RunningRequest> {
    const leave = await this.#queue.enter(signal, requester);
    try {
      // The process goes on starting for whoever comes next.
      const process = await unlessAborted(this.#liveProcess(), signal, cancelled);
      const running = start(process);
      void running.settled.then(leave);
      return running;
    } catch (error) {
      leave();
      throw error;
    }
  }

  #liveProcess(): Promise<ModelProcess> {
    const current = this.#process;
    if (current?.connection.isOpen === true) return Promise.resolve(current);
    this.#starting ??= this.#restart(current).finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  /** @param dying still holds its memory for a moment */
  async #restart(dying: ModelProcess | undefined): Promise<ModelProcess> {
    await dying?.gone;
    if (this.#closing !== undefined) throw new FreeholdError('CANCELLED', `${this.#options.name} was closed`);
    const { guard, log, name, restart } = this.#options;
    guard.requireStartAllowed();
    log({ level: 'info', event: 'engine-restarted', fields: { model: name } });
    let process: ModelProcess;
    try {
      process = await restart();
    } catch (error) {
      guard.recordDeath();
      throw error;
    }
    if (this.#closing !== undefined) {
      await process.close();
      throw new FreeholdError('CANCELLED', `${name} was closed`);
    }
    this.#adopt(process);
    return process;
  }

  #adopt(process: ModelProcess): void {
    this.#process = process;
    void process.gone.then((reason) => {
      if (this.#process === process) this.#process = undefined;
      if (reason === undefined) return;
      // A template that never returns is ended by us; that says nothing about the process.
      if (reason.code !== 'TEMPLATE_FAILED') this.#options.guard.recordDeath();
      // Not the message: it quotes the output of a process that has seen prompts.
      const { exitCode = null, signal = null } = reason.detail;
      const fields = { model: this.#options.name, code: reason.code, exitCode, signal };
      this.#options.log({ level: 'error', event: 'engine-lost', fields });
    });
  }

  #requirePurpose(wanted: ModelInfo['purpose']): void {
    const { purpose, architecture } = this.info;
    if (purpose === wanted) return;
    throw new FreeholdError(
      'NOT_SUPPORTED',
      purpose === 'embed'
        ? `${this.#options.name} is an embedding model (${architecture}): it cannot generate text`
        : `${this.#options.name} is a generating model (${architecture}): this version embeds with embedding models only`,
    );
  }
}

function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal === undefined) return () => {};
  if (signal.aborted) act();
  signal.addEventListener('abort', act, { once: true });
  return () => signal.removeEventListener('abort', act);
}
