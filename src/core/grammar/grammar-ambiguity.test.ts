import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonSchema } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import { requireGrammar } from './gbnf.ts';
import { compileJsonSchema, JSON_OBJECT_GRAMMAR } from './json-schema.ts';

/** What it takes is far below, on a machine that does nothing else. */
const EACH_MS_MAX = 2_000;

function refusedSoon(code: string, message: RegExp, work: () => unknown): void {
  const startedMs = performance.now();
  assert.throws(work, (error) => {
    assert.ok(error instanceof FreeholdError && error.code === code, String(error));
    assert.match(error.message, message);
    return true;
  });
  assert.ok(performance.now() - startedMs < EACH_MS_MAX);
}

const numbered = <Value>(count: number, make: (index: number) => Value) =>
  Array.from({ length: count }, (_, index) => make(index));
const pair = (name: string, mark: number) => ({
  type: 'array',
  prefixItems: [{ $ref: `#/$defs/${name}` }, { const: mark }],
  minItems: 2,
  items: false,
});
const branching = (other: JsonSchema): JsonSchema => ({
  $ref: '#/$defs/v',
  $defs: {
    v: { anyOf: [pair('w', 1), pair('v', 2), other] },
    w: { anyOf: [pair('v', 3), pair('w', 4), other] },
  },
});

test('grammars of which llama.cpp would keep ever more readings are refused', () => {
  const ambiguous = [
    'root ::= b{0,30}\nb ::= c{0,30}\nc ::= d{0,30}\nd ::= [a-z]{0,30}',
    'root ::= "a" root "b" | "a" root "c" | "x"',
    'root ::= (([a-z]{0,11}){0,11}){0,11} "!"',
    'root ::= word{0,1999} "!"\nword ::= [a-z]{1,1999}',
    'root ::= "a long beginning" "z"{500} bad\nbad ::= "a" bad "b" | "a" bad "c" | "x"',
  ];
  for (const gbnf of ambiguous) {
    refusedSoon('GRAMMAR_INVALID', /too ambiguous: from .* more than/, () => requireGrammar(gbnf));
  }
});

test('schemas whose branches differ only behind recursion are refused', () => {
  const node = (mark: number) => ({
    properties: {
      name: { type: 'string' },
      kids: { items: { $ref: '#' }, type: 'array' },
      mark: { const: mark },
    },
    required: ['name', 'kids', 'mark'],
    type: 'object',
  });
  for (const schema of [
    branching({ type: 'null' }),
    branching({ type: 'string' }),
    { anyOf: [node(1), node(2)] },
  ]) {
    refusedSoon('SCHEMA_NOT_SUPPORTED', /^#: too ambiguous/, () => compileJsonSchema(schema));
  }
});

test('what is large or recursive without being ambiguous is taken', () => {
  compileJsonSchema({
    type: 'object',
    properties: Object.fromEntries(numbered(2_000, (index) => [`member${index}`, { type: 'string' }])),
  });
  compileJsonSchema({ enum: numbered(20_000, (index) => `word ${index * 7919}`) });
  compileJsonSchema({
    type: 'object',
    properties: { value: { type: 'string' }, children: { type: 'array', items: { $ref: '#' } } },
  });
  for (const gbnf of [
    JSON_OBJECT_GRAMMAR,
    'root ::= (expr "=" ws term "\\n")+\nexpr ::= term ([-+*/] term)*\nterm ::= ident | num | "(" ws expr ")" ws\nident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*',
    'root ::= item+\nitem ::= "- " [^\\r\\n]+ "\\n"',
    'root ::= object\nobject ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws\nvalue ::= object | string\nstring ::= "\\"" [^"]* "\\"" ws\nws ::= [ \\t\\n]*',
  ]) {
    requireGrammar(gbnf);
  }
});

test('repetitions of repetitions end soon', () => {
  refusedSoon('GRAMMAR_INVALID', /repetitions of repetitions/, () =>
    requireGrammar(`root ::= a${'?'.repeat(100_000)}\na ::= "x"`),
  );
});

test('all patterns of a document have one budget, equal ones are worked out once', () => {
  const members = (count: number, pattern: (index: number) => string) => ({
    type: 'object',
    properties: Object.fromEntries(
      numbered(count, (index) => [`p${index}`, { type: 'string', pattern: pattern(index) }]),
    ),
  });
  refusedSoon('SCHEMA_NOT_SUPPORTED', /^#\/properties\/p\d+\/pattern: too complex/, () =>
    compileJsonSchema(members(60, (index) => `^([ab]*a[ab]{9}|${index})$`)),
  );
  compileJsonSchema(members(10, () => '^[ab]*a[ab]{9}$'));
});
