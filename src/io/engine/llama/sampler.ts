import { FreeholdError } from '../../../core/base/errors.ts';
import type { RandomStream } from './random-stream.ts';
import type { ResolvedSampling } from './sampling.ts';
import {
  type Candidates,
  cutMinP,
  cutSortedTopP,
  cutTopK,
  cutTopP,
  drawPlace,
  everyToken,
  gather,
  head,
  indexOfLargest,
  nearBest,
  weightsOf,
} from './token-candidates.ts';

/**
 * Picks tokens from logits. Pure: the same logits, history and random numbers give the same token.
 *
 * The order is llama.cpp's: logit bias, penalties, then (temperature 0 takes the best and ends here) top-k, top-p,
 * min-p, and the temperature last. So the cuts look at the model's own distribution, and a high temperature cannot
 * bring back what they removed. Top-p is taken of what top-k left, renormalised.
 *
 * Where the answer must have a form, one token is drawn first, and only if it does not fit are others looked at, since
 * asking the grammar about all tokens takes longer than computing their logits. This is exact: drawing from a
 * distribution, and after a rejection from what fits of the same distribution, gives p(a) + (1 − P) · p(a) / P =
 * p(a) / P for each fitting token a, where P is the probability of all that fit: the distribution under the condition
 * that the token fits.
 */

/** Tokens before the next one that `repeatPenalty` looks at, prompt included: llama.cpp's `repeat_last_n`. */
export const REPEAT_WINDOW_TOKENS = 64;

/** Asked about together after a rejection: a grammar takes 0.05 ms for them, and the right token is nearly always there. */
export const LIKELY_TOKENS = 64;

/** Which tokens may come next, whatever the model thinks of them. */
export interface TokenConstraint {
  allows(token: number): boolean;
  /** Places in `tokens` of those that may come, in order. */
  allowedAmong(tokens: Int32Array): readonly number[];
  /** Sets the logits of all others to −Infinity. @throws when no token may come */
  mask(logits: Float32Array): void;
}

export class Sampler {
  readonly #sampling: ResolvedSampling;
  readonly #random: RandomStream;
  readonly #biases: readonly (readonly [number, number])[];
  readonly #recent: number[];
  readonly #generatedCounts = new Map<number, number>();
  #scratch = new Float32Array(0);

  constructor(sampling: ResolvedSampling, random: RandomStream, promptTokens: readonly number[] = []) {
    this.#sampling = sampling;
    this.#random = random;
    this.#biases = Object.entries(sampling.logitBias).map(([id, bias]) => [Number(id), bias] as const);
    this.#recent = promptTokens.slice(-REPEAT_WINDOW_TOKENS);
  }

