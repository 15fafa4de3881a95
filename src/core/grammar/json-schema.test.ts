import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchesGbnf } from '../../../tests/fixtures/gbnf-walk.ts';
import type { JsonSchema } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import { requireGrammar } from './gbnf.ts';
import { parseGbnf } from './gbnf-parser.ts';
import { compileJsonSchema, JSON_OBJECT_GRAMMAR } from './json-schema.ts';

function grammarOf(schema: JsonSchema) {
  const gbnf = compileJsonSchema(schema);
  requireGrammar(gbnf);
  return parseGbnf(gbnf);
}

/** @param fits and @param fails JSON texts */
function check(schema: JsonSchema, fits: readonly string[], fails: readonly string[]): void {
  const rules = grammarOf(schema);
  for (const text of fits) assert.ok(matchesGbnf(rules, text), `must fit: ${text}`);
  for (const text of fails) assert.ok(!matchesGbnf(rules, text), `must not fit: ${text}`);
}

function refusal(schema: JsonSchema): FreeholdError {
  try {
    compileJsonSchema(schema);
  } catch (error) {
    assert.ok(error instanceof FreeholdError && error.code === 'SCHEMA_NOT_SUPPORTED', String(error));
    return error;
  }
  assert.fail(`compiled: ${JSON.stringify(schema).slice(0, 300)}`);
}

function refuses(schema: JsonSchema, path: string, message: RegExp): void {
  const error = refusal(schema);
  assert.equal(error.detail.path, path, error.message);
  assert.match(error.message, message);
  assert.ok(error.message.startsWith(`${path}: `), error.message);
}

test('types', () => {
  check({ type: 'null' }, ['null'], ['nul', 'true', '']);
  check({ type: 'boolean' }, ['true', 'false'], ['null', '"true"']);
  check({ type: ['string', 'null'] }, ['null', '"x"'], ['1', '{}']);
  check({ type: ['integer', 'number'] }, ['1', '1.5'], ['"1"']);
  for (const schema of [true, {}, { title: 'x', description: 'y' }]) {
    check(
      schema,
      ['1', '"x"', '{"a":[1,{}]}', '[]', 'null', '-0.5'],
      ['', '[1, 2]', '{a:1}', '01', '1.', 'x'],
    );
  }
});

test('annotations have no effect, and neither has what only other types heed', () => {
  const annotations = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: 'https://example.org/x',
    $comment: 'c',
    title: 't',
    description: 'd',
    default: 1,
    examples: [1],
    deprecated: true,
    readOnly: true,
    writeOnly: false,
    'x-order': 3,
  };
  check(
    { ...annotations, type: 'boolean', minimum: 3, minLength: 2, format: 'nowhere-known' },
    ['true'],
    ['3'],
  );
});

test('a schema without type means the types of which it says something', () => {
  check({ properties: { a: { type: 'null' } } }, ['{}', '{"a":null}'], ['1', '{"b":1}']);
  check({ minimum: 3 }, ['3'], ['2', '"x"']);
  check({ minLength: 1, maxItems: 0 }, ['"x"', '[]'], ['""', '[1]', '1']);
  check({ format: 'int32' }, ['1', '"x"'], []);
});

test('objects: order, required and optional members, commas for every subset', () => {
  const properties = { a: { const: 1 }, b: { const: 2 }, c: { const: 3 } };
  const all = [
    '{}',
    '{"a":1}',
    '{"b":2}',
    '{"c":3}',
    '{"a":1,"b":2}',
    '{"a":1,"c":3}',
    '{"b":2,"c":3}',
    '{"a":1,"b":2,"c":3}',
  ];
  const wrong = ['{"b":2,"a":1}', '{,}', '{"a":1,}', '{"a":2}', '{"d":1}', '{"a":1,"a":1}', '{ }'];
  check({ type: 'object', properties }, all, wrong);
  check({ type: 'object', properties, additionalProperties: false }, all, wrong);
  check(
    { type: 'object', properties, required: ['b'] },
    all.filter((text) => text.includes('b')),
    [...wrong, '{}', '{"a":1,"c":3}'],
  );
  check(
    { type: 'object', properties, required: ['c', 'a'] },
    ['{"a":1,"c":3}', '{"a":1,"b":2,"c":3}'],
    ['{"a":1}', '{"c":3,"a":1}'],
  );
  check({ type: 'object', properties: {} }, ['{}'], ['{"a":1}']);
  check(
    { type: 'object', properties, required: ['z'] },
    ['{"z":[]}', '{"a":1,"z":5}'],
    ['{}', '{"z":1,"a":1}'],
  );
});

