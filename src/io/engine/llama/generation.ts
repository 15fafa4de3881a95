import { FreeholdError } from '../../../core/base/errors.ts';
import { AnswerText } from './answer-text.ts';
import type { GrammarConstraint } from './grammar-constraint.ts';
import type { NativeModel } from './native-model.ts';
import type { ChildMessage, GenerateMessage, WireToken } from './protocol.ts';
import { randomStream } from './random-stream.ts';
import { Sampler } from './sampler.ts';
import { cutTopK, logSumExp } from './token-candidates.ts';

/** As OpenAI's API writes a token that cannot come: JSON has no infinity. */
const LOGPROB_MIN = -9999;

type GenerationModel = Pick<NativeModel, 'facts' | 'vocabulary'>;

/**
 * One answer, token after token, until an end token, a stop string, the end of its grammar, `maxTokens`, or the border of
 * the context. Pure but for the grammar: logits in, messages out.
 */
export class Generation {
  readonly id: number;
  readonly prompt: readonly number[];
  readonly adapter: number | undefined;
  readonly isReproducible: boolean;
  readonly #model: GenerationModel;
  readonly #sampler: Sampler;
  readonly #text: AnswerText<WireToken | undefined>;
  readonly #topLogprobs: number | undefined;
  readonly #constraint: GrammarConstraint | undefined;
  readonly #tokensMax: number;
  #tokenCount = 0;
  #next: number | undefined;
  #begunMs = 0;
  #readMs = 0;
  #cachedTokens = 0;

  /** @param constraint closed by `close` */
  constructor(
    model: GenerationModel,
    message: GenerateMessage,
    prompt: readonly number[],
    constraint: GrammarConstraint | undefined,
  ) {
    this.id = message.id;
    this.prompt = prompt;
    this.adapter = message.adapter;
    this.isReproducible = message.isReproducible;
    this.#model = model;
    this.#sampler = new Sampler(message.sampling, randomStream(message.sampling.seed), prompt);
    this.#text = new AnswerText(message.stop);
    this.#topLogprobs = message.topLogprobs;
    this.#constraint = constraint;
    this.#tokensMax = Math.min(
      message.maxTokens ?? Number.POSITIVE_INFINITY,
      model.facts.contextTokens - prompt.length,
    );
  }

  /** The token that is to be evaluated next; undefined while the prompt is read. */
  get next(): number | undefined {
    return this.#next;
  }

  /** The prompt begins to be read. */
  begin(cachedTokens: number, nowMs: number): void {
    this.#cachedTokens = cachedTokens;
    this.#begunMs = nowMs;
  }

  /** The whole prompt has been read. */
  promptRead(nowMs: number): void {
    this.#readMs = nowMs;
  }

  /**
   * Chooses the next token.
   * @returns what is to be told; a `finished` message is the last one
   * @throws ENGINE_FAILED, SCHEMA_NOT_SUPPORTED
   */
  take(logits: Float32Array, nowMs: number): readonly ChildMessage[] {
    if (this.#tokensMax <= 0) return this.#finish('length', nowMs);
    const token = this.#sampler.choose(logits, this.#constraint);
    this.#tokenCount++;
    requireNumber(logits, token);
    this.#constraint?.accept(token);
    const { vocabulary } = this.#model;
    if (vocabulary.isEndOfGeneration(token)) return this.#finish('stop', nowMs);
    const wireToken = this.#topLogprobs === undefined ? undefined : this.#describe(logits, token);
    const piece = this.#text.push(vocabulary.visibleBytes(token), wireToken);
    const told = this.#tell(piece);
    if (piece.stop !== undefined) return [...told, this.#finished('stop', nowMs, piece.stop)];
    if (this.#constraint?.isComplete === true) return [...told, ...this.#finish('stop', nowMs)];
    if (this.#tokenCount >= this.#tokensMax) return [...told, ...this.#finish('length', nowMs)];
    this.#next = token;
    return told;
  }

  /** Frees what native code holds for it. Idempotent. */
  close(): void {
    this.#constraint?.close();
  }

  #finish(reason: 'stop' | 'length', nowMs: number): ChildMessage[] {
    const rest = this.#text.finish();
    return [...this.#tell(rest), this.#finished(rest.stop === undefined ? reason : 'stop', nowMs, rest.stop)];
  }

  #tell(piece: {
    readonly text: string;
    readonly tokens: readonly (WireToken | undefined)[];
  }): ChildMessage[] {
    const tokens = piece.tokens.filter((token) => token !== undefined);
    if (piece.text === '' && tokens.length === 0) return [];
    return [{ kind: 'text', id: this.id, text: piece.text, tokens }];
  }

  #finished(reason: 'stop' | 'length', nowMs: number, stop?: string): ChildMessage {
    this.#next = undefined;
    return {
      kind: 'finished',
      id: this.id,
      reason,
      ...(stop === undefined ? {} : { stop }),
      usage: {
        promptTokens: this.prompt.length,
        cachedTokens: this.#cachedTokens,
        completionTokens: this.#tokenCount,
        promptMs: this.#readMs - this.#begunMs,
        completionMs: nowMs - this.#readMs,
      },
    };
  }

  #describe(logits: Float32Array, token: number): WireToken {
    const normaliser = logSumExp(logits);
    const { vocabulary } = this.#model;
    const top = this.#topLogprobs ?? 0;
    const entry = (id: number, logit: number) => ({
      id,
      bytes: Buffer.from(vocabulary.spelledBytes(id)).toString('base64'),
      // Rounding can leave a certain token a hair above 0.
      logprob: Math.min(0, Math.max(LOGPROB_MIN, logit - normaliser)),
    });
    const best = top === 0 ? { ids: [], logits: [] } : cutTopK(logits, top);
    return {
      ...entry(token, logits[token] as number),
      top: Array.from(best.ids, (id, index) => entry(id, best.logits[index] as number)),
    };
  }
}

/** Broken weights compute NaN; every token would be the first one. */
function requireNumber(logits: Float32Array, token: number): void {
  if (!Number.isFinite(logits[token])) {
    throw new FreeholdError(
      'ENGINE_FAILED',
      'the model computed no number: its weights are damaged or overflow',
    );
  }
}
