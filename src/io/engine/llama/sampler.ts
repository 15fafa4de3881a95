import type { RandomStream } from './random-stream.ts';
import type { ResolvedSampling } from './sampling.ts';

/**
 * Picks tokens from logits. Pure: the same logits, history and random numbers give the same token.
 *
 * The order is llama.cpp's: logit bias, penalties, then (temperature 0 takes the best and ends here) top-k, top-p,
 * min-p, and the temperature last. So the cuts look at the model's own distribution, and a high temperature cannot
 * bring back what they removed. Top-p is taken of what top-k left, renormalised.
 */

/** Tokens before the next one that `repeatPenalty` looks at, prompt included: llama.cpp's `repeat_last_n`. */
export const REPEAT_WINDOW_TOKENS = 64;

/** Tokens that may still be drawn. Ordered by falling logit only where a cut needed the order. */
export interface Candidates {
  readonly ids: Int32Array;
  readonly logits: Float64Array;
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

  /** The next token; it counts as generated from now on. Does not write to `rawLogits`. */
  choose(rawLogits: Float32Array): number {
    const chosen = this.#pick(this.#adjusted(rawLogits));
    this.#recent.push(chosen);
    if (this.#recent.length > REPEAT_WINDOW_TOKENS) this.#recent.shift();
    this.#generatedCounts.set(chosen, (this.#generatedCounts.get(chosen) ?? 0) + 1);
    return chosen;
  }

  #pick(logits: Float32Array): number {
    if (this.#sampling.temperature === 0) return indexOfLargest(logits);
    let candidates = this.#sampling.topK > 0 ? cutTopK(logits, this.#sampling.topK) : undefined;
    if (this.#sampling.topP < 1) {
      candidates = candidates
        ? cutSortedTopP(candidates, this.#sampling.topP)
        : cutTopP(logits, this.#sampling.topP);
    }
    candidates = cutMinP(candidates ?? everyToken(logits), this.#sampling.minP);
    return draw(candidates, this.#sampling.temperature, this.#random);
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

/** The lowest index among equals, so that greedy answers do not depend on the order of a scan. */
export function indexOfLargest(values: Float32Array): number {
  let best = 0;
  let largest = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number;
    if (value > largest) {
      largest = value;
      best = index;
    }
  }
  return best;
}

/** Natural logarithm of the sum of exponentials, in double precision. */
export function logSumExp(values: Float32Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number;
    if (value > largest) largest = value;
  }
  if (!Number.isFinite(largest)) return largest;
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += Math.exp((values[index] as number) - largest);
  return largest + Math.log(sum);
}

/** The `count` largest, falling; equals by rising id. A bounded insertion: linear in the vocabulary for small counts. */
export function cutTopK(logits: Float32Array, count: number): Candidates {
  if (count >= logits.length) return sorted(everyToken(logits));
  if (count > INSERTION_COUNT_MAX) return head(sorted(everyToken(logits)), count);
  const ids = new Int32Array(count);
  const values = new Float64Array(count).fill(Number.NEGATIVE_INFINITY);
  let filled = 0;
  for (let id = 0; id < logits.length; id++) {
    const value = logits[id] as number;
    if (filled === count && !(value > (values[count - 1] as number))) continue;
    let slot = filled < count ? filled++ : count - 1;
    while (slot > 0 && (values[slot - 1] as number) < value) {
      values[slot] = values[slot - 1] as number;
      ids[slot] = ids[slot - 1] as number;
      slot--;
    }
    values[slot] = value;
    ids[slot] = id;
  }
  return { ids, logits: values };
}

/** Above it, shifting inside the list costs more than sorting everything. */
const INSERTION_COUNT_MAX = 512;

/** Sums of probabilities are exact to about 1e-15 each: two tokens of 0.5 must reach 0.5 with one. */
const MASS_TOLERANCE = 1e-12;

/** The smallest set of most likely tokens whose probabilities reach `topP`, the one that crosses it included. */
export function cutTopP(logits: Float32Array, topP: number): Candidates {
  const all = everyToken(logits);
  const normaliser = logSumExp(logits);
  // Sorting a whole vocabulary costs 10 ms; the likely tokens lie within a few nats of the best one.
  for (const nats of [6, 12, 24]) {
    const near = withinNats(all, nats);
    let mass = 0;
    for (const logit of near.logits) mass += Math.exp(logit - normaliser);
    if (mass >= topP - MASS_TOLERANCE) return cutSorted(sorted(near), topP, normaliser);
  }
  return cutSorted(sorted(all), topP, normaliser);
}

/** As `cutTopP`, of candidates in falling order, renormalised among themselves. */
export function cutSortedTopP(candidates: Candidates, topP: number): Candidates {
  return cutSorted(candidates, topP, logSumExp64(candidates.logits));
}

function cutSorted(candidates: Candidates, topP: number, normaliser: number): Candidates {
  let mass = 0;
  for (let index = 0; index < candidates.ids.length; index++) {
    mass += Math.exp((candidates.logits[index] as number) - normaliser);
    if (mass >= topP - MASS_TOLERANCE) return head(candidates, index + 1);
  }
  return candidates;
}

/** Drops what is less likely than `minP` times the most likely token. */
export function cutMinP(candidates: Candidates, minP: number): Candidates {
  return minP === 0 ? candidates : withinNats(candidates, -Math.log(minP));
}

/** One token, with probability proportional to exp(logit / temperature). */
export function draw(candidates: Candidates, temperature: number, random: RandomStream): number {
  const { ids, logits } = candidates;
  const largest = largestOf(logits);
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let index = 0; index < logits.length; index++) {
    const weight = Math.exp(((logits[index] as number) - largest) / temperature);
    weights[index] = weight;
    total += weight;
  }
  let rest = random() * total;
  for (let index = 0; index < weights.length; index++) {
    rest -= weights[index] as number;
    if (rest < 0) return ids[index] as number;
  }
  // Rounding can leave a remainder of about 1e-16: the last token that has any weight.
  return ids[weights.findLastIndex((weight) => weight > 0)] ?? (ids[0] as number);
}

export function everyToken(logits: Float32Array): Candidates {
  const ids = new Int32Array(logits.length);
  for (let id = 0; id < ids.length; id++) ids[id] = id;
  return { ids, logits: new Float64Array(logits) };
}

function withinNats(candidates: Candidates, nats: number): Candidates {
  const floor = largestOf(candidates.logits) - nats;
  const kept: number[] = [];
  for (let index = 0; index < candidates.ids.length; index++) {
    if ((candidates.logits[index] as number) >= floor) kept.push(index);
  }
  return gather(candidates, kept);
}

function sorted(candidates: Candidates): Candidates {
  const order = Array.from(candidates.ids.keys());
  order.sort((left, right) => {
    const difference = (candidates.logits[right] as number) - (candidates.logits[left] as number);
    return difference !== 0
      ? difference
      : (candidates.ids[left] as number) - (candidates.ids[right] as number);
  });
  return gather(candidates, order);
}

function gather(candidates: Candidates, indexes: readonly number[]): Candidates {
  return {
    ids: Int32Array.from(indexes, (index) => candidates.ids[index] as number),
    logits: Float64Array.from(indexes, (index) => candidates.logits[index] as number),
  };
}

function head(candidates: Candidates, count: number): Candidates {
  return { ids: candidates.ids.subarray(0, count), logits: candidates.logits.subarray(0, count) };
}

function largestOf(values: Float64Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (const value of values) if (value > largest) largest = value;
  return largest;
}

function logSumExp64(values: Float64Array): number {
  const largest = largestOf(values);
  let sum = 0;
  for (const value of values) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}