test('additionalProperties: none, any, of a schema; never a named member a second time', () => {
  check({ type: 'object' }, ['{}', '{"x":1,"y":[{}]}', '{"\\u0041":1}'], ['{"x":1,}', '[]']);
  check({ type: 'object', additionalProperties: false }, ['{}'], ['{"a":1}']);
  check(
    { type: 'object', additionalProperties: { type: 'integer' } },
    ['{}', '{"a":1,"b":2}'],
    ['{"a":"x"}'],
  );
  const mixed = {
    type: 'object',
    properties: { ab: { const: 0 }, '"': { const: 0 } },
    additionalProperties: { const: 1 },
  };
  check(
    mixed,
    [
      '{}',
      '{"ab":0}',
      '{"a":1}',
      '{"abc":1,"b":1}',
      '{"ab":0,"\\"":0,"":1,"\\n":1}',
      '{"\\"x":1}',
      '{"é😀":1}',
    ],
    ['{"ab":1}', '{"abc":0}', '{"\\u0061b":1}', '{"\\"":1}', '{"a":1,"ab":0}'],
  );
  check({ type: 'object', properties: { a: true }, additionalProperties: true }, ['{"a":1,"b":2}'], []);
});

test('minProperties and maxProperties', () => {
  const properties = Object.fromEntries(['a', 'b', 'c', 'd'].map((name) => [name, { const: 0 }]));
  const text = (names: string) => `{${[...names].map((name) => `"${name}":0`).join()}}`;
  const two = ['ab', 'ac', 'ad', 'bc', 'bd', 'cd'].map(text);
  const three = ['abc', 'abd', 'acd', 'bcd'].map(text);
  check(
    { properties, minProperties: 2, maxProperties: 3 },
    [...two, ...three],
    ['', 'a', 'd', 'abcd'].map(text),
  );
  check(
    { properties, required: ['d'], maxProperties: 2 },
    ['d', 'ad', 'cd'].map(text),
    ['', 'a', 'abd'].map(text),
  );
  check({ properties, minProperties: 4 }, [text('abcd')], three);
  check(
    { type: 'object', minProperties: 1, maxProperties: 2 },
    ['{"a":1}', '{"a":1,"b":2}'],
    ['{}', '{"a":1,"b":2,"c":3}'],
  );
  refuses({ type: 'object', minProperties: 2 }, '#', /minProperties.*twice the same/);
  refuses({ type: 'object', properties, minProperties: 5 }, '#', /fewer members/);
  refuses({ type: 'object', properties, required: ['a', 'b'], maxProperties: 1 }, '#', /more members/);
});

test('members with names of the prototype are members like any other', () => {
  const schema = JSON.parse(
    '{"type":"object","properties":{"__proto__":{"type":"integer"},"constructor":{"type":"null"}},"required":["__proto__","toString"]}',
  ) as JsonSchema;
  check(
    schema,
    ['{"__proto__":1,"constructor":null,"toString":{}}'],
    ['{}', '{"__proto__":null,"toString":1}'],
  );
  check(JSON.parse('{"const":{"__proto__":1}}') as JsonSchema, ['{"__proto__":1}'], ['{}']);
});

