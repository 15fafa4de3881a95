import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { randomStream } from './random-stream.ts';
import { Sampler } from './sampler.ts';
import { resolveSampling, SAMPLING_DEFAULTS } from './sampling.ts';
import {
  cutMinP,
  cutTopK,
  cutTopP,
  draw,
  everyToken,
  indexOfLargest,
  logSumExp,
} from './token-candidates.ts';

const NEUTRAL = { ...SAMPLING_DEFAULTS, temperature: 1, topP: 1, topK: 0, minP: 0 };

const logitsOf = fc
  .array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 300 })
  .map((values) => Float32Array.from(values));

function probabilities(logits: Float32Array): Float64Array {
  const normaliser = logSumExp(logits);
  return Float64Array.from(logits, (logit) => Math.exp(logit - normaliser));
}

/** Pearson's statistic of `count` draws against the expected probabilities. */
function chiSquare(observed: readonly number[], expected: readonly number[], count: number): number {
  return expected.reduce((sum, probability, index) => {
    const wanted = probability * count;
    return sum + ((observed[index] ?? 0) - wanted) ** 2 / wanted;
  }, 0);
}

test('draws follow softmax(logits / temperature)', () => {
  const logits = Float32Array.from([2, 1, 0.5, 0, -1, -2]);
  for (const temperature of [0.5, 1, 1.7]) {
    const random = randomStream(20_240_101);
    const observed = new Array<number>(logits.length).fill(0);
    const draws = 40_000;
    for (let index = 0; index < draws; index++) {
      const token = draw(everyToken(logits), temperature, random);
      observed[token] = (observed[token] ?? 0) + 1;
    }
    const expected = [...probabilities(logits.map((logit) => logit / temperature))];
    // 0.999 quantile of chi-square with 5 degrees of freedom.
    const statistic = chiSquare(observed, expected, draws);
    assert.ok(statistic < 20.52, `temperature ${temperature}: chi-square ${statistic}`);
  }
});

test('the whole chain draws what its cuts leave, renormalised', () => {
  const logits = Float32Array.from([3, 2.5, 2, 1, 0, -1, -5]);
  const sampling = { ...NEUTRAL, topK: 4, topP: 0.9, temperature: 0.8 };
  const sampler = new Sampler(sampling, randomStream(7));
  const kept = cutTopK(logits, 4);
  const mass = probabilities(Float32Array.from(kept.logits));
  let count = 0;
  for (let sum = 0; sum < 0.9; count++) sum += mass[count] as number;
  const expected = [...probabilities(logits.slice(0, count).map((logit) => logit / 0.8))];
  const observed = new Array<number>(logits.length).fill(0);
  for (let index = 0; index < 20_000; index++) {
    const token = sampler.choose(logits);
    observed[token] = (observed[token] ?? 0) + 1;
  }
  assert.equal(
    observed.slice(count).reduce((sum, value) => sum + value, 0),
    0,
  );
  // 0.999 quantile with at most 3 degrees of freedom.
  assert.ok(chiSquare(observed, expected, 20_000) < 16.27);
});

test('top-p keeps the smallest likely set that reaches p, the crossing token included', () => {
  fc.assert(
    fc.property(logitsOf, fc.double({ min: 0.01, max: 0.999, noNaN: true }), (logits, topP) => {
      const all = probabilities(logits);
      const kept = cutTopP(logits, topP);
      const mass = [...kept.ids].reduce((sum, id) => sum + (all[id] as number), 0);
      const last = all[kept.ids.at(-1) as number] as number;
      assert.ok(mass >= topP - 1e-9);
      assert.ok(mass - last < topP + 1e-9, 'one token fewer must not be enough');
      const dropped = [...logits.keys()].filter((id) => !kept.ids.includes(id));
      for (const id of dropped) assert.ok((logits[id] as number) <= (kept.logits.at(-1) as number));
    }),
  );
});

test('top-p at an exact border: 0.5 of two equal tokens is one of them', () => {
  assert.deepEqual([...cutTopP(Float32Array.from([1, 1]), 0.5).ids], [0]);
  assert.deepEqual([...cutTopP(Float32Array.from([1, 1]), 0.51).ids], [0, 1]);
});

test('top-k keeps the k largest, falling, lower ids first among equals', () => {
  fc.assert(
    fc.property(logitsOf, fc.integer({ min: 1, max: 320 }), (logits, count) => {
      const kept = cutTopK(logits, count);
      const expected = [...logits.keys()]
        .sort((left, right) => (logits[right] as number) - (logits[left] as number) || left - right)
        .slice(0, count);
      assert.deepEqual([...kept.ids], expected);
      assert.deepEqual(
        [...kept.logits],
        expected.map((id) => logits[id]),
      );
    }),
  );
});

test('top-k above the insertion limit sorts the same', () => {
  const random = randomStream(3);
  const logits = Float32Array.from({ length: 3000 }, () => random() * 10);
  const expected = [...logits.keys()].sort(
    (left, right) => (logits[right] as number) - (logits[left] as number),
  );
  assert.deepEqual([...cutTopK(logits, 700).ids], expected.slice(0, 700));
});

test('min-p keeps what is at least p times as likely as the best', () => {
  const logits = Float32Array.from([0, Math.log(0.5), Math.log(0.11), Math.log(0.09)]);
  assert.deepEqual([...cutMinP(everyToken(logits), 0.1).ids], [0, 1, 2]);
  assert.deepEqual([...cutMinP(everyToken(logits), 0).ids], [0, 1, 2, 3]);
  assert.deepEqual([...cutMinP(everyToken(logits), 1).ids], [0]);
});

