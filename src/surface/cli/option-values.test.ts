import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidArgumentError } from 'commander';
import { byteCount, duration, integer, number } from './option-values.ts';

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

test('sizes of parts, as file systems and mail servers have them', () => {
  const sizes = ['4GiB-1', '700MB', '65536', '64KiB', '2GiB'].map(byteCount(65_536));
  assert.deepEqual(sizes, [4294967295, 700_000_000, 65_536, 65_536, 2 ** 31]);
  for (const text of ['', '4G', '0', '1KiB', '4GiB-', '-1', '1e9', '4 GiB', '9999999GiB', 'GiB']) {
    assert.throws(() => byteCount(65_536)(text), /a size of at least/, text);
  }
});