test('arrays', () => {
  check({ type: 'array' }, ['[]', '[1,"x",[]]'], ['[1,]', '[,1]', '[1 ,2]']);
  check({ items: { type: 'null' } }, ['[]', '[null,null]'], ['[1]']);
  check(
    { items: { type: 'null' }, minItems: 2, maxItems: 3 },
    ['[null,null]', '[null,null,null]'],
    ['[]', '[null]', '[null,null,null,null]'],
  );
  check({ type: 'array', maxItems: 0 }, ['[]'], ['[1]']);
  check({ type: 'array', items: false }, ['[]'], ['[1]']);
  check({ type: 'array', uniqueItems: true, maxItems: 1 }, ['[]', '[1]'], ['[1,1]']);
  check({ type: 'array', uniqueItems: false }, ['[1,1]'], []);
});

test('tuples', () => {
  const prefixItems = [{ const: 1 }, { const: 2 }];
  check({ prefixItems }, ['[]', '[1]', '[1,2]'], ['[2]', '[1,2,3]']);
  check({ prefixItems, items: { const: 3 } }, ['[]', '[1,2]', '[1,2,3,3]'], ['[3]', '[1,2,2]']);
  check({ prefixItems, items: false, minItems: 1 }, ['[1]', '[1,2]'], ['[]', '[1,2,3]']);
  check({ prefixItems, minItems: 3, maxItems: 4 }, ['[1,2,"x"]', '[1,2,{},[]]'], ['[1,2]', '[1,2,3,4,5]']);
  check({ prefixItems, items: { const: 3 }, maxItems: 1 }, ['[]', '[1]'], ['[1,2]']);
});

test('enum and const take any value, and respect the rest of the schema', () => {
  check(
    { enum: ['a', 'ab', 'b', 1, null, { x: [1] }] },
    ['"a"', '"ab"', '"b"', '1', 'null', '{"x":[1]}'],
    ['"abc"', '"', '2'],
  );
  check({ const: 'quote " and \\ and \n and é' }, ['"quote \\" and \\\\ and \\n and é"'], ['"x"']);
  check({ type: 'string', enum: ['a', 1, 'bcd'], maxLength: 2 }, ['"a"'], ['1', '"bcd"']);
  check({ enum: [1, 2, 3], const: 2 }, ['2'], ['1', '3']);
  check({ type: 'integer', enum: [1, 2.5, 10], minimum: 2 }, ['10'], ['1', '2.5']);
  check({ enum: [{ a: 1, b: 2 }, { b: 2, a: 1 }, [1], [1]] }, ['{"a":1,"b":2}', '[1]'], []);
  check({ enum: [-0, 1e21, 1e-7] }, ['0', '1e+21', '1e-7'], ['-0']);
  check({ type: 'boolean', const: true }, ['true'], ['false']);
  check(
    { type: 'object', properties: { a: { type: 'integer' } }, enum: [{ a: 1 }, { a: 'x' }] },
    ['{"a":1}'],
    ['{"a":"x"}'],
  );
});

test('strings: lengths count code points, escapes one each, pairs of surrogate escapes one', () => {
  const two = [
    '"ab"',
    '"é😀"',
    '"\\n\\""',
    '"\\u0041\\u00e9"',
    '"\\ud83d\\ude00\\uD83D\\uDE00"',
    '"\\/\\u0000"',
  ];
  check({ type: 'string', minLength: 2, maxLength: 2 }, two, ['"a"', '"abc"', '"\\ud83d\\ude00"', '""']);
  check(
    { type: 'string' },
    ['""', ...two],
    ['"\\ud83d"', '"\\ude00\\ud83d"', '"\n"', '"\\x41"', '"\u0001"', "'a'", '"\\u00g0"'],
  );
  check({ type: 'string', maxLength: 0 }, ['""'], ['"a"']);
});

test('long strings and arrays keep their exact lengths', () => {
  for (const [min, max] of [
    [0, 512],
    [0, 513],
    [511, 1025],
    [600, 600],
    [1024, 2000],
    [0, 1999],
    [3, 4096],
  ] as const) {
    const fits = [min, max, Math.ceil((min + max) / 2)].map((length) => `"${'x'.repeat(length)}"`);
    const fails = [max + 1, ...(min === 0 ? [] : [min - 1])].map((length) => `"${'x'.repeat(length)}"`);
    check({ type: 'string', minLength: min, maxLength: max }, fits, fails);
  }
  const items = (count: number) => `[${Array(count).fill('1').join()}]`;
  check(
    { items: { const: 1 }, minItems: 600, maxItems: 700 },
    [items(600), items(700)],
    [items(599), items(701)],
  );
  check(
    { type: 'string', minLength: 70, maxLength: 2 ** 31 },
    [`"${'x'.repeat(3000)}"`],
    [`"${'x'.repeat(69)}"`],
  );
});