test('log-sum-exp neither overflows nor loses the small ones', () => {
  assert.equal(logSumExp(Float32Array.from([1000, 1000])), 1000 + Math.log(2));
  assert.ok(
    Math.abs(logSumExp(Float32Array.from([-1000, -1001])) - (-1000 + Math.log(1 + Math.exp(-1)))) < 1e-12,
  );
  fc.assert(
    fc.property(logitsOf, (logits) => {
      const total = probabilities(logits).reduce((sum, value) => sum + value, 0);
      assert.ok(Math.abs(total - 1) < 1e-12);
    }),
  );
});

test('temperature 0 takes the best token, the lowest id among equals, and ignores every cut', () => {
  const logits = Float32Array.from([1, 5, 5, 2]);
  const sampler = new Sampler({ ...NEUTRAL, temperature: 0, topK: 3, topP: 0.01 }, () =>
    assert.fail('no randomness'),
  );
  assert.equal(sampler.choose(logits), 1);
  assert.equal(indexOfLargest(Float32Array.from([Number.NEGATIVE_INFINITY, -3])), 1);
});

test('presence and frequency penalties count generated tokens only', () => {
  const logits = Float32Array.from([5, 4.5, 0]);
  const greedy = { ...NEUTRAL, temperature: 0 };
  const sampler = new Sampler({ ...greedy, frequencyPenalty: 0.3 }, randomStream(1), [0, 0, 0, 0, 0, 0]);
  // 5 → 4.7 → 4.4, then 4.5 is the best.
  assert.deepEqual([sampler.choose(logits), sampler.choose(logits), sampler.choose(logits)], [0, 0, 1]);
  const present = new Sampler({ ...greedy, presencePenalty: 0.6 }, randomStream(1));
  // Once each: 5 − 0.6 against 4.5, then 4.5 − 0.6 against 4.4; no more after that.
  assert.deepEqual(
    [0, 0, 0, 0].map(() => present.choose(logits)),
    [0, 1, 0, 0],
  );
});

test('the repeat penalty looks at the prompt too, and divides positive and multiplies negative logits', () => {
  const greedy = { ...NEUTRAL, temperature: 0, repeatPenalty: 2 };
  assert.equal(new Sampler(greedy, randomStream(1), [0]).choose(Float32Array.from([3, 2])), 1);
  assert.equal(new Sampler(greedy, randomStream(1), [0]).choose(Float32Array.from([-1, -1.5])), 1);
  const farAway = [0, ...new Array<number>(64).fill(5)];
  assert.equal(
    new Sampler(greedy, randomStream(1), farAway).choose(Float32Array.from([3, 2, 0, 0, 0, 0])),
    0,
  );
});

test('a logit bias moves a token; one of −100 forbids it', () => {
  const logits = Float32Array.from([5, 4]);
  assert.equal(
    new Sampler({ ...NEUTRAL, temperature: 0, logitBias: { 1: 2 } }, randomStream(1)).choose(logits),
    1,
  );
  const sampler = new Sampler({ ...NEUTRAL, logitBias: { 0: -100 } }, randomStream(1));
  for (let index = 0; index < 200; index++) assert.equal(sampler.choose(logits), 1);
  assert.deepEqual([...logits], [5, 4], 'the raw logits are not written to');
});

test('the same seed gives the same tokens, another seed others', () => {
  const logits = Float32Array.from({ length: 50 }, (_, index) => Math.sin(index));
  const tokens = (seed: number) => {
    const sampler = new Sampler(NEUTRAL, randomStream(seed));
    return Array.from({ length: 30 }, () => sampler.choose(logits));
  };
  assert.deepEqual(tokens(42), tokens(42));
  assert.notDeepEqual(tokens(42), tokens(43));
});

test('random numbers are uniform and in [0, 1)', () => {
  const random = randomStream(99);
  const bins = new Array<number>(16).fill(0);
  for (let index = 0; index < 64_000; index++) {
    const value = random();
    assert.ok(value >= 0 && value < 1);
    const bin = Math.floor(value * 16);
    bins[bin] = (bins[bin] ?? 0) + 1;
  }
  // 0.999 quantile with 15 degrees of freedom.
  assert.ok(chiSquare(bins, new Array<number>(16).fill(1 / 16), 64_000) < 37.7);
});

test('sampling parameters: request over package over engine; out of range is refused by name', () => {
  const merged = resolveSampling({ topK: 5 }, { topK: 9, temperature: 0.1 });
  assert.equal(merged.topK, 5);
  assert.equal(merged.temperature, 0.1);
  assert.equal(merged.topP, SAMPLING_DEFAULTS.topP);
  for (const [parameters, name] of [
    [{ temperature: -1 }, 'temperature'],
    [{ temperature: Number.NaN }, 'temperature'],
    [{ topP: 1.5 }, 'topP'],
    [{ topK: 1.5 }, 'topK'],
    [{ minP: -0.1 }, 'minP'],
    [{ seed: 2 ** 32 }, 'seed'],
    [{ logitBias: { 7: 101 } }, 'logitBias[7]'],
  ] as const) {
    assert.throws(
      () => resolveSampling(parameters),
      (error: Error & { code?: string }) =>
        error.code === 'REQUEST_INVALID' && error.message.startsWith(name),
    );
  }
});
