import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import { GRAMMAR_CHARACTERS_MAX, parseConstraint, SCHEMA_CHARACTERS_MAX } from './openai-format.ts';

const SCHEMA = { type: 'object', properties: { a: { type: 'string' } } };
const jsonSchema = (fields: object) => ({ type: 'json_schema', json_schema: fields });

function refusalOf(format: unknown, grammar?: unknown): string {
  try {
    parseConstraint(format, grammar);
  } catch (error) {
    if (error instanceof FreeholdError) return `${error.code} ${error.detail.param}`;
    throw error;
  }
  return 'accepted';
}

test('the forms of an answer', () => {
  assert.equal(parseConstraint(undefined, undefined), undefined);
  assert.equal(parseConstraint({ type: 'text' }, undefined), undefined);
  assert.deepEqual(parseConstraint({ type: 'json_object' }, undefined), { kind: 'json-object' });
  for (const strict of [true, false, null, undefined]) {
    assert.deepEqual(
      parseConstraint(jsonSchema({ name: 'x', description: 'y', strict, schema: SCHEMA }), undefined),
      { kind: 'json-schema', schema: SCHEMA },
    );
  }
  assert.deepEqual(parseConstraint(undefined, 'root ::= "a"'), { kind: 'gbnf', grammar: 'root ::= "a"' });
  assert.deepEqual(parseConstraint({ type: 'text' }, 'g'), { kind: 'gbnf', grammar: 'g' });
});

test('what is no form is refused by its place', () => {
  const cases: readonly [unknown, unknown, string][] = [
    ['json_object', undefined, 'REQUEST_INVALID response_format'],
    [[], undefined, 'REQUEST_INVALID response_format'],
    [{}, undefined, 'REQUEST_INVALID response_format.type'],
    [{ type: 'grammar' }, undefined, 'REQUEST_INVALID response_format.type'],
    [{ type: 'constructor' }, undefined, 'REQUEST_INVALID response_format.type'],
    [{ type: 'json_object', schema: SCHEMA }, undefined, 'FIELD_NOT_SUPPORTED response_format.schema'],
    [
      { type: 'json_object', json_schema: { schema: SCHEMA } },
      undefined,
      'REQUEST_INVALID response_format.json_schema',
    ],
    [{ type: 'json_schema' }, undefined, 'REQUEST_INVALID response_format.json_schema.schema'],
    [jsonSchema({ name: 'x' }), undefined, 'REQUEST_INVALID response_format.json_schema.schema'],
    [jsonSchema({ schema: [] }), undefined, 'REQUEST_INVALID response_format.json_schema.schema'],
    [jsonSchema({ schema: true }), undefined, 'REQUEST_INVALID response_format.json_schema.schema'],
    [jsonSchema({ schema: SCHEMA, x: 1 }), undefined, 'FIELD_NOT_SUPPORTED response_format.json_schema.x'],
    [{ type: 'json_object' }, 'root ::= "a"', 'REQUEST_INVALID grammar'],
    [undefined, 5, 'REQUEST_INVALID grammar'],
    [undefined, '\ud800', 'REQUEST_INVALID grammar'],
    [undefined, 'a'.repeat(GRAMMAR_CHARACTERS_MAX + 1), 'REQUEST_INVALID grammar'],
  ];
  for (const [format, grammar, expected] of cases) assert.equal(refusalOf(format, grammar), expected);
});

test('a giant schema is refused before anybody compiles it', () => {
  const schemaOf = (characters: number) => jsonSchema({ schema: { description: 'd'.repeat(characters) } });
  const around = '{"description":""}'.length;
  assert.equal(refusalOf(schemaOf(SCHEMA_CHARACTERS_MAX - around)), 'accepted');
  assert.equal(
    refusalOf(schemaOf(SCHEMA_CHARACTERS_MAX - around + 1)),
    'REQUEST_INVALID response_format.json_schema.schema',
  );
});