test('$ref: to the root, definitions, any place; escapes; recursion', () => {
  const tree = {
    type: 'object',
    properties: { children: { type: 'array', items: { $ref: '#' } } },
    required: ['children'],
  };
  check(
    tree,
    ['{"children":[]}', '{"children":[{"children":[{"children":[]}]}]}'],
    ['{}', '{"children":[1]}'],
  );
  const list = {
    $ref: '#/$defs/a~1b%25',
    $defs: { 'a/b%': { properties: { next: { $ref: '#/$defs/a~1b%25' } } } },
  };
  check(list, ['{}', '{"next":{"next":{}}}'], ['{"next":1}']);
  check({ definitions: { n: { type: 'null' } }, items: { $ref: '#/definitions/n' } }, ['[null]'], ['[1]']);
  check({ properties: { a: { const: 1 }, b: { $ref: '#/properties/a' } } }, ['{"a":1,"b":1}'], ['{"b":2}']);
  check(
    {
      $id: 'https://x.example/s',
      items: { $ref: 'https://x.example/s#/$defs/n' },
      $defs: { n: { const: 1 } },
    },
    ['[1]'],
    ['[2]'],
  );
  check({ $ref: '#/$defs/n', minimum: 3, $defs: { n: { type: 'integer' } } }, ['3'], ['2', '3.5']);
  const mutual = {
    $ref: '#/$defs/even',
    $defs: {
      even: { anyOf: [{ type: 'null' }, { items: { $ref: '#/$defs/odd' }, minItems: 1, maxItems: 1 }] },
      odd: { items: { $ref: '#/$defs/even' }, minItems: 1, maxItems: 1 },
    },
  };
  check(mutual, ['null', '[[null]]', '[[[[null]]]]'], ['[null]']);
});

test('anyOf with and without company, allOf that can be put together', () => {
  check({ anyOf: [{ type: 'string' }, { type: 'integer' }] }, ['"x"', '1'], ['null', '1.5']);
  check({ type: 'integer', anyOf: [{ maximum: 3 }, { minimum: 7 }] }, ['3', '7', '-5'], ['4', '6']);
  check(
    {
      type: 'number',
      allOf: [{ minimum: 3 }, { exclusiveMinimum: 3 }, { maximum: 5 }, { type: ['integer', 'string'] }],
    },
    ['4', '5'],
    ['3', '6', '4.5'],
  );
  check({ type: 'number', allOf: [{ multipleOf: 1 }] }, ['4'], ['4.5']);
  const members = {
    allOf: [
      { properties: { a: { minimum: 0 } }, required: ['a'] },
      { properties: { a: { maximum: 1 }, b: { const: 0 } } },
    ],
  };
  check(members, ['{"a":0}', '{"a":1,"b":0}'], ['{"a":2}', '{"b":0}', '{"a":-1}']);
  check(
    {
      allOf: [
        { properties: { a: {} }, additionalProperties: false },
        { properties: { a: { const: 1 }, b: {} } },
      ],
    },
    ['{}', '{"a":1}'],
    ['{"b":1}', '{"a":2}'],
  );
  check(
    { allOf: [{ pattern: '^a' }, { pattern: 'z$' }, { maxLength: 3 }] },
    ['"az"', '"abz"'],
    ['"a"', '"abbz"'],
  );
  check({ anyOf: [false, { const: 1 }] }, ['1'], []);
  check({ properties: { a: false, b: { const: 1 } } }, ['{}', '{"b":1}'], ['{"a":1}']);
  const cases = {
    properties: { k: { type: 'string' } },
    anyOf: [
      { properties: { k: { const: 'a' } }, required: ['k'] },
      { properties: { k: { const: 5 } }, required: ['k'] },
    ],
  };
  check(cases, ['{"k":"a"}'], ['{"k":5}', '{}']);
});

