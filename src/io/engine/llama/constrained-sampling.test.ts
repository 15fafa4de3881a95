import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from '../../../core/base/errors.ts';
import { randomStream } from './random-stream.ts';
import { LIKELY_TOKENS, Sampler, type TokenConstraint } from './sampler.ts';
import { SAMPLING_DEFAULTS } from './sampling.ts';
import { logSumExp } from './token-candidates.ts';

const NEUTRAL = { ...SAMPLING_DEFAULTS, temperature: 1, topP: 1, topK: 0, minP: 0 };

/** Lets a fixed set of tokens through, and counts what it is asked. */
class FixedSet implements TokenConstraint {
  readonly asked = { one: 0, several: 0, all: 0 };
  readonly #fitting: ReadonlySet<number>;

  constructor(fitting: Iterable<number>) {
    this.#fitting = new Set(fitting);
  }

  allows(token: number): boolean {
    this.asked.one++;
    return this.#fitting.has(token);
  }

  allowedAmong(tokens: Int32Array): readonly number[] {
    this.asked.several++;
    return [...tokens.keys()].filter((place) => this.#fitting.has(tokens[place] as number));
  }

  mask(logits: Float32Array): void {
    this.asked.all++;
    for (const token of logits.keys())
      if (!this.#fitting.has(token)) logits[token] = Number.NEGATIVE_INFINITY;
    if (this.#fitting.size === 0) throw new FreeholdError('SCHEMA_NOT_SUPPORTED', 'none');
  }
}

/** Pearson's statistic against softmax over the fitting ones alone; also: nothing else is ever drawn. */
function chiSquareOfFitting(sampler: Sampler, logits: Float32Array, fitting: readonly number[]): number {
  const constraint = new FixedSet(fitting);
  const draws = 15_000;
  const observed = new Map<number, number>();
  for (let index = 0; index < draws; index++) {
    const token = sampler.choose(logits, constraint);
    assert.ok(fitting.includes(token));
    observed.set(token, (observed.get(token) ?? 0) + 1);
  }
  const normaliser = logSumExp(Float32Array.from(fitting, (token) => logits[token] as number));
  return fitting.reduce((sum, token) => {
    const wanted = draws * Math.exp((logits[token] as number) - normaliser);
    return sum + ((observed.get(token) ?? 0) - wanted) ** 2 / wanted;
  }, 0);
}

test('the constrained draw has exactly the distribution of what fits, few candidates or many', () => {
  // 0.999 quantile of chi-square with 4 degrees of freedom.
  const few = Float32Array.from([3, 2.5, 2, 1, 0.5, 0, -1, 4]);
  assert.ok(chiSquareOfFitting(new Sampler(NEUTRAL, randomStream(1)), few, [1, 3, 4, 5, 6]) < 18.47);
  const many = Float32Array.from({ length: 300 }, (_, token) => (token % 60 === 7 ? 2 - token / 150 : 1.5));
  const fitting = [7, 67, 127, 187, 247];
  assert.ok(chiSquareOfFitting(new Sampler(NEUTRAL, randomStream(2)), many, fitting) < 18.47);
});

test('what fits of the cuts comes; what they removed only where nothing of them fits', () => {
  const logits = Float32Array.from([5, 4.9, 4.8, 1, 0]);
  const sampling = { ...NEUTRAL, topK: 3, topP: 0.95 };
  const sampler = new Sampler(sampling, randomStream(3));
  for (let index = 0; index < 300; index++) {
    assert.equal(sampler.choose(logits, new FixedSet([2, 3, 4])), 2);
    assert.ok([3, 4].includes(sampler.choose(logits, new FixedSet([3, 4]))));
  }
});

test('temperature 0: the best one that fits, however far down; the vocabulary is asked about only then', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 1, maxLength: 300 }),
      fc.array(fc.nat(299), { minLength: 1 }),
      (values, set) => {
        const logits = Float32Array.from(values);
        const fitting = set.filter((token) => token < logits.length);
        if (fitting.length === 0) return;
        const constraint = new FixedSet(fitting);
        const sampler = new Sampler({ ...NEUTRAL, temperature: 0 }, () => assert.fail('no randomness'));
        const best = fitting.toSorted((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)[0];
        assert.equal(sampler.choose(logits, constraint), best);
        const order = [...logits.keys()].sort(
          (a, b) => (logits[b] as number) - (logits[a] as number) || a - b,
        );
        assert.equal(constraint.asked.all > 0, order.indexOf(best as number) >= LIKELY_TOKENS);
      },
    ),
  );
});

test('the first token drawn is the only one asked about when it fits', () => {
  const constraint = new FixedSet([0, 1, 2, 3]);
  new Sampler(SAMPLING_DEFAULTS, randomStream(4)).choose(Float32Array.from([1, 2, 3, 4]), constraint);
  assert.deepEqual(constraint.asked, { one: 1, several: 0, all: 0 });
});

test('a logit bias does not break the form: of forbidden tokens the best comes', () => {
  const logits = Float32Array.from({ length: 200 }, (_, token) => 20 - token / 10);
  const logitBias = { 198: -100, 199: -100 };
  for (const temperature of [0, 1]) {
    const sampler = new Sampler({ ...SAMPLING_DEFAULTS, temperature, topK: 1, logitBias }, randomStream(5));
    assert.equal(sampler.choose(logits, new FixedSet([198, 199])), 198);
  }
});

test('where nothing fits, the error of the constraint comes through; broken logits do not hang', () => {
  for (const sampling of [NEUTRAL, SAMPLING_DEFAULTS, { ...NEUTRAL, temperature: 0 }]) {
    const sampler = new Sampler(sampling, randomStream(6));
    assert.throws(() => sampler.choose(Float32Array.from([1, 2]), new FixedSet([])), {
      code: 'SCHEMA_NOT_SUPPORTED',
    });
    // Whatever comes of NaN is refused by whoever looks at its logit.
    assert.equal(typeof sampler.choose(new Float32Array(100).fill(Number.NaN)), 'number');
    const ruledOut = new Float32Array(100).fill(1).fill(Number.NEGATIVE_INFINITY, 3, 5);
    assert.throws(() => sampler.choose(ruledOut, new FixedSet([3, 4])), { code: 'ENGINE_FAILED' });
  }
});
