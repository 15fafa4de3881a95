import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonSchema } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import { requireGrammar } from './gbnf.ts';
import { GRAMMAR_CHARACTERS_MAX } from './grammar-limits.ts';
import { compileJsonSchema } from './json-schema.ts';

/** On a machine that does much else at the same time. */
const EACH_MS_MAX = 15_000;

function nested(depth: number, wrap: (inner: unknown) => unknown): JsonSchema {
  let schema: unknown = { type: 'null' };
  for (let level = 0; level < depth; level++) schema = wrap(schema);
  return schema as JsonSchema;
}

const numbered = <Value>(count: number, make: (index: number) => Value) =>
  Array.from({ length: count }, (_, index) => make(index));
const byName = (count: number, make: (index: number) => unknown) =>
  Object.fromEntries(numbered(count, (index) => [`p${index}`, make(index)]));

const HOSTILE: Readonly<Record<string, () => JsonSchema>> = {
  'objects 60 deep': () => nested(60, (inner) => ({ properties: { a: inner } })),
  'objects 100,000 deep': () => nested(100_000, (inner) => ({ properties: { a: inner } })),
  'anyOf 100,000 deep': () => nested(100_000, (inner) => ({ anyOf: [inner] })),
  'anyOf 60 deep with two branches': () => nested(60, (inner) => ({ anyOf: [inner, { type: 'string' }] })),
  'anyOf that doubles 20 times': () => ({
    allOf: numbered(20, (index) => ({ anyOf: [{ minimum: index }, { maximum: index }] })),
  }),
  'anyOf that doubles by reference': () => ({
    $ref: '#/$defs/d0',
    $defs: Object.fromEntries(
      numbered(40, (index) => [
        `d${index}`,
        index === 39
          ? { type: 'null' }
          : { anyOf: [{ $ref: `#/$defs/d${index + 1}` }, { $ref: `#/$defs/d${index + 1}` }] },
      ]),
    ),
  }),
  'objects that double by reference': () => ({
    $ref: '#/$defs/d0',
    $defs: Object.fromEntries(
      numbered(40, (index) => [
        `d${index}`,
        index === 39
          ? { type: 'null' }
          : { properties: { a: { $ref: `#/$defs/d${index + 1}` }, b: { $ref: `#/$defs/d${index + 1}` } } },
      ]),
    ),
  }),
  'allOf that makes new sets for ever': () => ({
    $ref: '#/$defs/d0',
    $defs: Object.fromEntries(
      numbered(30, (index) => [
        `d${index}`,
        {
          properties: Object.fromEntries(
            numbered(30, (other) => [
              `n${other}`,
              { allOf: [{ $ref: `#/$defs/d${index}` }, { $ref: `#/$defs/d${other}` }] },
            ]),
          ),
        },
      ]),
    ),
  }),
  '10,000 members': () => ({ properties: byName(10_000, () => ({ type: 'string' })) }),
  '2,000 optional members': () => ({ properties: byName(2_000, (index) => ({ const: index })) }),
  '2,000 required members': () => ({
    properties: byName(2_000, () => ({ type: 'integer' })),
    required: numbered(2_000, (index) => `p${index}`),
  }),
  '2,000 required members without schema': () => ({
    type: 'object',
    required: numbered(100_000, (index) => `p${index}`),
  }),
  'counting 2,000 members': () => ({
    properties: byName(2_000, () => true),
    minProperties: 900,
    maxProperties: 1_000,
  }),
  'names that begin alike': () => ({
    properties: Object.fromEntries(numbered(500, (index) => ['x'.repeat(index), true])),
    additionalProperties: true,
  }),
  'a $ref loop': () => ({ $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } } }),
  'a $ref chain of 10,000': () => ({
    $ref: '#/$defs/d0',
    $defs: Object.fromEntries(
      numbered(10_000, (index) => [`d${index}`, index === 9_999 ? {} : { $ref: `#/$defs/d${index + 1}` }]),
    ),
  }),
  'members in a chain of 10,000': () => ({
    $ref: '#/$defs/d0',
    $defs: Object.fromEntries(
      numbered(10_000, (index) => [
        `d${index}`,
        index === 9_999 ? {} : { items: { $ref: `#/$defs/d${index + 1}` } },
      ]),
    ),
  }),
  'a string of 10^15': () => ({ type: 'string', minLength: 1e15 }),
  'a string of up to 10^15': () => ({ type: 'string', minLength: 65_536, maxLength: 1e15 }),
  'many long strings': () => ({
    properties: byName(500, (index) => ({
      type: 'string',
      minLength: 10_000 + index,
      maxLength: 60_000 - index,
    })),
  }),
  'an array of arrays of arrays': () =>
    nested(20, (inner) => ({ items: inner, minItems: 65_000, maxItems: 65_536 })),
  'a huge range': () => ({ type: 'integer', minimum: -1.7e308, maximum: 1.7e308 }),
  'a tiny range': () => ({ type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 5e-324 }),
  '1,000 ranges': () => ({
    properties: byName(1_000, (index) => ({ type: 'number', minimum: index / 7, maximum: 1e9 + index / 3 })),
  }),
  '100,000 words': () => ({ enum: numbered(100_000, (index) => `${index * 7919}`) }),
  'words that begin alike': () => ({ enum: numbered(500, (index) => 'a'.repeat(index)) }),
  'one long word': () => ({ const: 'x'.repeat(2_000_000) }),
  '1,000 oneOf branches': () => ({
    oneOf: numbered(1_000, (index) => ({ properties: { kind: { const: index } } })),
  }),
  '200 oneOf branches': () => ({
    oneOf: numbered(200, (index) => ({ properties: { kind: { const: index } } })),
  }),
  'oneOf of recursive branches': () => ({
    oneOf: numbered(30, (index) => ({ properties: { [`k${index}`]: { $ref: '#' } } })),
  }),
  'patterns that explode': () => ({
    properties: byName(300, (index) => ({ pattern: `^[ab]*a[ab]{${index + 10}}$` })),
  }),
  'a pattern of nested quantifiers': () => ({
    pattern: '^(((((a+)+)+)+)+)+$',
    minLength: 500,
    maxLength: 60_000,
  }),
  'a pattern of alternatives': () => ({
    pattern: `^(${numbered(200, (index) => `w${index}`).join('|')})*$`,
    maxLength: 3_000,
  }),
  'a prefix of 50,000': () => ({ prefixItems: numbered(50_000, () => true) }),
  'a long name': () => ({ properties: { ['n'.repeat(500_000)]: { multipleOf: 3 } } }),
};

for (const [name, make] of Object.entries(HOSTILE)) {
  test(`${name}: a grammar or a refusal, soon`, () => {
    const schema = make();
    const startedMs = performance.now();
    try {
      const gbnf = compileJsonSchema(schema);
      assert.ok(gbnf.length <= GRAMMAR_CHARACTERS_MAX);
      requireGrammar(gbnf);
    } catch (error) {
      assert.ok(
        error instanceof FreeholdError && error.code === 'SCHEMA_NOT_SUPPORTED',
        error instanceof Error ? error.stack : String(error),
      );
      assert.ok(error.message.length < 1_500, `${error.message.length} characters`);
    }
    const elapsedMs = performance.now() - startedMs;
    assert.ok(elapsedMs < EACH_MS_MAX, `${elapsedMs} ms`);
  });
}
