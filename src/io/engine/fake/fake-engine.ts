import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  EmbedRequest,
  EmbedResult,
  Engine,
  GeneratedToken,
  GenerateEvent,
  GenerateRequest,
  LoadedModel,
  LoadRequest,
  ModelInfo,
  Prompt,
} from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { AnswerText } from '../llama/answer-text.ts';
import { generateMessage, mustCall, requireEmbedRequest } from '../llama/generate-message.ts';
import { GrammarCache } from '../llama/grammar-cache.ts';
import { contextExceeded, requireKnownTokens } from '../llama/prompt-fit.ts';
import type { GenerateMessage } from '../llama/protocol.ts';
import { readToolAnswer } from '../llama/tool-answer.ts';
import { cancelled, WaitQueue } from '../llama/wait-queue.ts';

export interface FakeEngineOptions {
  readonly purpose?: ModelInfo['purpose'];
  /** Default 4096. A token is a byte, a message costs four more. */
  readonly contextTokens?: number;
  /**
   * Default: `You said: ` and the end of the prompt, and which variant the seed chose. Where a schema or a grammar is
   * asked for, it must have that form; without it, such requests are refused.
   */
  readonly reply?: (prompt: Prompt, seed: number) => string;
  /** Of the one call that it makes where it must call. Default: none. */
  readonly callArguments?: (name: string, prompt: Prompt) => Readonly<Record<string, unknown>>;
  /** Between tokens, default 0: for tests that cancel, or look at a stream while it runs. */
  readonly tokenDelayMs?: number;
}

const EMBEDDING_LENGTH = 8;
const END_TOKEN = 256;
const MESSAGE_TOKENS = 4;
const WAITING_REQUESTS_MAX = 64;
/** Probability of each token that it chooses; the end token gets the rest. */
const CERTAINTY = 0.75;

/**
 * An engine without a model, for tests of what stands above engines. It opens and checks the weights files like a real
 * one, then answers from the prompt alone: the same request gives the same events.
 */
export function createFakeEngine(options: FakeEngineOptions = {}): Engine {
  return {
    load: async (request, signal) => {
      const adapters = request.adapters?.map(({ file }) => file) ?? [];
      for (const weights of [...request.weights, ...adapters]) {
        const file = await weights.open(signal);
        try {
          await file.requireUnchanged();
        } finally {
          await file.close();
        }
        if (signal?.aborted === true) throw cancelled(signal);
      }
      return new FakeModel(request, options);
    },
  };
}

class FakeModel implements LoadedModel {
  readonly info: ModelInfo;
  readonly #request: LoadRequest;
  readonly #options: FakeEngineOptions;
  readonly #closed = new AbortController();
  readonly #queue: WaitQueue;
  readonly #grammars = new GrammarCache();

