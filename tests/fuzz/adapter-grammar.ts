import { ggufNumbers } from '../../src/core/format/gguf/gguf-array.ts';
import { ggufValue } from '../../src/core/format/gguf/gguf-values.ts';
import type { GgufContent } from '../../src/core/format/gguf/gguf-writer.ts';
import { type SeededRandom, seededRandom } from '../fixtures/random.ts';
import { adapterContent } from '../fixtures/tiny-adapter.ts';
import { architectureContent, architectureModels } from './architectures.ts';
import type { Case } from './campaign.ts';
import { ENTRY_CHANGES, HEADER_CHANGES, TENSOR_CHANGES } from './container-changes.ts';
import { planOf, planValue } from './gguf-plan.ts';
import { anyValue, type Change, pick, withKey } from './odd-values.ts';

const ADAPTER_CHANGES: Readonly<Record<string, Change>> = {
  alpha: (random, plan) =>
    withKey(
      plan,
      'adapter.lora.alpha',
      random.below(3) === 0
        ? anyValue(random)
        : planValue(
            ggufValue.number(
              'float32',
              pick(random, [0, -1, 1, 1e-45, 70_000, 3e38, Number.NaN, Number.NEGATIVE_INFINITY]),
            ),
          ),
    ),
  kind: (random, plan) =>
    withKey(
      plan,
      pick(random, ['general.type', 'adapter.type', 'general.architecture']),
      random.below(3) === 0
        ? anyValue(random)
        : planValue(ggufValue.string(pick(random, ['adapter', 'lora', 'cvec', 'model', 'gemma']))),
    ),
  activation: (random, plan) =>
    withKey(
      plan,
      pick(random, [
        'adapter.alora.invocation_tokens',
        'adapter.lora.task_name',
        'adapter.lora.prompt_prefix',
      ]),
      random.below(2) === 0 ? anyValue(random) : planValue(ggufValue.array(ggufNumbers('uint32', [1, 2]))),
    ),
  'half of a pair': (random, plan) => ({
    ...plan,
    tensors: plan.tensors.map((tensor) =>
      random.below(6) > 0
        ? tensor
        : {
            ...tensor,
            name: Buffer.from(
              tensor.name
                .toString('latin1')
                .replace(/lora_[ab]/, pick(random, ['lora_a', 'lora_b', 'lora_c', 'lora_a.lora_a'])),
            ),
          },
    ),
  }),
  rank: (random, plan) => {
    const rank = BigInt(pick(random, [1, 2, 3, 32, 64, 5000]));
    const isWhole = random.below(2) === 0;
    return {
      ...plan,
      tensors: plan.tensors.map((tensor) => {
        const at = tensor.name.toString('latin1').endsWith('lora_a') ? 1 : 0;
        const isChanged = at < tensor.dimensions.length && (isWhole || random.below(4) === 0);
        return isChanged ? { ...tensor, dimensions: tensor.dimensions.with(at, rank) } : tensor;
      }),
    };
  },
};

/** Sound adapters for bases of several architectures, with up to two things changed. The same seed gives the same ones. */
export class AdapterGrammar {
  readonly #random: SeededRandom;
  readonly #bases: readonly GgufContent[];
  readonly #changes: readonly (readonly [string, Change])[];

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.#bases = [...architectureModels()].map(([name, model]) => architectureContent(name, model));
    const own = Object.entries(ADAPTER_CHANGES);
    this.#changes = [HEADER_CHANGES, ENTRY_CHANGES, TENSOR_CHANGES, TENSOR_CHANGES]
      .flatMap(Object.entries<Change>)
      .concat(own, own, own);
  }

  next(): Required<Case> {
    const random = this.#random;
    const llama = this.#bases.find(({ name }) => name === 'llama.gguf');
    const base = random.below(3) === 0 && llama !== undefined ? llama : pick(random, this.#bases);
    const architecture = base.name?.replace('.gguf', '') ?? '';
    // Any tensor at all, table, output and norms among them, or what an adapter is trained for.
    const names = new Set(base.tensors.filter(() => random.below(5) === 0).map(({ name }) => name));
    const options = random.below(2) === 0 ? {} : { isTarget: (name: string) => names.has(name) };
    let adapter = planOf(
      adapterContent(base, { ...options, rank: pick(random, [1, 4, 32]) }),
      `adapter of ${architecture}`,
    );
    for (let count = random.below(3); count > 0; count--) {
      const [name, change] = pick(random, this.#changes);
      adapter = { ...change(random, adapter), origin: `${adapter.origin} + ${name}` };
    }
    return { base: planOf(base, architecture), plan: adapter };
  }
}
