import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import {
  CHAT_FIELDS,
  COMPLETION_FIELDS,
  EMBEDDING_FIELDS,
  type FieldTable,
  FORMAT_FIELDS,
  FUNCTION_FIELDS,
  MESSAGE_FIELDS,
  selectHonoured,
  TOOL_CALL_FIELDS,
  TOOL_FIELDS,
} from './openai-fields.ts';

const OPENAI = path.dirname(createRequire(import.meta.url).resolve('openai'));

/** The field names of one interface in the type declarations that OpenAI publishes. */
function publishedFields(file: string, name: string): string[] {
  const source = readFileSync(path.join(OPENAI, file), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  const start = source.indexOf(`export interface ${name} {`);
  assert.ok(start >= 0, `${name} is in ${file}`);
  const body = source.slice(start, source.indexOf('\n}', start));
  return [...body.matchAll(/^ {4}(\w+)\??:/gm)].map((match) => match[1] ?? '');
}

const CHAT_FILE = 'resources/chat/completions/completions.d.ts';
const TABLES: readonly [string, FieldTable, string[], number][] = [
  ['chat', CHAT_FIELDS, publishedFields(CHAT_FILE, 'ChatCompletionCreateParamsBase'), 37],
  [
    'completions',
    COMPLETION_FIELDS,
    publishedFields('resources/completions.d.ts', 'CompletionCreateParamsBase'),
    18,
  ],
  ['embeddings', EMBEDDING_FIELDS, publishedFields('resources/embeddings.d.ts', 'EmbeddingCreateParams'), 5],
];

for (const [name, table, published, count] of TABLES) {
  test(`${name}: every field that OpenAI publishes is honoured, without effect, or refused`, () => {
    assert.equal(published.length, count, 'the declarations were read whole');
    assert.deepEqual(
      published.filter((field) => !Object.hasOwn(table, field)),
      [],
    );
    const own = Object.keys(table).filter((field) => !published.includes(field));
    assert.deepEqual(own, name === 'embeddings' ? [] : ['top_k', 'min_p', 'repeat_penalty', 'grammar']);
  });

  test(`${name}: honoured passes, without effect is left out, refused and unknown are named`, () => {
    for (const [field, rule] of Object.entries(table)) {
      const body = { [field]: 'some value' };
      if (rule.kind === 'honoured') assert.deepEqual(selectHonoured(body, table), body);
      else if (rule.kind === 'without-effect') assert.deepEqual(selectHonoured(body, table), {});
      else assertRefused(body, table, field);
      assert.deepEqual(selectHonoured({ [field]: null }, table), {}, `${field}: null means absent`);
    }
    for (const unknown of ['__proto__', 'constructor', 'toString', 'num_ctx', '']) {
      assertRefused(JSON.parse(`{"${unknown}":1}`), table, unknown);
    }
  });

  test(`${name}: a refused field passes with each value that asks for nothing`, () => {
    for (const [field, rule] of Object.entries(table)) {
      if (rule.kind !== 'refused') continue;
      for (const value of rule.unless ?? []) assert.deepEqual(selectHonoured({ [field]: value }, table), {});
    }
  });
}

test('the messages of every published role have no field that is missing here', () => {
  for (const role of ['Developer', 'System', 'User', 'Assistant', 'Tool', 'Function']) {
    const fields = publishedFields(CHAT_FILE, `ChatCompletion${role}MessageParam`);
    assert.ok(fields.includes('role') && fields.includes('content'));
    for (const field of fields) assert.ok(Object.hasOwn(MESSAGE_FIELDS, field), `${role}: ${field}`);
  }
});

test('tools, their functions and calls of them have no published field that is missing here', () => {
  const published: readonly [string, string, FieldTable][] = [
    [CHAT_FILE, 'ChatCompletionFunctionTool', TOOL_FIELDS],
    ['resources/shared.d.ts', 'FunctionDefinition', FUNCTION_FIELDS],
    [CHAT_FILE, 'ChatCompletionMessageFunctionToolCall', TOOL_CALL_FIELDS],
    ['resources/shared.d.ts', 'ResponseFormatJSONSchema', FORMAT_FIELDS],
  ];
  for (const [file, name, table] of published) {
    const fields = publishedFields(file, name);
    assert.ok(fields.length >= 2, name);
    for (const field of fields) assert.ok(Object.hasOwn(table, field), `${name}: ${field}`);
  }
});

test('a misspelt field comes with the right spelling, a long one is cut', () => {
  assert.throws(() => selectHonoured({ max_token: 1 }, CHAT_FIELDS), /did you mean "max_tokens"/);
  assert.throws(
    () => selectHonoured({ ['x'.repeat(1000)]: 1 }, CHAT_FIELDS),
    (error) => error instanceof FreeholdError && String(error.detail.param).length === 128,
  );
});

test('what is no object is refused', () => {
  for (const value of [null, undefined, 1, 'text', true, []]) {
    assert.throws(() => selectHonoured(value, CHAT_FIELDS), { code: 'REQUEST_INVALID' });
  }
});

function assertRefused(body: unknown, table: FieldTable, field: string): void {
  assert.throws(
    () => selectHonoured(body, table),
    (error) => {
      assert.ok(error instanceof FreeholdError);
      assert.equal(error.code, 'FIELD_NOT_SUPPORTED');
      assert.equal(error.detail.param, field);
      return true;
    },
  );
}
