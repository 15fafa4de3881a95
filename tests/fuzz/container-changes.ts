import { GGML_TYPES } from '../../src/core/format/gguf/ggml-types.ts';
import { ggufValue } from '../../src/core/format/gguf/gguf-values.ts';
import type { SeededRandom } from '../fixtures/random.ts';
import { raw } from '../fixtures/raw-gguf.ts';
import { type GgufPlan, type PlanEntry, type PlanTensor, planValue } from './gguf-plan.ts';
import {
  anyValue,
  type Change,
  changedValue,
  moveElement,
  ODD_TEXTS,
  pick,
  SIZES,
  withKey,
} from './odd-values.ts';

/** What stands before the keys, and where the file ends. */
export const HEADER_CHANGES: Readonly<Record<string, Change>> = {
  version: (random, plan) => ({ ...plan, version: pick(random, [0, 1, 2, 3, 4, 0x0300_0000, 0xffff_ffff]) }),
  magic: (random, plan) => ({ ...plan, magic: pick(random, ['FUGG', 'GGUf', 'GGML', '\0\0\0\0', '']) }),
  'tensor count': (random, plan) => ({
    ...plan,
    tensorCount: pick(random, [
      ...SIZES,
      BigInt(plan.tensors.length + 1),
      BigInt(Math.max(0, plan.tensors.length - 1)),
    ]),
  }),
  'entry count': (random, plan) => ({
    ...plan,
    entryCount: pick(random, [
      ...SIZES,
      BigInt(plan.entries.length + 1),
      BigInt(Math.max(0, plan.entries.length - 1)),
    ]),
  }),
  end: (random, plan) => ({ ...plan, cutBytes: pick(random, [1, 4, 31, 32, 33, 5000, -1, -32, -4096]) }),
  fill: (random, plan) => ({ ...plan, fill: pick(random, ['zeros', 'ones', 'small-numbers'] as const) }),
};

/** Keys of any meaning. */
export const ENTRY_CHANGES: Readonly<Record<string, Change>> = {
  'drop entry': (random, plan) => ({ ...plan, entries: moveElement(random, plan.entries, 'drop') }),
  'double entry': (random, plan) => ({ ...plan, entries: moveElement(random, plan.entries, 'double') }),
  'move entry': (random, plan) => ({ ...plan, entries: moveElement(random, plan.entries, 'move') }),
  'key text': (random, plan) =>
    changeEntry(random, plan, (entry) => ({ ...entry, key: Buffer.from(pick(random, ODD_TEXTS)) })),
  'key length': (random, plan) =>
    changeEntry(random, plan, (entry) => ({ ...entry, keyLength: pick(random, SIZES) })),
  value: (random, plan) =>
    changeEntry(random, plan, (entry) => ({ ...entry, value: changedValue(random, entry.value) })),
  'value type': (random, plan) =>
    changeEntry(random, plan, (entry) => ({
      ...entry,
      value: { kind: 'plain', type: random.below(15), bytes: raw.uint64(pick(random, SIZES)) },
    })),
  alignment: (random, plan) =>
    withKey(
      plan,
      'general.alignment',
      random.below(5) === 0
        ? anyValue(random)
        : planValue(
            ggufValue.number(
              'uint32',
              pick(random, [0, 1, 2, 4, 8, 16, 33, 48, 64, 256, 4096, 2 ** 20, 2 ** 21, 2 ** 31]),
            ),
          ),
    ),
  split: (random, plan) =>
    withKey(
      plan,
      pick(random, ['split.count', 'split.no', 'split.tensors.count']),
      random.below(4) === 0
        ? anyValue(random)
        : planValue(ggufValue.number('uint16', pick(random, [0, 1, 2, 3, 65_535]))),
    ),
  'general type': (random, plan) =>
    withKey(
      plan,
      'general.type',
      planValue(ggufValue.string(pick(random, ['model', 'adapter', 'mmproj', '', 'x']))),
    ),
};

const TENSOR_TYPES = [...GGML_TYPES.keys(), 4, 5, 31, 36, 43, 99, 2 ** 31, 2 ** 32 - 1];

/** The list of tensors. */
export const TENSOR_CHANGES: Readonly<Record<string, Change>> = {
  'drop tensor': (random, plan) => ({ ...plan, tensors: moveElement(random, plan.tensors, 'drop') }),
  'double tensor': (random, plan) => ({ ...plan, tensors: moveElement(random, plan.tensors, 'double') }),
  'move tensor': (random, plan) => ({ ...plan, tensors: moveElement(random, plan.tensors, 'move') }),
  'tensor name': (random, plan) =>
    changeTensor(random, plan, (tensor) => ({ ...tensor, name: Buffer.from(pick(random, ODD_TEXTS)) })),
  'other tensor name': (random, plan) => {
    const names = plan.tensors.map(({ name }) => name);
    return changeTensor(random, plan, (tensor) => ({
      ...tensor,
      name: Buffer.from(
        pick(random, names)
          .toString('latin1')
          .replace(/\d+/, String(random.below(4))),
      ),
    }));
  },
  'tensor type': (random, plan) =>
    changeTensor(random, plan, (tensor) => ({ ...tensor, type: pick(random, TENSOR_TYPES) })),
  'all tensor types': (random, plan) => {
    const type = pick(random, TENSOR_TYPES);
    return { ...plan, tensors: plan.tensors.map((tensor) => ({ ...tensor, type })) };
  },
  dimension: (random, plan) =>
    changeTensor(random, plan, (tensor) => {
      const index = random.below(Math.max(1, tensor.dimensions.length));
      const old = tensor.dimensions[index] ?? 1n;
      const size = pick(random, [...SIZES, old + 1n, old - 1n, old * 2n, old / 2n, 0n, 1n]);
      return {
        ...tensor,
        dimensions: tensor.dimensions.map((other, at) => (at === index ? BigInt.asUintN(64, size) : other)),
      };
    }),
  dimensions: (random, plan) =>
    changeTensor(random, plan, (tensor) => ({
      ...tensor,
      dimensions: pick(random, [
        [],
        [...tensor.dimensions, 1n],
        [...tensor.dimensions, 1n, 1n],
        [...tensor.dimensions, 2n],
        tensor.dimensions.toReversed(),
        tensor.dimensions.slice(1),
        [2n ** 32n, 2n ** 32n],
        [2n ** 31n, 2n ** 31n, 4n],
        [32n, 2n ** 58n],
      ]),
    })),
  'dimension count': (random, plan) =>
    changeTensor(random, plan, (tensor) => ({
      ...tensor,
      dimensionCount: pick(random, [0, 1, 2, 3, 4, 5, 2 ** 31]),
    })),
  offset: (random, plan) =>
    changeTensor(random, plan, (tensor) => ({
      ...tensor,
      offset: pick(random, [...SIZES, 96n, 4096n, 2n ** 64n - 32n]),
    })),
};

function changeEntry(
  random: SeededRandom,
  plan: GgufPlan,
  change: (entry: PlanEntry) => PlanEntry,
): GgufPlan {
  if (plan.entries.length === 0) return plan;
  const index = random.below(plan.entries.length);
  return { ...plan, entries: plan.entries.map((entry, at) => (at === index ? change(entry) : entry)) };
}

function changeTensor(
  random: SeededRandom,
  plan: GgufPlan,
  change: (tensor: PlanTensor, index: number) => PlanTensor,
): GgufPlan {
  if (plan.tensors.length === 0) return plan;
  const index = random.below(plan.tensors.length);
  return { ...plan, tensors: plan.tensors.map((tensor, at) => (at === index ? change(tensor, at) : tensor)) };
}