test('oneOf: branches that are apart, or can be kept apart', () => {
  check({ oneOf: [{ type: 'string' }, { type: 'null' }, { const: 5 }] }, ['"x"', 'null', '5'], ['4']);
  check({ type: 'integer', oneOf: [{ maximum: 3 }, { minimum: 4 }] }, ['3', '4'], []);
  check(
    {
      oneOf: [
        { type: 'string', pattern: '^a' },
        { type: 'string', pattern: '^b' },
      ],
    },
    ['"ax"', '"b"'],
    ['"c"'],
  );
  check(
    {
      oneOf: [
        { type: 'string', maxLength: 2 },
        { type: 'string', minLength: 3 },
      ],
    },
    ['"ab"', '"abc"'],
    [],
  );
  check({ oneOf: [{ enum: ['a', 'b'] }, { enum: ['b', 'c'] }] }, ['"a"', '"c"'], ['"b"']);
  const kinds = (required: string[]) => ({
    oneOf: ['a', 'b'].map((kind) => ({
      type: 'object',
      properties: { kind: { const: kind }, [kind]: { type: 'integer' } },
      required,
    })),
  });
  check(kinds(['kind']), ['{"kind":"a"}', '{"kind":"b","b":1}'], ['{"kind":"a","b":1}', '{}']);
  // The member that tells them apart is required, whether the schema says so or not.
  check(kinds([]), ['{"kind":"a"}', '{"kind":"b","b":1}'], ['{}']);
  // Exactly one of two members: each branch leaves out what the other one needs.
  const either = {
    type: 'object',
    properties: { a: { const: 0 }, b: { const: 0 } },
    oneOf: [{ required: ['a'] }, { required: ['b'] }],
  };
  check(either, ['{"a":0}', '{"b":0}'], ['{}', '{"a":0,"b":0}']);
  check(
    { type: 'array', oneOf: [{ maxItems: 1 }, { minItems: 2, items: { const: 0 } }] },
    ['[]', '["x"]', '[0,0]'],
    ['[1,1]'],
  );
});

test('not, where it can be proved', () => {
  check({ enum: ['a', 'b', 'c'], not: { enum: ['b'] } }, ['"a"', '"c"'], ['"b"']);
  check({ type: ['string', 'integer'], not: { type: 'null' } }, ['"x"', '1'], ['null']);
  check({ type: 'boolean', not: { const: true } }, ['false'], ['true']);
  refuses({ type: 'string', not: { const: 'x' } }, '#/not', /cannot be prevented/);
});

test('refusals name the path', () => {
  refuses(
    { type: 'object', properties: { age: { type: 'integer', multipleOf: 5 } } },
    '#/properties/age/multipleOf',
    /multiples of 5/,
  );
  refuses(
    { items: { properties: { 'a/b~': { patternProperties: {} } } } },
    '#/items/properties/a~1b~0/patternProperties',
    /cannot be enforced/,
  );
  refuses({ anyOf: [true, { if: {} }] }, '#/anyOf/1/if', /cannot be enforced/);
  refuses({ prefixItems: [{ contains: {} }] }, '#/prefixItems/0/contains', /cannot be enforced/);
  refuses(
    { type: 'object', requried: ['a'] },
    '#/requried',
    /unknown keyword "requried"; did you mean "required"/,
  );
  refuses({ type: 'strnig' }, '#/type', /unknown type "strnig"; did you mean "string"/);
  refuses({ type: 'array', uniqueItems: true }, '#/uniqueItems', /differ/);
  refuses({ items: [{}] }, '#/items', /prefixItems/);
  refuses({ properties: { a: { $id: 'x' } } }, '#/properties/a/$id', /whole schema/);
  refuses(
    { $defs: { a: { minLength: -1 } }, items: { $ref: '#/$defs/a' } },
    '#/$defs/a/minLength',
    /whole number/,
  );
  refuses({ $ref: 'https://elsewhere.example/' }, '#/$ref', /does not point into/);
  refuses({ $ref: '#/$defs/b', $defs: { a: {} } }, '#/$ref', /does not exist/);
  refuses({ $ref: '#anchor' }, '#/$ref', /does not point into/);
  refuses({ items: { $ref: '#/%' } }, '#/items/$ref', /JSON pointer/);
  refuses({ oneOf: [{ type: 'string' }, { minLength: 3, type: 'string' }] }, '#/oneOf', /may also fit/);
  refuses({ type: 'object', nullable: true }, '#/nullable', /cannot be enforced/);
  refuses({ properties: { a: 5 } } as JsonSchema, '#/properties/a', /object, true or false/);
  refuses(5 as unknown as JsonSchema, '#', /object, true or false/);
  assert.match(refusal({ nullable: true }).hint, /\["string", "null"\]/);
  assert.equal(refusal({ properties: { '\u0000\u001b[31m': { x: 1 } } }).message.includes('\u001b'), false);
});

