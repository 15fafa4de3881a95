import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ggmlType } from '../../src/core/format/gguf/ggml-types.ts';
import { LLAMA_LIBRARY_FOLDER } from '../fixtures/llama-library.ts';
import { type SeededRandom, seededRandom } from '../fixtures/random.ts';
import { everyKindContent } from '../fixtures/small-gguf.ts';
import { architectureContent, architectureModels } from './architectures.ts';
import { ENTRY_CHANGES, HEADER_CHANGES, TENSOR_CHANGES } from './container-changes.ts';
import { type GgufPlan, planOf } from './gguf-plan.ts';
import { hyperparameterChanges, TOKENIZER_CHANGES } from './model-changes.ts';
import { anyValue, type Change, pick, SIZES } from './odd-values.ts';

/** Most files have one thing wrong: with more, only the first is ever looked at. */
const CHANGES_MAX = 3;
/** How often, of 100: a file out of nothing, and a broken one of the commonest architecture. */
const FREE_PERCENT = 8;
const COMMON_PERCENT = 30;

/**
 * GGUF files without end: sound models of every architecture with one to three things changed, and files out of nothing
 * but the grammar. The same seed gives the same files with the same library.
 */
export class GgufGrammar {
  readonly #random: SeededRandom;
  readonly #bases: readonly GgufPlan[];
  readonly #changes: readonly (readonly [group: readonly (readonly [string, Change])[], weight: number])[];

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.#bases = soundPlans();
    const groups: readonly (readonly [Readonly<Record<string, Change>>, number])[] = [
      [HEADER_CHANGES, 1],
      [ENTRY_CHANGES, 2],
      [TENSOR_CHANGES, 3],
      [hyperparameterChanges(libraryKeys()), 6],
      [TOKENIZER_CHANGES, 3],
    ];
    this.#changes = groups.map(([group, weight]) => [Object.entries(group), weight]);
  }

  next(): GgufPlan {
    const random = this.#random;
    const kind = random.below(100);
    if (kind < FREE_PERCENT) return freePlan(random);
    const llama = this.#bases.find(({ origin }) => origin === 'llama');
    const base =
      kind < FREE_PERCENT + COMMON_PERCENT && llama !== undefined ? llama : pick(random, this.#bases);
    let plan = base;
    for (let count = 1 + random.below(CHANGES_MAX); count > 0; count--) {
      const [name, change] = this.#pickChange();
      plan = { ...change(random, plan), origin: `${plan.origin} + ${name}` };
    }
    return plan;
  }

  #pickChange(): readonly [string, Change] {
    const total = this.#changes.reduce((sum, [, weight]) => sum + weight, 0);
    let left = this.#random.below(total);
    for (const [group, weight] of this.#changes) {
      if (left < weight) return pick(this.#random, group);
      left -= weight;
    }
    throw new RangeError('no change has any weight');
  }
}

/** Small models that llama.cpp runs, one of each architecture, and one file that is no model. */
export function soundPlans(): GgufPlan[] {
  const models = [...architectureModels()].map(([name, model]) =>
    planOf(architectureContent(name, model), name),
  );
  return [...models, planOf(everyKindContent(), 'every-kind')];
}

/** Every key of an architecture that this build of the library reads: they stand in it as "%s.block_count". */
export function libraryKeys(): string[] {
  const file = path.join(LLAMA_LIBRARY_FOLDER, 'libllama.v0.5.0.so');
  if (!existsSync(file)) return [];
  const found = readFileSync(file, 'latin1').matchAll(/\0%s(\.[a-z][a-z0-9_.]+)(?=\0)/g);
  return [...new Set(Array.from(found, (match) => match[1] ?? ''))].sort();
}

/** Nothing but the grammar: counts, keys, values and tensors that have nothing to do with each other. */
function freePlan(random: SeededRandom): GgufPlan {
  const entryCount = random.below(6);
  const tensorCount = random.below(4);
  return {
    origin: 'grammar',
    magic: 'GGUF',
    version: pick(random, [1, 2, 3, 3, 3]),
    entries: Array.from({ length: entryCount }, (_, index) => ({
      key: Buffer.from(`k${index}.${random.below(99)}`),
      value: anyValue(random),
    })),
    tensors: Array.from({ length: tensorCount }, (_, index) => ({
      name: Buffer.from(`t${index}`),
      dimensions: Array.from({ length: random.below(6) }, () =>
        random.below(4) === 0 ? pick(random, SIZES) : BigInt(1 + random.below(64)),
      ),
      type: random.below(3) === 0 ? random.below(48) : ggmlType('f32').number,
    })),
    fill: 'zeros',
    cutBytes: random.below(4) === 0 ? random.below(200) : 0,
  };
}
