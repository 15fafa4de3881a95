import { ggufBigints, ggufNumbers, ggufStrings } from '../../src/core/format/gguf/gguf-array.ts';
import type { GgufValue } from '../../src/core/format/gguf/gguf-types.ts';
import { ggufValue } from '../../src/core/format/gguf/gguf-values.ts';
import type { SeededRandom } from '../fixtures/random.ts';
import { raw } from '../fixtures/raw-gguf.ts';
import { type GgufPlan, keyOf, type PlanEntry, type PlanValue, planValue } from './gguf-plan.ts';

/** One way to break a file, or to make it odd; gives the plan back where it does not apply. */
export type Change = (random: SeededRandom, plan: GgufPlan) => GgufPlan;

export function pick<T>(random: SeededRandom, choices: readonly T[]): T {
  return choices[random.below(choices.length)] as T;
}

/** Numbers at which arithmetic goes wrong, and sizes that small models have. */
export const SIZES = [
  ...[0n, 1n, 2n, 3n, 4n, 7n, 8n, 31n, 32n, 33n, 63n, 64n, 65n, 128n, 255n, 283n, 511n, 512n, 513n],
  ...[
    2n ** 15n,
    2n ** 16n,
    2n ** 20n,
    2n ** 24n,
    2n ** 27n,
    2n ** 31n - 1n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
  ],
  ...[
    2n ** 40n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 61n + 1n,
    2n ** 63n - 1n,
    2n ** 63n,
    2n ** 64n - 8n,
    2n ** 64n - 1n,
  ],
] as const;
const FLOATS = [0, -0, 1, -1, 0.5, 1e-45, 1e-5, 1e38, 10_000, Number.NaN, Number.POSITIVE_INFINITY, -1e38];
const SMALL = SIZES.filter((size) => size < 1024n);

export const ODD_TEXTS: readonly (string | Buffer)[] = [
  '',
  'x',
  'general.architecture',
  'é',
  'a\0b',
  Buffer.of(0xff, 0xfe),
  Buffer.of(0xc3),
  'x'.repeat(63),
  'x'.repeat(64),
  'x'.repeat(1024),
  'x'.repeat(1025),
  'x'.repeat(65_535),
  'x'.repeat(70_000),
  '../../etc/passwd',
  '\u001b[31m',
];

/** Any value that a key could hold. */
export function anyValue(random: SeededRandom): PlanValue {
  const size = pick(random, SIZES);
  const length = pick(random, [0, 1, 2, 3, 4, 511, 512, 513]);
  const list = <T>(element: () => T): T[] => Array.from({ length }, element);
  const makers: readonly (() => GgufValue)[] = [
    () => ggufValue.number('uint32', Number(BigInt.asUintN(32, size))),
    () => ggufValue.number('int32', Number(BigInt.asIntN(32, size))),
    () => ggufValue.number('uint8', Number(BigInt.asUintN(8, size))),
    () => ggufValue.number('int8', Number(BigInt.asIntN(8, size))),
    () => ggufValue.number('uint16', Number(BigInt.asUintN(16, size))),
    () => ggufValue.bigint('uint64', size),
    () => ggufValue.bigint('int64', size),
    () => ggufValue.number('float32', pick(random, FLOATS)),
    () => ggufValue.number('float64', pick(random, FLOATS)),
    () => ggufValue.boolean(random.below(2) === 1),
    () => ggufValue.string(pick(random, ['', 'x', 'llama', 'linear', 'yarn', 'none', 'mean', 'gelu'])),
    () =>
      ggufValue.array(
        ggufNumbers(
          'uint32',
          list(() => Number(pick(random, SMALL))),
        ),
      ),
    () =>
      ggufValue.array(
        ggufNumbers(
          'int32',
          list(() => random.below(6) - 1),
        ),
      ),
    () =>
      ggufValue.array(
        ggufNumbers(
          'float32',
          list(() => pick(random, FLOATS)),
        ),
      ),
    () =>
      ggufValue.array(
        ggufNumbers(
          'uint8',
          list(() => random.below(256)),
        ),
      ),
    () =>
      ggufValue.array(
        ggufBigints(
          'uint64',
          list(() => pick(random, SIZES)),
        ),
      ),
    () => ggufValue.array(ggufStrings(list(() => `t${random.below(9)}`))),
  ];
  return planValue(pick(random, makers)());
}

/** A number that a small model might have there. */
export function smallNumber(random: SeededRandom): PlanValue {
  return planValue(ggufValue.number('uint32', Number(pick(random, SMALL))));
}

export function withKey(plan: GgufPlan, key: string, value: PlanValue): GgufPlan {
  const entry: PlanEntry = { key: Buffer.from(key, 'latin1'), value };
  const has = plan.entries.some((other) => keyOf(other) === key);
  const entries = has
    ? plan.entries.map((other) => (keyOf(other) === key ? entry : other))
    : [...plan.entries, entry];
  return { ...plan, entries };
}

/** A list with one element less, one twice, or one elsewhere. */
export function moveElement<T>(
  random: SeededRandom,
  list: readonly T[],
  mode: 'drop' | 'double' | 'move',
): T[] {
  const copy = [...list];
  if (copy.length === 0) return copy;
  const from = random.below(copy.length);
  const [element] = mode === 'double' ? copy.slice(from, from + 1) : copy.splice(from, 1);
  if (mode !== 'drop') copy.splice(random.below(copy.length + 1), 0, element as T);
  return copy;
}

/** A list, or a number, text or flag in another form. */
export function changedValue(random: SeededRandom, value: PlanValue): PlanValue {
  if (value.kind === 'text') {
    const bytes = Buffer.from(pick(random, ODD_TEXTS));
    return random.below(3) === 0 ? { ...value, length: pick(random, SIZES) } : { kind: 'text', bytes };
  }
  if (value.kind === 'plain') {
    if (random.below(2) === 0) return anyValue(random);
    return { ...value, bytes: borderNumber(random, value.bytes.length) };
  }
  const kind = random.below(6);
  if (kind === 0) return { ...value, count: pick(random, SIZES) };
  if (kind === 1) return { ...value, elementType: random.below(14) };
  if (kind === 2)
    return { ...value, elementType: 9, elements: value.elements.map((element) => raw.array(8, 1, element)) };
  if (kind === 3)
    return { ...value, elements: value.elements.slice(0, random.below(value.elements.length + 1)) };
  if (kind === 4) return { ...value, elements: moveElement(random, value.elements, 'double') };
  const odd = value.elementType === 8 ? raw.text(pick(random, ODD_TEXTS)) : undefined;
  const index = random.below(Math.max(1, value.elements.length));
  const change = (element: Buffer) => odd ?? borderNumber(random, element.length);
  return {
    ...value,
    elements: value.elements.map((element, at) => (at === index ? change(element) : element)),
  };
}

function borderNumber(random: SeededRandom, widthBytes: number): Buffer {
  return raw.uint64(pick(random, SIZES)).subarray(0, widthBytes);
}
