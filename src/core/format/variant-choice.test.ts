import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Digest } from '../base/digest.ts';
import { ANNOTATION, MEDIA_TYPE } from './oci.ts';
import { chooseVariant, largestThatFits, type VariantFacts, variantFacts } from './variant-choice.ts';

const variant = (name: string, memoryBytes: number, rest: Partial<VariantFacts> = {}): VariantFacts => ({
  name,
  quantization: name.toUpperCase(),
  memoryBytes,
  isSealed: false,
  cpuFeatures: [],
  needsGpu: false,
  ...rest,
});

const FAMILY = [variant('q4_0', 400), variant('f16', 1600), variant('q8_0', 800)];

test('the largest that fits, with a reason for each', () => {
  const { chosen, isTight, verdicts } = chooseVariant(FAMILY, { memoryBytesMax: 1000 }, 'acme/triage');
  assert.equal(chosen.name, 'q8_0');
  assert.equal(isTight, false);
  assert.deepEqual(
    verdicts.map(({ kind, variant: { name } }) => [name, kind]),
    [
      ['f16', 'too-large'],
      ['q8_0', 'chosen'],
      ['q4_0', 'smaller'],
    ],
  );
});

test('exactly as much as there is fits', () => {
  assert.equal(chooseVariant(FAMILY, { memoryBytesMax: 1600 }, 'x').chosen.name, 'f16');
  assert.equal(chooseVariant(FAMILY, { memoryBytesMax: 1599 }, 'x').chosen.name, 'q8_0');
});

test('where nothing fits, the smallest, and it is said', () => {
  const { chosen, isTight } = chooseVariant(FAMILY, { memoryBytesMax: 10 }, 'x');
  assert.equal(chosen.name, 'q4_0');
  assert.equal(isTight, true);
});

test('of two that need the same, the first', () => {
  const twins = [variant('a', 100), variant('b', 100)];
  assert.equal(chooseVariant(twins, { memoryBytesMax: 1000 }, 'x').chosen.name, 'a');
  assert.equal(chooseVariant(twins, { memoryBytesMax: 1 }, 'x').chosen.name, 'a');
});

test('what the machine lacks is passed over, and named', () => {
  const family = [
    variant('fast', 900, { cpuFeatures: ['avx2', 'amx_tile'] }),
    variant('cuda', 800, { needsGpu: true }),
    ...FAMILY,
  ];
  const machine = { memoryBytesMax: 1000, cpuFeatures: new Set(['avx2']), hasGpu: false };
  const { chosen, verdicts } = chooseVariant(family, machine, 'x');
  assert.equal(chosen.name, 'q8_0');
  assert.deepEqual(
    verdicts.flatMap((verdict) => (verdict.kind === 'unsupported' ? [verdict.missing] : [])),
    [['amx_tile'], ['a GPU']],
  );
  assert.throws(() => chooseVariant(family.slice(0, 2), machine, 'acme/triage'), {
    code: 'PLATFORM_UNSUPPORTED',
    message: /no variant of acme\/triage: fast needs amx_tile; cuda needs a GPU/,
  });
  assert.throws(() => chooseVariant([], machine, 'x'), { code: 'MODEL_NOT_FOUND' });
});

test('the rule alone: nothing larger fits than what is chosen', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1000), { minLength: 1 }), fc.nat(1000), (sizes, limit) => {
      const items = sizes.map((memoryBytes) => ({ memoryBytes }));
      const { memoryBytes } = largestThatFits(items, limit) ?? { memoryBytes: -1 };
      const fitting = sizes.filter((size) => size <= limit);
      assert.equal(memoryBytes, fitting.length > 0 ? Math.max(...fitting) : Math.min(...sizes));
    }),
  );
  assert.equal(largestThatFits([], 1), undefined);
});

test('facts from annotations that a copy tool or a liar has rewritten', () => {
  const entry = (annotations?: Record<string, string>) => ({
    mediaType: MEDIA_TYPE.manifest,
    digest: Digest.of('x'),
    size: 1,
    ...(annotations === undefined ? {} : { annotations }),
  });
  assert.equal(variantFacts(entry()), undefined);
  for (const text of ['-5', 'NaN', 'Infinity', '', 'many']) {
    const facts = variantFacts(entry({ [ANNOTATION.variant]: 'q4', [ANNOTATION.memoryBytes]: text }));
    assert.equal(facts?.memoryBytes, 0, text);
  }
  assert.deepEqual(
    variantFacts(
      entry({
        [ANNOTATION.variant]: 'q4',
        [ANNOTATION.memoryBytes]: '12',
        [ANNOTATION.sealed]: 'true',
        [ANNOTATION.cpuFeatures]: 'avx2,fma',
        [ANNOTATION.gpu]: 'required',
        [ANNOTATION.quantization]: 'Q4_0',
      }),
    ),
    {
      name: 'q4',
      quantization: 'Q4_0',
      memoryBytes: 12,
      isSealed: true,
      cpuFeatures: ['avx2', 'fma'],
      needsGpu: true,
    },
  );
});