  /**
   * The next token; it counts as generated from now on. Does not write to `rawLogits`. The constraint wins over a logit
   * bias: where only tokens with a bias of −100 fit, one of them comes.
   * @throws ENGINE_FAILED; what `constraint.mask` throws when no token fits
   */
  choose(rawLogits: Float32Array, constraint?: TokenConstraint): number {
    const logits = this.#adjusted(rawLogits);
    const chosen = constraint === undefined ? this.#pick(logits) : this.#pickFitting(logits, constraint);
    this.#recent.push(chosen);
    if (this.#recent.length > REPEAT_WINDOW_TOKENS) this.#recent.shift();
    this.#generatedCounts.set(chosen, (this.#generatedCounts.get(chosen) ?? 0) + 1);
    return chosen;
  }

  #pick(logits: Float32Array): number {
    if (this.#sampling.temperature === 0) return indexOfLargest(logits);
    const candidates = this.#cut(logits);
    return candidates.ids[drawPlace(this.#weights(candidates), this.#random)] ?? 0;
  }

  /** Whatever is left of what the cuts let through; if nothing, of the most likely tokens; if nothing, of all. */
  #pickFitting(logits: Float32Array, constraint: TokenConstraint): number {
    if (this.#sampling.temperature === 0) {
      const best = indexOfLargest(logits);
      if (constraint.allows(best)) return best;
    } else {
      const drawn = this.#drawFitting(this.#cut(logits), constraint);
      if (drawn !== undefined) return drawn;
    }
    const likely = cutTopK(logits, LIKELY_TOKENS);
    const fitting = gather(likely, constraint.allowedAmong(likely.ids));
    if (fitting.ids.length > 0) return this.#pickAmong(fitting);
    const masked = logits.slice();
    constraint.mask(masked);
    const chosen = this.#pick(masked);
    if (masked[chosen] !== Number.NEGATIVE_INFINITY) return chosen;
    throw new FreeholdError(
      'ENGINE_FAILED',
      'the model rules out every token that the form of the answer allows',
    );
  }

  /**
   * A fitting one of the candidates. Of a few, those that fit are found at once. Of many, one after the other is drawn,
   * and dropped where it does not fit, which changes no ratio among the others.
   */
  #drawFitting(candidates: Candidates, constraint: TokenConstraint): number | undefined {
    const weights = this.#weights(candidates);
    const attemptsMax = candidates.ids.length > LIKELY_TOKENS ? LIKELY_TOKENS : 1;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const place = drawPlace(weights, this.#random);
      const token = candidates.ids[place];
      if (token === undefined || !((weights[place] as number) > 0)) return undefined;
      if (constraint.allows(token)) return token;
      weights[place] = 0;
    }
    const fitting = gather(candidates, constraint.allowedAmong(candidates.ids));
    const fittingWeights = this.#weights(fitting);
    const place = drawPlace(fittingWeights, this.#random);
    return (fittingWeights[place] as number) > 0 ? fitting.ids[place] : undefined;
  }

  /** @param candidates in falling order */
  #pickAmong(candidates: Candidates): number {
    const { temperature, topK } = this.#sampling;
    if (temperature === 0) return candidates.ids[0] as number;
    const cut = this.#cutSorted(topK > 0 ? head(candidates, topK) : candidates);
    return cut.ids[drawPlace(this.#weights(cut), this.#random)] as number;
  }

  #cut(logits: Float32Array): Candidates {
    const { topK, topP, minP } = this.#sampling;
    if (topK > 0) return this.#cutSorted(cutTopK(logits, topK));
    if (topP < 1) return cutMinP(cutTopP(logits, topP), minP);
    return minP > 0 ? nearBest(logits, -Math.log(minP)) : everyToken(logits);
  }

  #cutSorted(candidates: Candidates): Candidates {
    const { topP, minP } = this.#sampling;
    return cutMinP(topP < 1 ? cutSortedTopP(candidates, topP) : candidates, minP);
  }

  #weights(candidates: Candidates): Float64Array {
    return weightsOf(candidates, this.#sampling.temperature);
  }

  #adjusted(rawLogits: Float32Array): Float32Array {
    const { repeatPenalty, presencePenalty, frequencyPenalty } = this.#sampling;
    const isPenalised = repeatPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
    if (this.#biases.length === 0 && !isPenalised) return rawLogits;
    if (this.#scratch.length !== rawLogits.length) this.#scratch = new Float32Array(rawLogits.length);
    const logits = this.#scratch;
    logits.set(rawLogits);
    for (const [id, bias] of this.#biases) if (id < logits.length) logits[id] = (logits[id] ?? 0) + bias;
    if (isPenalised) this.#penalise(logits);
    return logits;
  }

  #penalise(logits: Float32Array): void {
    const { repeatPenalty, presencePenalty, frequencyPenalty } = this.#sampling;
    if (repeatPenalty !== 1) {
      for (const id of new Set(this.#recent)) {
        const logit = logits[id] ?? 0;
        logits[id] = logit > 0 ? logit / repeatPenalty : logit * repeatPenalty;
      }
    }
    // OpenAI's definition: over the generated tokens only, not the prompt.
    for (const [id, count] of this.#generatedCounts) {
      logits[id] = (logits[id] ?? 0) - count * frequencyPenalty - presencePenalty;
    }
  }
}
