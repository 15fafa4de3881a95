import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseStrictJson, type StrictJsonOptions } from './strict-json.ts';

const OPTIONS: StrictJsonOptions = {
  label: 'x.json',
  code: 'MANIFEST_INVALID',
  bytesMax: 1 << 20,
  depthMax: 32,
};
const parse = (text: string, options = OPTIONS) => parseStrictJson(Buffer.from(text), options);
const refuses = (input: string | Uint8Array, message: RegExp, options = OPTIONS) =>
  assert.throws(() => parseStrictJson(Buffer.from(input), options), { code: 'MANIFEST_INVALID', message });

/** JSON values without what strict reading refuses. */
const plainValue = () =>
  fc
    .jsonValue({ maxDepth: 6, stringUnit: 'binary' })
    .filter((value) => !JSON.stringify(value).includes('"__proto__":'))
    .map((value) => JSON.parse(JSON.stringify(value)) as unknown)
    .filter((value) => hasOnlyExactNumbers(value));

function hasOnlyExactNumbers(value: unknown): boolean {
  if (typeof value === 'number') return !Number.isInteger(value) || Number.isSafeInteger(value);
  if (typeof value !== 'object' || value === null) return true;
  return Object.values(value).every(hasOnlyExactNumbers);
}

test('reads what JSON.parse reads, however it is spaced', () => {
  fc.assert(
    fc.property(plainValue(), fc.constantFrom(undefined, 1, 2, '\t'), (value, space) => {
      const text = JSON.stringify(value, undefined, space);
      assert.deepEqual(parse(text), JSON.parse(text));
    }),
    { numRuns: 1000 },
  );
});

test('accepts nothing that JSON.parse refuses, and gives the same value for what both accept', () => {
  const fragment = fc.constantFrom(
    ...[
      '{',
      '}',
      '[',
      ']',
      ':',
      ',',
      '"',
      '\\',
      '"a"',
      '"b"',
      '"\\u0061"',
      '1',
      '-',
      '.5',
      'e9',
      'true',
      'null',
      ' ',
      '\n',
      '\u00e9',
    ],
  );
  let accepted = 0;
  fc.assert(
    fc.property(fc.array(fragment, { maxLength: 9 }), (fragments) => {
      const text = fragments.join('');
      let value: unknown;
      try {
        value = parse(text);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'MANIFEST_INVALID');
        return;
      }
      accepted++;
      assert.deepEqual(value, JSON.parse(text));
    }),
    { numRuns: 20_000 },
  );
  assert.ok(accepted > 50, `${accepted} texts were accepted`);
});

test('refuses a name that one object has twice, also when it is written with escapes, and no other repetition', () => {
  refuses('{"a":1,"a":1}', /name "a" a second time at character 7/);
  refuses('{"x":[{"a" : 1 , "\\u0061"\n: 2}]}', /second time/);
  refuses('{"a":{"b":1},"a":[]}', /second time/);
  refuses('{"\\"":1,"\\u0022":2}', /second time/);
  assert.deepEqual(parse('{"a":{"a":["a","a",{"a":"a"}]},"b":{"a":1}}'), {
    a: { a: ['a', 'a', { a: 'a' }] },
    b: { a: 1 },
  });
  assert.deepEqual(parse('{"constructor":1,"toString":2}'), { constructor: 1, toString: 2 });
});

test('finds every duplicate that is planted at any depth', () => {
  fc.assert(
    fc.property(plainValue(), plainValue(), fc.string(), fc.nat({ max: 5 }), (first, second, name, depth) => {
      fc.pre(name !== '__proto__');
      const key = JSON.stringify(name);
      const object = `{${key}:${JSON.stringify(first)},"${'other'}${key.length}":0,${key}:${JSON.stringify(second)}}`;
      refuses('['.repeat(depth) + object + ']'.repeat(depth), /second time/);
    }),
  );
});

test('refuses __proto__ as a name, in any spelling, and allows it as a value', () => {
  refuses('{"__proto__":{"x":1}}', /__proto__/);
  refuses('{"a":{"\\u005f_proto__":1}}', /__proto__/);
  assert.deepEqual(parse('["__proto__"]'), ['__proto__']);
});

test('refuses bytes that are not UTF-8, a byte order mark and half characters', () => {
  refuses(Buffer.from([0x22, 0xff, 0x22]), /UTF-8/);
  refuses(Buffer.from([0x22, 0xc0, 0xaf, 0x22]), /UTF-8/);
  refuses('\uFEFF{}', /byte order mark/);
  refuses('"\\ud800"', /surrogate/);
  refuses('{"\\udc00x":1}', /surrogate/);
  assert.equal(parse('"\\ud83d\\ude00"'), '😀');
});

test('refuses numbers that become other numbers', () => {
  refuses('9007199254740992', /double/);
  refuses('[-9007199254740993]', /double/);
  refuses('{"a":1e400}', /double/);
  refuses('1e20', /double/);
  assert.deepEqual(parse('[9007199254740991,-9007199254740991,0.1,1e3,-0.0]'), [
    2 ** 53 - 1,
    1 - 2 ** 53,
    0.1,
    1000,
    -0,
  ]);
});

test('limits bytes and depth', () => {
  assert.deepEqual(parse('[[[]]]', { ...OPTIONS, depthMax: 3 }), [[[]]]);
  refuses('[[[]]]', /deeper than 2/, { ...OPTIONS, depthMax: 2 });
  refuses('['.repeat(500_000), /deeper than 32/);
  assert.equal(parse('12345', { ...OPTIONS, bytesMax: 5 }), 12345);
  refuses('12345', /5 bytes, at most 4/, { ...OPTIONS, bytesMax: 4 });
});

test('empty input, blanks and trailing text are no JSON', () => {
  for (const text of [
    '',
    ' ',
    '{} {}',
    '{}x',
    "{'a':1}",
    '{"a":1,}',
    'NaN',
    '01',
    '"\t"',
    '"abc',
    '"\\"',
    'undefined',
  ]) {
    refuses(text, /^x\.json: /);
  }
});

test('a text full of quotes, backslashes or names is read in proportion to its length', () => {
  const names = Array.from({ length: 40_000 }, (_, index) => `"n${index}":0`).join(',');
  const started = process.hrtime.bigint();
  parse(`{${names}}`);
  refuses(`"${'\\"'.repeat(500_000)}`, /without end/);
  refuses(`"${'\\'.repeat(1_000_000)}`, /without end/);
  refuses(`${'"" '.repeat(300_000)}`, /not JSON/);
  assert.ok(process.hrtime.bigint() - started < 5_000_000_000n);
});
