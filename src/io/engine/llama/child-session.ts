import { availableParallelism } from 'node:os';
import type { Duplex } from 'node:stream';
import { FreeholdError, toFreeholdError } from '../../../core/base/errors.ts';
import { ChatTemplate } from './chat-template.ts';
import { EmbeddingWorker } from './embedding-worker.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import { Generation } from './generation.ts';
import { readPrompt } from './generation-prompt.ts';
import { openLibrary } from './llama-library.ts';
import type { ThreadCounts } from './native-context.ts';
import { loadNativeModel, type NativeModel } from './native-model.ts';
import {
  CHILD_MESSAGE_CHARACTERS_MAX,
  type ChildErrorCode,
  type ChildMessage,
  childErrorCodes,
  type GenerateMessage,
  type LoadMessage,
  PARENT_FRAME_BYTES_MAX,
  type ParentMessage,
  parseParentMessage,
} from './protocol.ts';
import { Scheduler } from './scheduler.ts';
import { type Meter, measureThreads, SpeedWatch } from './thread-measurement.ts';

/** A small part of the silence for which the server waits. */
const ALIVE_INTERVAL_MS = 5000;

/** What a loaded model works with. */
interface Loaded {
  readonly model: NativeModel;
  readonly template: ChatTemplate | FreeholdError | undefined;
  readonly scheduler: Scheduler;
  readonly embedding: EmbeddingWorker;
  watch: SpeedWatch | undefined;
  /** As they are set. */
  threads: ThreadCounts;
}

const METER: Meter = {
  monotonicMs: () => performance.now(),
  cpuSeconds: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  },
};

/** The process that holds one model: takes messages and works on them, many at once. */
export class ChildSession {
  readonly #channel: Duplex;
  #loaded: Loaded | undefined;
  /** Requests that came while threads were measured. */
  #waiting: GenerateMessage[] = [];
  #isMeasuring = false;

  constructor(channel: Duplex) {
    this.#channel = channel;
  }

  /** Reads messages until the channel ends. */
  async serve(): Promise<void> {
    // Says that native code has not swallowed the event loop.
    setInterval(() => void this.#send([{ kind: 'alive' }]), ALIVE_INTERVAL_MS).unref();
    const reader = new FrameReader(PARENT_FRAME_BYTES_MAX);
    for await (const chunk of this.#channel) {
      for (const message of reader.push(chunk as Buffer)) this.#receive(parseParentMessage(message));
    }
  }

  #receive(message: ParentMessage): void {
    switch (message.kind) {
      case 'load':
        void this.#load(message);
        return;
      case 'generate':
        this.#generate(message);
        return;
      case 'embed':
        if (this.#loaded === undefined) void this.#fail(message.id, notLoaded());
        else this.#loaded.embedding.start(message);
        return;
      case 'cancel':
        this.#cancel(message.id);
        return;
      case 'close':
        process.exit(0);
    }
  }

  async #load(message: LoadMessage): Promise<void> {
    try {
      const model = loadNativeModel(openLibrary(message.library), message);
      const template = readTemplate(message.chatTemplate ?? model.chatTemplate, model);
      const loaded: Loaded = {
        model,
        template,
        scheduler: this.#scheduler(model),
        embedding: new EmbeddingWorker(model, {
          send: (answer) => this.#send([answer]),
          fail: (id, thrown) => this.#fail(id, thrown),
        }),
        watch: undefined,
        threads: message.threads,
      };
      this.#loaded = loaded;
      const { tokensPerCpuSecond } = message;
      if (tokensPerCpuSecond !== undefined) {
        loaded.watch = new SpeedWatch({ ...message.threads, tokensPerCpuSecond }, METER);
      }
      if (message.measuresThreads && message.purpose === 'generate') await this.#measure(loaded);
      const hasChatTemplate = template !== undefined;
      await this.#send([{ kind: 'loaded', model: { ...model.facts, hasChatTemplate } }]);
    } catch (thrown) {
      await this.#send([{ kind: 'load-failed', ...describeFailure(thrown) }]);
    }
  }

  #scheduler(model: NativeModel): Scheduler {
    return new Scheduler({
      context: model.context,
      vocabularyTokens: model.facts.vocabularyTokens,
      send: (messages) => this.#send(messages),
      fail: (id, thrown) => this.#fail(id, thrown),
      useAdapter: (adapter) =>
        model.context.setAdapter(adapter === undefined ? undefined : model.adapters[adapter]),
      monotonicMs: METER.monotonicMs,
      onSoloToken: (positions) => this.#loaded?.watch?.onSoloToken(positions),
      onOther: () => this.#loaded?.watch?.pause(),
      giveUp: (thrown) => {
        // The last words of the process stand in the error that its requests fail with.
        process.stderr.write(`${toFreeholdError(thrown).message}\n`, () => process.exit(1));
        throw thrown;
      },
      onIdle: () => {
        // What goes wrong here goes wrong with the next request as well, and is told then.
        if (this.#loaded?.watch?.shouldMeasure === true) this.#measure(this.#loaded).catch(() => {});
      },
    });
  }

