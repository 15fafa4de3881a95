import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BRACKETS_MAX, NAMES_MAX, parseRequestJson } from './request-json.ts';

const BYTES_MAX = 1 << 23;
const namesOf = (count: number) => Array.from({ length: count }, (_, index) => `"${index}":1`).join();
const parse = (text: string) => parseRequestJson(Buffer.from(text), BYTES_MAX);

test('a good body is what JSON.parse makes of it', () => {
  const text = '{"a":[1,2.5,-3e2,"\\u00e9\\n"],"b":{"c":null,"d":[[],{}]}}';
  assert.deepEqual(parse(text), JSON.parse(text));
});

test('two objects with as many names as one may have are read', () => {
  const one = `{${namesOf(NAMES_MAX)}}`;
  assert.deepEqual(parse(`[${one},${one}]`), JSON.parse(`[${one},${one}]`));
});

test('a wrong body is refused with the place of the mistake', () => {
  const cases: readonly [string, RegExp][] = [
    ['', /Unexpected end/],
    ['{"a":1,}', /position 7/],
    ['{"a":1', /position 6/],
    ["{'a':1}", /position 1/],
    ['{"a":tru}', /"\{"a":tru\}" is not valid JSON/],
    ['{"a":1,"a":2}', /"a" a second time at character 7/],
    ['{"__proto__":1}', /__proto__/],
    ['"\\ud800"', /surrogate/],
    ['[1e999]', /double/],
    ['[9007199254740993]', /double/],
    [`${'['.repeat(65)}${']'.repeat(65)}`, /deeper than 64/],
    [`[${'{},'.repeat(BRACKETS_MAX)}1]`, /brackets, at most/],
    [`{"logit_bias":{${namesOf(NAMES_MAX + 1)}}}`, /an object with more than 8192 names at character/],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parse(text), { code: 'REQUEST_INVALID', message }, text.slice(0, 40));
  }
  assert.throws(() => parseRequestJson(Buffer.from([0x22, 0xff, 0x22]), BYTES_MAX), /UTF-8/);
});

test('large bodies of the worst shapes are read or refused in a moment', () => {
  const length = 4 << 20;
  const shapes = [
    '['.repeat(length),
    `"${'a'.repeat(length)}"`,
    `"${'\\"'.repeat(length / 2)}"`,
    '9'.repeat(length),
    `0.${'9'.repeat(length)}`,
    `[${'1,'.repeat(length / 2)}1]`,
    `"${'\\'.repeat(length)}`,
    ' '.repeat(length),
  ];
  for (const text of shapes) {
    const startMs = performance.now();
    try {
      parse(text);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'REQUEST_INVALID', text.slice(0, 10));
    }
    const durationMs = performance.now() - startMs;
    assert.ok(durationMs < 3000, `${text.slice(0, 10)}… took ${Math.round(durationMs)} ms`);
  }
});
