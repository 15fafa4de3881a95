import assert from 'node:assert/strict';
import { test } from 'node:test';
import { everyKindContent } from '../../../../tests/fixtures/small-gguf.ts';
import {
  arrayOfIntegers,
  arrayOfStrings,
  arrayValue,
  ggufValue,
  integerValue,
  numberValue,
  optionalArray,
  optionalBoolean,
  optionalInteger,
  optionalNumber,
  optionalString,
  stringValue,
} from './gguf-values.ts';

const file = { name: 'x.gguf', metadata: everyKindContent().metadata };
const invalid = (message: RegExp) => ({ code: 'GGUF_INVALID', message });

test('values come with the type that was asked for', () => {
  assert.equal(stringValue(file, 'general.architecture'), 'llama');
  assert.equal(integerValue(file, 'number.int16'), -32_768);
  assert.equal(integerValue(file, 'number.uint32'), 2 ** 32 - 1);
  assert.equal(numberValue(file, 'number.float32'), 0.5);
  assert.equal(numberValue(file, 'number.int8'), -128);
  assert.equal(optionalBoolean(file, 'flag'), true);
  assert.deepEqual(arrayOfIntegers(file, 'array.int32'), [1, -2, 3]);
  assert.equal(arrayOfStrings(file, 'array.strings').length, 40);
});

test('another type is refused, naming file, key and both types', () => {
  assert.throws(() => stringValue(file, 'flag'), invalid(/^x\.gguf: flag is bool instead of a string$/));
  assert.throws(() => optionalBoolean(file, 'number.uint8'), invalid(/is uint8 instead of a boolean/));
  assert.throws(() => integerValue(file, 'number.float32'), invalid(/is float32 instead of an integer/));
  assert.throws(() => integerValue(file, 'flag'), invalid(/is bool instead of an integer/));
  assert.throws(() => integerValue(file, 'number.uint64'), invalid(/is 18446744073709551615, beyond/));
  assert.throws(() => numberValue(file, 'array.int32'), invalid(/is an array of int32 instead/));
  assert.throws(
    () => arrayValue(file, 'array.int32', ['float32']),
    invalid(/is an array of int32 instead of an array of float32/),
  );
  assert.throws(() => arrayValue(file, 'flag', ['float32']), invalid(/is bool instead of an array/));
});

test('64-bit integers in the safe range are integers', () => {
  const metadata = new Map([['a', ggufValue.bigint('int64', -5n)]]);
  assert.equal(integerValue({ name: 'x', metadata }, 'a'), -5);
});

test('numbers that are not finite are refused', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const metadata = new Map([['a', ggufValue.number('float32', value)]]);
    assert.throws(() => numberValue({ name: 'x', metadata }, 'a'), { code: 'GGUF_INVALID' });
  }
});

test('what is missing is undefined or refused', () => {
  for (const optional of [optionalString, optionalInteger, optionalNumber, optionalBoolean]) {
    assert.equal(optional(file, 'nowhere'), undefined);
  }
  assert.equal(optionalArray(file, 'nowhere', ['string']), undefined);
  for (const required of [stringValue, integerValue, numberValue, arrayOfStrings, arrayOfIntegers]) {
    assert.throws(() => required(file, 'nowhere'), invalid(/^x\.gguf: nowhere is missing$/));
  }
});

test('elements of another kind are refused', () => {
  const strings = arrayValue(file, 'array.strings', ['string']);
  const integers = arrayValue(file, 'array.int32', ['int32']);
  assert.throws(() => strings.numberAt(0), invalid(/array of string where numbers/));
  assert.throws(() => integers.stringAt(0), invalid(/array of int32 where strings/));
  assert.throws(() => integers.bigintAt(0), invalid(/where 64-bit integers/));
  assert.throws(() => integers.booleanAt(0), invalid(/where booleans/));
  assert.throws(() => integers.numberAt(3), RangeError);
});