  /** Finds the best numbers of threads and tells them. Requests that come meanwhile wait, for a moment. */
  async #measure(loaded: Loaded): Promise<void> {
    const { model, scheduler } = loaded;
    this.#isMeasuring = true;
    try {
      scheduler.forget();
      const choice = await measureThreads(
        { context: model.context, token: 0 },
        loaded.threads,
        availableParallelism(),
        METER,
      );
      if (choice === undefined) return;
      loaded.threads = { decode: choice.decode, batch: choice.batch };
      if (loaded.watch === undefined) loaded.watch = new SpeedWatch(choice, METER);
      else loaded.watch.measured(choice);
      await this.#send([{ kind: 'threads-measured', choice }]);
    } finally {
      loaded.model.context.resume();
      this.#isMeasuring = false;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const message of waiting) this.#generate(message);
    }
  }

  #generate(message: GenerateMessage): void {
    const loaded = this.#loaded;
    if (this.#isMeasuring) {
      // Requests go first: it is measured again when nobody waits.
      this.#waiting.push(message);
      loaded?.model.context.abort();
      return;
    }
    try {
      if (loaded === undefined) throw notLoaded();
      const { id } = message;
      const { model } = loaded;
      const prompt = readPrompt(
        model,
        message,
        () => requireTemplate(loaded.template),
        () => void this.#send([{ kind: 'rendered', id }]),
      );
      if (message.adapter !== undefined && message.adapter >= model.adapters.length) {
        throw new FreeholdError('REQUEST_INVALID', `there is no adapter ${message.adapter}`);
      }
      const constraint = message.grammar === undefined ? undefined : model.constraint(message.grammar);
      void this.#send([{ kind: 'started', id, promptTokens: prompt.length }]);
      loaded.scheduler.start(new Generation(model, message, prompt, constraint));
    } catch (thrown) {
      void this.#fail(message.id, thrown);
    }
  }

  #cancel(id: number): void {
    const isKnown =
      this.#loaded?.scheduler.cancel(id) === true || this.#loaded?.embedding.cancel(id) === true;
    const index = this.#waiting.findIndex((message) => message.id === id);
    if (isKnown || index < 0) return;
    this.#waiting.splice(index, 1);
    void this.#fail(id, new FreeholdError('CANCELLED', 'cancelled'));
  }

  async #fail(id: number, thrown: unknown): Promise<void> {
    await this.#send([{ kind: 'failed', id, ...describeFailure(thrown) }]);
  }

  /** In one write: a call of the system for each token of each answer would cost more than the rest of it. */
  async #send(messages: readonly ChildMessage[]): Promise<void> {
    if (this.#channel.write(Buffer.concat(messages.map(encodeFrame)))) return;
    // Waits while the server reads slower than the model writes.
    await new Promise<void>((resolve) => this.#channel.once('drain', resolve));
  }
}

/** A template that cannot be parsed fails the chats, not the model: plain completions need none. */
function readTemplate(
  source: string | undefined,
  model: NativeModel,
): ChatTemplate | FreeholdError | undefined {
  if (source === undefined) return undefined;
  try {
    return new ChatTemplate(source, model.vocabulary);
  } catch (thrown) {
    return toFreeholdError(thrown);
  }
}

function requireTemplate(template: ChatTemplate | FreeholdError | undefined): ChatTemplate {
  if (template instanceof FreeholdError) throw template;
  if (template !== undefined) return template;
  throw new FreeholdError('NOT_SUPPORTED', 'the model has no chat template, so it cannot take messages', {
    hint: 'use /v1/completions, or give the package a chatTemplate',
  });
}

function notLoaded(): FreeholdError {
  return new FreeholdError('INTERNAL', 'no model is loaded');
}

function describeFailure(thrown: unknown): {
  code: ChildErrorCode;
  message: string;
  detail?: Record<string, string | number | boolean | null>;
} {
  const error = toFreeholdError(thrown);
  const code = childErrorCodes.find((known) => known === error.code) ?? 'INTERNAL';
  return {
    code,
    message: error.message.slice(0, CHILD_MESSAGE_CHARACTERS_MAX),
    ...(Object.keys(error.detail).length === 0 ? {} : { detail: error.detail }),
  };
}
