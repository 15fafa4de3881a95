import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { matchesGbnf, walkGbnf } from '../../../tests/fixtures/gbnf-walk.ts';
import { seededRandom } from '../../../tests/fixtures/random.ts';
import { parseGbnf } from './gbnf-parser.ts';
import { compileJsonSchema } from './json-schema.ts';

const rulesOf = (schema: Record<string, unknown>) => parseGbnf(compileJsonSchema(schema));

test('integers: exactly those of the range, whatever its ends', () => {
  const end = fc.oneof(fc.integer({ min: -130, max: 130 }), fc.integer({ min: -2_000, max: 2_000 }));
  fc.assert(
    fc.property(end, fc.nat(1_200), (low, width) => {
      const high = low + width;
      const rules = rulesOf({ type: 'integer', minimum: low, maximum: high });
      for (let value = low - 12; value <= high + 12; value += 1 + Math.floor(width / 150)) {
        assert.equal(
          matchesGbnf(rules, String(value)),
          value >= low && value <= high,
          `${value} in ${low}…${high}`,
        );
      }
      for (const value of [low, high]) assert.ok(matchesGbnf(rules, String(value)));
      for (const value of [low - 1, high + 1]) assert.ok(!matchesGbnf(rules, String(value)));
      for (const text of ['-0', '00', '01', '+1', '1.0', '1e1', '-', ''])
        assert.ok(!matchesGbnf(rules, text), text);
    }),
    { seed: 1, numRuns: 150 },
  );
});

test('integers with one end, none, or ends that are no integers', () => {
  const cases: [schema: Record<string, number>, fits: string[], fails: string[]][] = [
    [
      {},
      ['0', '-1', '999999999999999999', '-999999999999999999'],
      ['1000000000000000000', '-0', '01', '1.5'],
    ],
    [{ minimum: 0 }, ['0', '7', '999999999999999999'], ['-1', '-0']],
    [{ exclusiveMinimum: 0 }, ['1', '10'], ['0', '-1']],
    [{ maximum: -10 }, ['-10', '-11', '-100'], ['-9', '0', '10', '-1']],
    [{ minimum: 0.5, maximum: 3.5 }, ['1', '3'], ['0', '4']],
    [{ minimum: -3.5, exclusiveMaximum: -1 }, ['-3', '-2'], ['-4', '-1']],
    [
      { minimum: 0, maximum: 2 ** 64 - 1 },
      ['18446744073709551615'],
      ['18446744073709551616', '99999999999999999999'],
    ],
    [
      { minimum: 10 ** 19 },
      ['10000000000000000000', '99999999999999999999'],
      ['9999999999999999999', '100000000000000000000'],
    ],
    [{ maximum: 1e300 }, ['99999999999999999999'], ['100000000000000000000']],
    // The next double behind 2^53 is two away: 2^53 + 1 would be read as the bound itself.
    [{ exclusiveMinimum: 2 ** 53 }, ['9007199254740994'], ['9007199254740992', '9007199254740993']],
  ];
  for (const [bounds, fits, fails] of cases) {
    const rules = rulesOf({ type: 'integer', ...bounds });
    for (const text of fits) assert.ok(matchesGbnf(rules, text), `${JSON.stringify(bounds)} ${text}`);
    for (const text of fails) assert.ok(!matchesGbnf(rules, text), `${JSON.stringify(bounds)} ${text}`);
  }
  assert.throws(() => compileJsonSchema({ type: 'integer', minimum: 1e21 }), {
    code: 'SCHEMA_NOT_SUPPORTED',
  });
});

test('numbers: exactly the decimals between the ends', () => {
  const end = fc.oneof(
    fc.integer({ min: -40, max: 40 }),
    fc.integer({ min: -3_000, max: 3_000 }).map((value) => value / 100),
  );
  const decimal = fc.integer({ min: -4_000, max: 4_000 }).map((value) => value / 100);
  fc.assert(
    fc.property(
      end,
      fc.nat(2_000),
      fc.boolean(),
      fc.boolean(),
      fc.array(decimal, { minLength: 30, maxLength: 30 }),
      (low, width, isLowOpen, isHighOpen, values) => {
        const high = Number((low + (width + 1) / 100).toFixed(2));
        const rules = rulesOf({
          type: 'number',
          [isLowOpen ? 'exclusiveMinimum' : 'minimum']: low,
          [isHighOpen ? 'exclusiveMaximum' : 'maximum']: high,
        });
        const isIn = (value: number) =>
          (isLowOpen ? value > low : value >= low) && (isHighOpen ? value < high : value <= high);
        const near = [low, high].flatMap((value) =>
          [-0.01, -0.001, 0, 0.001, 0.01].map((step) => Number((value + step).toFixed(3))),
        );
        for (const value of [...values, ...near]) {
          assert.equal(matchesGbnf(rules, JSON.stringify(value)), isIn(value), `${value} in ${low}…${high}`);
        }
      },
    ),
    { seed: 2, numRuns: 200 },
  );
});

test('no text that is written is read back as a number outside of the range', () => {
  const end = fc.oneof(
    fc.double({ min: -1e6, max: 1e6, noNaN: true }),
    fc.double({ min: -1e-6, max: 1e-6, noNaN: true }),
    fc.double({ min: -1e19, max: 1e19, noNaN: true }),
    fc.constantFrom(0, 0.1, 0.30000000000000004, 1 / 3, 123456.7, 2 ** 53, 1e15, 5e-324, -1e-15),
  );
  let written = 0;
  fc.assert(
    fc.property(end, end, fc.boolean(), fc.integer(), (one, other, isOpen, seed) => {
      const [low, high] = one < other ? [one, other] : [other, one];
      const schema = isOpen
        ? { exclusiveMinimum: low, exclusiveMaximum: high }
        : { minimum: low, maximum: high };
      for (const type of ['integer', 'number']) {
        let rules: ReturnType<typeof rulesOf>;
        try {
          rules = rulesOf({ type, ...schema });
        } catch {
          continue;
        }
        for (let round = 0; round < 8; round++) {
          const value = Number(walkGbnf(rules, seededRandom(seed + round)));
          written++;
          assert.ok(
            isOpen ? value > low && value < high : value >= low && value <= high,
            `${value} in ${low}…${high}`,
          );
        }
      }
    }),
    { seed: 3, numRuns: 300 },
  );
  assert.ok(written > 2_000, `${written}`);
});

test('numbers are decimals without exponent', () => {
  const rules = rulesOf({ type: 'number' });
  for (const text of ['0', '-1', '1.5', '0.000000000000001', '999999999999999999.5', '1.50'])
    assert.ok(matchesGbnf(rules, text), text);
  for (const text of ['1e5', '.5', '1.', '01', '+1', '0.0000000000000001', 'NaN', '-'])
    assert.ok(!matchesGbnf(rules, text), text);
});