test('what nothing can fit is refused with the path', () => {
  refuses(false, '#', /no value can fit/);
  refuses({ type: 'integer', minimum: 5, maximum: 3 }, '#/maximum', /at least 5 and at most 3/);
  refuses({ type: 'number', exclusiveMinimum: 3, maximum: 3 }, '#/maximum', /above 3/);
  refuses(
    { properties: { n: { type: 'integer', minimum: 1.2, maximum: 1.8 } } },
    '#/properties/n',
    /no integer/,
  );
  refuses({ items: { type: 'string', minLength: 3, maxLength: 2 } }, '#/items/maxLength', /at most 2/);
  refuses({ type: 'string', enum: [1, 2] }, '#', /none of the values/);
  refuses(
    { type: 'object', properties: { a: { type: 'string', const: 1 } } },
    '#/properties/a',
    /none of the values/,
  );
  refuses({ enum: [] }, '#/enum', /no value/);
  refuses({ type: [] }, '#/type', /no type/);
  refuses({ anyOf: [] }, '#/anyOf', /empty/);
  refuses({ anyOf: [false, false] }, '#', /no value can fit/);
  refuses({ allOf: [{ type: 'string' }, { type: 'null' }] }, '#', /no value can fit/);
  refuses({ type: 'object', properties: { a: false }, required: ['a'] }, '#', /required and not allowed/);
  refuses({ type: 'object', additionalProperties: false, required: ['a'] }, '#', /required and not allowed/);
  refuses({ type: 'array', items: false, minItems: 1 }, '#', /at least 1/);
  refuses({ type: 'string', pattern: '^a$', minLength: 2 }, '#', /no string fits/);
});

test('what would never end, or says nothing but itself, is refused with the path', () => {
  refuses({ type: 'object', properties: { n: { $ref: '#' } }, required: ['n'] }, '#', /never end/);
  refuses({ items: { $ref: '#/items' } }, '#/items', /itself/);
  refuses({ $ref: '#' }, '#', /itself/);
  refuses({ const: 1, not: { $ref: '#' } }, '#/not', /itself/);
  refuses({ anyOf: [{ type: 'string' }, { $ref: '#' }] }, '#', /itself/);
  const inner = {
    properties: { a: { $ref: '#/$defs/x' } },
    $defs: { x: { items: { $ref: '#/$defs/x' }, minItems: 1 } },
  };
  refuses(inner, '#/$defs/x', /never end/);
});

test('any object', () => {
  requireGrammar(JSON_OBJECT_GRAMMAR);
  const rules = parseGbnf(JSON_OBJECT_GRAMMAR);
  const value = { a: [1, -2.5, 'x\n"\\é😀', null, true, {}], '': { b: [[], [{}]] } };
  assert.ok(matchesGbnf(rules, JSON.stringify(value)));
  for (const text of ['[]', '1', '{"a":1,}', '{"a" :1}', '{"a":01}', '{"a":1}}', ''])
    assert.ok(!matchesGbnf(rules, text), text);
});
