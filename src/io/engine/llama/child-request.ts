import type { GenerateEvent, TokenLogprob } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { EventQueue } from './event-queue.ts';
import { type ChildMessage, CONTEXT_TOKENS_MAX, type WireToken } from './protocol.ts';

/** What the child says about one request. */
export type RequestMessage = Extract<ChildMessage, { readonly id: number }>;

/** One request that the child works on. The connection feeds it; it checks what it is fed. */
export interface ChildRequest {
  /** @throws ENGINE_FAILED when the child says something that does not fit: the child cannot be trusted any more */
  receive(message: RequestMessage): void;
  /** No more will come. */
  fail(error: FreeholdError): void;
  /** The caller has given up: tells it so at once, whatever the child does. */
  giveUp(error: FreeholdError): void;
}

/** Text of one token is at most a few hundred bytes; the average over an answer is far below. */
const ANSWER_CHARACTERS_PER_TOKEN_MAX = 1024;

/** Holds the child to one answer: started once, no longer than the context, tokens of its vocabulary. */
export class GenerationRequest implements ChildRequest {
  readonly events = new EventQueue();
  readonly #tokensMax: number;
  readonly #vocabularyTokens: number;
  #characters = 0;
  #tokens = 0;
  #isStarted = false;

  constructor(limits: { readonly contextTokens: number; readonly vocabularyTokens: number }) {
    this.#tokensMax = Math.min(limits.contextTokens, CONTEXT_TOKENS_MAX);
    this.#vocabularyTokens = limits.vocabularyTokens;
  }

  receive(message: RequestMessage): void {
    switch (message.kind) {
      case 'rendered':
        return;
      case 'started':
        if (this.#isStarted) throw violation('started twice');
        this.#isStarted = true;
        this.events.push({ kind: 'started', promptTokens: message.promptTokens });
        return;
      case 'text':
        this.events.push(this.#textEvent(message));
        return;
      case 'finished': {
        if (!this.#isStarted) throw violation('finished before it started');
        const { reason, stop, usage } = message;
        this.events.push({ kind: 'finished', reason, ...(stop === undefined ? {} : { stop }), usage });
        return;
      }
      case 'failed':
        this.fail(childError(message));
        return;
      default:
        throw violation(`a generation got "${message.kind}"`);
    }
  }

  fail(error: FreeholdError): void {
    this.events.fail(error);
  }

  giveUp(error: FreeholdError): void {
    this.events.failNow(error);
  }

  #textEvent(message: Extract<RequestMessage, { kind: 'text' }>): GenerateEvent {
    this.#characters += message.text.length;
    this.#tokens += message.tokens.length;
    // An answer fits into the context: more comes only from a process that wants to fill our memory.
    if (
      !this.#isStarted ||
      this.#tokens > this.#tokensMax ||
      this.#characters > this.#tokensMax * ANSWER_CHARACTERS_PER_TOKEN_MAX
    ) {
      throw violation(`an answer of ${this.#tokens} tokens and ${this.#characters} characters`);
    }
    return { kind: 'text', text: message.text, tokens: message.tokens.map((token) => this.#token(token)) };
  }

  #token(token: WireToken) {
    return { ...this.#logprob(token), top: token.top.map((entry) => this.#logprob(entry)) };
  }

  #logprob({ id, bytes, logprob }: Omit<WireToken, 'top'>): TokenLogprob {
    if (id >= this.#vocabularyTokens) throw violation(`token ${id} of ${this.#vocabularyTokens}`);
    return { id, bytes: new Uint8Array(Buffer.from(bytes, 'base64')), logprob };
  }
}

/** Holds the child to one finite vector per input, each of the model's length. */
export class EmbeddingRequest implements ChildRequest {
  readonly result: Promise<{ readonly vectors: readonly Float32Array[]; readonly promptTokens: number }>;
  readonly #resolve: (result: { vectors: readonly Float32Array[]; promptTokens: number }) => void;
  readonly #reject: (error: FreeholdError) => void;
  readonly #vectors: Float32Array[] = [];
  readonly #inputCount: number;
  readonly #embeddingLength: number;

  constructor(inputCount: number, embeddingLength: number) {
    const { promise, resolve, reject } = Promise.withResolvers<Awaited<EmbeddingRequest['result']>>();
    this.result = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#inputCount = inputCount;
    this.#embeddingLength = embeddingLength;
    // The caller may have gone before it fails.
    promise.catch(() => {});
  }

  receive(message: RequestMessage): void {
    switch (message.kind) {
      case 'vector':
        this.#vectors.push(this.#vector(message.vector));
        return;
      case 'embedded':
        if (this.#vectors.length !== this.#inputCount)
          throw violation(`${this.#vectors.length} vectors for ${this.#inputCount} inputs`);
        this.#resolve({ vectors: this.#vectors, promptTokens: message.promptTokens });
        return;
      case 'failed':
        this.fail(childError(message));
        return;
      default:
        throw violation(`an embedding got "${message.kind}"`);
    }
  }

  fail(error: FreeholdError): void {
    this.#reject(error);
  }

  giveUp(error: FreeholdError): void {
    this.#reject(error);
  }

  #vector(text: string): Float32Array {
    const bytes = Buffer.from(text, 'base64');
    if (bytes.length !== 4 * this.#embeddingLength || this.#vectors.length >= this.#inputCount) {
      throw violation(`vector ${this.#vectors.length} of ${bytes.length} bytes`);
    }
    const vector = new Float32Array(this.#embeddingLength);
    new Uint8Array(vector.buffer).set(bytes);
    if (!vector.every(Number.isFinite)) throw violation('a vector with a value that is no number');
    return vector;
  }
}

function childError(message: Extract<RequestMessage, { kind: 'failed' }>): FreeholdError {
  return new FreeholdError(
    message.code,
    message.message,
    message.detail === undefined ? {} : { detail: message.detail },
  );
}

/** The child said what it must not: it cannot be trusted any more. */
export function violation(what: string): FreeholdError {
  return new FreeholdError('ENGINE_FAILED', `unexpected message from the engine process: ${what}`);
}