  constructor(request: LoadRequest, options: FakeEngineOptions) {
    this.#request = request;
    this.#options = options;
    const parallelRequests = request.parallelRequests ?? 1;
    this.#queue = new WaitQueue(request.name, {
      slots: parallelRequests,
      waitingMax: WAITING_REQUESTS_MAX,
    });
    this.info = {
      architecture: 'fake',
      parameterCount: 0,
      contextTokens: request.contextTokens ?? options.contextTokens ?? 4096,
      vocabularyTokens: END_TOKEN + 1,
      embeddingLength: EMBEDDING_LENGTH,
      hasChatTemplate: true,
      purpose: options.purpose ?? 'generate',
      isolation: 'none: a fake without a process',
      parallelRequests,
      adapters: request.adapters?.map(({ name }) => name) ?? [],
    };
  }

  async *generate(
    request: GenerateRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<GenerateEvent, void, undefined> {
    this.#requirePurpose('generate');
    const message = generateMessage(request, {
      defaults: this.#request.defaults,
      seed: 0,
      contextTokens: this.info.contextTokens,
      adapters: this.info.adapters,
      grammars: this.#grammars,
    });
    const reply = this.#reply(request, message.sampling.temperature === 0 ? 0 : message.sampling.seed);
    const leave = await this.#queue.enter(signal, request.requester);
    try {
      const events = this.#answer(request.prompt, Buffer.from(reply), message, signal);
      yield* mustCall(request) ? readToolAnswer(events) : events;
    } finally {
      leave();
    }
  }

  /** @throws NOT_SUPPORTED for a form that it cannot give an answer */
  #reply({ prompt, constraint, tools, adapter }: GenerateRequest, seed: number): string {
    const { reply = defaultReply, callArguments } = this.#options;
    if (tools !== undefined && tools.choice.kind !== 'none') {
      const name = tools.choice.kind === 'named' ? tools.choice.name : tools.definitions[0]?.name;
      const call = { name, arguments: callArguments?.(name ?? '', prompt) ?? {} };
      return JSON.stringify(tools.isParallel ? [call] : call);
    }
    if (constraint?.kind === 'json-object') return JSON.stringify({ reply: reply(prompt, seed) });
    if (constraint !== undefined && this.#options.reply === undefined) {
      throw new FreeholdError(
        'NOT_SUPPORTED',
        `${this.#request.name} is a fake: it knows no answer of that form`,
      );
    }
    return reply(prompt, seed) + (adapter === undefined ? '' : ` (${adapter})`);
  }

  async *#answer(
    prompt: Prompt,
    reply: Uint8Array,
    message: Omit<GenerateMessage, 'id'>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<GenerateEvent, void, undefined> {
    const promptTokens = promptLength(prompt, this.info);
    yield { kind: 'started', promptTokens };
    const room = this.info.contextTokens - promptTokens;
    const limit = Math.min(message.maxTokens ?? room, room);
    const text = new AnswerText<GeneratedToken | undefined>(message.stop);
    const end = (reason: 'stop' | 'length', count: number, stop?: string): GenerateEvent => ({
      kind: 'finished',
      reason,
      ...(stop === undefined ? {} : { stop }),
      usage: { promptTokens, cachedTokens: 0, completionTokens: count, promptMs: 0, completionMs: 0 },
    });
    for (let index = 0; index < limit; index++) {
      await this.#pause(signal);
      const byte = reply[index];
      if (byte === undefined) {
        yield* visible(text.finish());
        yield end('stop', index + 1);
        return;
      }
      const token = message.topLogprobs === undefined ? undefined : describe(byte, message.topLogprobs);
      const piece = text.push(Uint8Array.of(byte), token);
      yield* visible(piece);
      if (piece.stop !== undefined) {
        yield end('stop', index + 1, piece.stop);
        return;
      }
    }
    yield* visible(text.finish());
    yield end('length', limit);
  }

  async embed(request: EmbedRequest, signal?: AbortSignal): Promise<EmbedResult> {
    this.#requirePurpose('embed');
    const inputs = requireEmbedRequest(request, this.info);
    const leave = await this.#queue.enter(signal);
    try {
      await this.#pause(signal);
      const tokens = inputs.map((input) => (typeof input === 'string' ? [...Buffer.from(input)] : input));
      for (const [index, input] of tokens.entries()) {
        requireKnownTokens(input, this.info.vocabularyTokens);
        if (input.length > this.info.contextTokens)
          throw contextExceeded(`input ${index}`, input.length, this.info.contextTokens);
      }
      return {
        vectors: tokens.map(hashedVector),
        promptTokens: tokens.reduce((sum, input) => sum + input.length, 0),
      };
    } finally {
      leave();
    }
  }

  async close(): Promise<void> {
    const error = new FreeholdError('CANCELLED', `${this.#request.name} was closed`);
    this.#queue.close(error);
    this.#closed.abort(error);
  }

  /** Lets others run, as long as a token would take. @throws CANCELLED */
  async #pause(signal: AbortSignal | undefined): Promise<void> {
    const { signal: closed } = this.#closed;
    const either = signal === undefined ? closed : AbortSignal.any([signal, closed]);
    await sleep(this.#options.tokenDelayMs ?? 0, undefined, { signal: either }).catch(() => {});
    if (closed.aborted) throw closed.reason;
    if (signal?.aborted === true) throw cancelled(signal);
  }

  #requirePurpose(wanted: ModelInfo['purpose']): void {
    if (this.info.purpose !== wanted) {
      throw new FreeholdError(
        'NOT_SUPPORTED',
        `${this.#request.name} is a fake that can only ${this.info.purpose}`,
      );
    }
  }
}

function defaultReply(prompt: Prompt, seed: number): string {
  return `You said: ${promptText(prompt).slice(-200)}${seed === 0 ? '' : ` (variant ${seed})`}`;
}

function promptText(prompt: Prompt): string {
  switch (prompt.kind) {
    case 'chat':
      return prompt.messages.at(-1)?.content ?? '';
    case 'text':
      return prompt.text;
    case 'tokens':
      return Buffer.from(prompt.tokens.filter((token) => token < END_TOKEN)).toString();
  }
}

function promptLength(prompt: Prompt, info: ModelInfo): number {
  if (prompt.kind === 'tokens') requireKnownTokens(prompt.tokens, info.vocabularyTokens);
  const tokens =
    prompt.kind === 'chat'
      ? prompt.messages.reduce((sum, { content }) => sum + MESSAGE_TOKENS + Buffer.byteLength(content), 0)
      : prompt.kind === 'text'
        ? Buffer.byteLength(prompt.text)
        : prompt.tokens.length;
  if (tokens === 0) throw new FreeholdError('REQUEST_INVALID', 'the prompt is empty');
  if (tokens + 1 > info.contextTokens) throw contextExceeded('prompt', tokens, info.contextTokens);
  return tokens;
}

function* visible(piece: {
  readonly text: string;
  readonly tokens: readonly (GeneratedToken | undefined)[];
}): Generator<GenerateEvent> {
  const tokens = piece.tokens.filter((token) => token !== undefined);
  if (piece.text !== '' || tokens.length > 0) yield { kind: 'text', text: piece.text, tokens };
}

function describe(byte: number, top: number): GeneratedToken {
  const chosen = { id: byte, bytes: Uint8Array.of(byte), logprob: Math.log(CERTAINTY) };
  const other = { id: END_TOKEN, bytes: new Uint8Array(0), logprob: Math.log(1 - CERTAINTY) };
  return { ...chosen, top: [chosen, other].slice(0, top) };
}

function hashedVector(tokens: readonly number[]): Float32Array {
  const hash = createHash('sha256').update(tokens.join(' ')).digest();
  const values = Float32Array.from(
    { length: EMBEDDING_LENGTH },
    (_, index) => hash.readInt32LE(4 * index) / 2 ** 31,
  );
  const length = Math.hypot(...values);
  return values.map((value) => value / length);
}
