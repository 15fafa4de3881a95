import type { Duplex } from 'node:stream';
import { FreeholdError, toFreeholdError } from '../../../core/base/errors.ts';
import { ChatTemplate } from './chat-template.ts';
import { runEmbedding } from './embedding.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import { runGeneration } from './generation.ts';
import { openLibrary } from './llama-library.ts';
import { loadNativeModel, type NativeModel } from './native-model.ts';
import { PromptMemory } from './prompt-memory.ts';
import {
  CHILD_MESSAGE_CHARACTERS_MAX,
  type ChildErrorCode,
  type ChildMessage,
  childErrorCodes,
  type EmbedMessage,
  type GenerateMessage,
  type LoadMessage,
  PARENT_FRAME_BYTES_MAX,
  type ParentMessage,
  parseParentMessage,
} from './protocol.ts';

type WorkMessage = GenerateMessage | EmbedMessage;

/** The process that holds one model: takes messages, works on one request after the other. */
export class ChildSession {
  readonly #channel: Duplex;
  #model: NativeModel | undefined;
  #memory: PromptMemory | undefined;
  #template: ChatTemplate | FreeholdError | undefined;
  readonly #pending: WorkMessage[] = [];
  #runningId: number | undefined;

  constructor(channel: Duplex) {
    this.#channel = channel;
  }

  /** Reads messages until the channel ends. */
  async serve(): Promise<void> {
    const reader = new FrameReader(PARENT_FRAME_BYTES_MAX);
    for await (const chunk of this.#channel) {
      for (const message of reader.push(chunk as Buffer)) this.#receive(parseParentMessage(message));
    }
  }

  #receive(message: ParentMessage): void {
    switch (message.kind) {
      case 'load':
        this.#load(message);
        return;
      case 'generate':
      case 'embed':
        this.#pending.push(message);
        if (this.#runningId === undefined) void this.#work();
        return;
      case 'cancel':
        this.#cancel(message.id);
        return;
      case 'close':
        process.exit(0);
    }
  }

  #load(message: LoadMessage): void {
    try {
      const model = loadNativeModel(openLibrary(message.library), message);
      this.#model = model;
      this.#memory = new PromptMemory(model.context);
      this.#template = readTemplate(message.chatTemplate ?? model.chatTemplate, model);
      const hasChatTemplate = this.#template !== undefined;
      void this.#send({ kind: 'loaded', model: { ...model.facts, hasChatTemplate } });
    } catch (thrown) {
      void this.#send({ kind: 'load-failed', ...describeFailure(thrown) });
    }
  }

  #cancel(id: number): void {
    if (this.#runningId === id) {
      this.#model?.context.abort();
      return;
    }
    const index = this.#pending.findIndex((message) => message.id === id);
    if (index < 0) return;
    this.#pending.splice(index, 1);
    void this.#send(cancelled(id));
  }

  async #work(): Promise<void> {
    for (let message = this.#pending.shift(); message !== undefined; message = this.#pending.shift()) {
      this.#runningId = message.id;
      this.#model?.context.resume();
      try {
        const isDone = await this.#run(message);
        if (!isDone) await this.#send(cancelled(message.id));
      } catch (thrown) {
        await this.#send({ kind: 'failed', id: message.id, ...describeFailure(thrown) });
      }
      this.#runningId = undefined;
    }
  }

  async #run(message: WorkMessage): Promise<boolean> {
    const model = this.#model;
    const memory = this.#memory;
    if (model === undefined || memory === undefined)
      throw new FreeholdError('INTERNAL', 'no model is loaded');
    const send = (answer: ChildMessage): Promise<void> => this.#send(answer);
    if (message.kind === 'embed') return runEmbedding(model, message, send);
    const template = (): ChatTemplate => this.#requireTemplate();
    return runGeneration({ model, memory, template, send, monotonicMs: () => performance.now() }, message);
  }

  #requireTemplate(): ChatTemplate {
    if (this.#template instanceof FreeholdError) throw this.#template;
    if (this.#template === undefined) {
      throw new FreeholdError('NOT_SUPPORTED', 'the model has no chat template, so it cannot take messages', {
        hint: 'use /v1/completions, or give the package a chatTemplate',
      });
    }
    return this.#template;
  }

  /** Waits while the server reads slower than the model writes. */
  async #send(message: ChildMessage): Promise<void> {
    if (this.#channel.write(encodeFrame(message))) return;
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

function cancelled(id: number): ChildMessage {
  return { kind: 'failed', id, code: 'CANCELLED', message: 'cancelled' };
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
