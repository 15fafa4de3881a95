import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidArgumentError } from 'commander';
import { duration, integer, number } from './option-values.ts';

const refuses = (parse: (text: string) => unknown, texts: readonly string[]) => {
  for (const text of texts) assert.throws(() => parse(text), InvalidArgumentError, JSON.stringify(text));
};

test('durations', () => {
  assert.equal(duration('never'), Number.POSITIVE_INFINITY);
  assert.equal(duration('0'), 0);
  assert.equal(duration('0s'), 0);
  assert.equal(duration('30s'), 30_000);
  assert.equal(duration('5m'), 300_000);
  assert.equal(duration('240h'), 864_000_000);
  refuses(duration, ['', '5', '-1s', '1.5m', '5 m', '5M', '1d', '241h', '999999h', 'forever', '1e3s']);
});

test('numbers', () => {
  assert.equal(number(0, 2)('1.5'), 1.5);
  refuses(number(0, 2), ['', ' ', 'x', '2.1', '-0.1', 'NaN', 'Infinity']);
  assert.equal(integer(1, 64)('64'), 64);
  refuses(integer(1, 64), ['', '0', '65', '1.5', '+1', '0x10', '1e1']);
});
