import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alternate, bestOf, median, type Sample, withScope } from '../bench/benchmark.ts';
import { type Section, withSection } from '../bench/results-page.ts';

const section = (name: string, ours: string, ratio = 1): Section => ({
  name,
  title: `Title of ${name}`,
  how: 'How.',
  moment: 'Today',
  rows: [
    {
      what: 'a | b',
      ours,
      peer: '2 ms',
      ratio: { median: ratio, least: 0.5, most: 2 },
      wanted: { kind: 'at-most', value: 1.1 },
    },
  ],
});

test('a run replaces its own table and nothing else', () => {
  const page =
    '# Measurements\n\nBy hand, before.\n\n<!-- measured: a -->\n<!-- end measured -->\n\nBy hand, after.\n';
  const first = withSection(page, section('a', '1 ms'));
  assert.match(first, /By hand, before\.\n\n<!-- measured: a -->\n\n## Title of a/);
  assert.match(first, /<!-- end measured -->\n\nBy hand, after\.\n$/);
  const both = withSection(first, section('b', '3 ms'));
  assert.ok(both.indexOf('measured: a') < both.indexOf('measured: b'));
  assert.match(both, /By hand, after\.\n$/);
  const again = withSection(both, section('a', '7 ms', 1.2));
  assert.ok(!again.includes('1 ms |'));
  assert.match(
    again,
    /\| a \\\| b \| 7 ms \| 2 ms \| 1\.20 \(0\.50 – 2\.00\) \| ≤ 1\.1: \*\*not met\*\* \| – \|/,
  );
  assert.equal(withSection(again, section('a', '7 ms', 1.2)), again);
  assert.throws(() => withSection('<!-- measured: a -->', section('a', '1 ms')), /end measured/);
});

test('the sides alternate, and each round has its own ratio', async () => {
  const order: string[] = [];
  const side = (name: string, values: number[]) => async (): Promise<Sample> => {
    order.push(name);
    return { value: values.shift() ?? Number.NaN, cpuSeconds: 0 };
  };
  const { ratio } = await alternate(3, side('ours', [10, 20, 90]), side('peer', [10, 40, 30]));
  assert.deepEqual(order, ['ours', 'peer', 'ours', 'peer', 'ours', 'peer']);
  assert.deepEqual(ratio, { median: 1, least: 0.5, most: 3 });
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(await bestOf([1, 2, 3], 'higher', async (value) => -((value - 2) ** 2)), 2);
  assert.equal(await bestOf([1, 2, 3], 'lower', async (value) => value), 1);
});

test('clean-up runs last first, also after a failure', async () => {
  const order: number[] = [];
  const work = withScope(async (scope) => {
    scope.after(() => order.push(1));
    scope.after(async () => order.push(2));
    throw new Error('no');
  });
  await assert.rejects(work, /no/);
  assert.deepEqual(order, [2, 1]);
});
