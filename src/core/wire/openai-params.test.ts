import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Constraint, GenerateRequest, ToolUse } from '../base/engine-port.ts';
import type { ErrorCode } from '../base/error-table.ts';
import { FreeholdError } from '../base/errors.ts';
import { compileJsonSchema } from '../grammar/json-schema.ts';
import { compileToolCalls } from '../grammar/tool-calls.ts';
import { encodeOpenAiError } from './openai-errors.ts';
import { namingField, namingInput } from './openai-params.ts';

const TOOLS: ToolUse = {
  definitions: [{ name: 'a' }, { name: 'b' }],
  choice: { kind: 'required' },
  isParallel: true,
};
const chat: GenerateRequest = { prompt: { kind: 'chat', messages: [{ role: 'user', content: '' }] } };
const constrained = (constraint: Constraint): GenerateRequest => ({ ...chat, constraint });
const schema = constrained({ kind: 'json-schema', schema: {} });

function paramOf(code: ErrorCode, detail: FreeholdError['detail'], generation: GenerateRequest): unknown {
  const named = namingField(new FreeholdError(code, 'what', { detail }), generation);
  assert.ok(named instanceof FreeholdError);
  assert.deepEqual([named.code, named.message], [code, 'what']);
  const { status, body } = encodeOpenAiError(named);
  assert.equal(body.error.type, status >= 500 ? 'server_error' : 'invalid_request_error');
  return body.error.param;
}

test('the place in a schema', () => {
  const place = 'response_format.json_schema.schema';
  const at = (path: string) => paramOf('SCHEMA_NOT_SUPPORTED', { path }, schema);
  assert.equal(at(''), place);
  assert.equal(at('#'), place);
  assert.equal(at('/properties/a/anyOf/1'), `${place}.properties.a.anyOf[1]`);
  assert.equal(at('#/properties/a~1b~0c'), `${place}.properties.a/b~c`);
  assert.equal(String(at(`/properties/${'x'.repeat(1000)}`)).length, 256);
  assert.equal(paramOf('SCHEMA_NOT_SUPPORTED', {}, schema), place);
});

test('the schema of which tool', () => {
  const tools: GenerateRequest = { ...chat, tools: TOOLS };
  const at = (path: string) => paramOf('SCHEMA_NOT_SUPPORTED', { path }, tools);
  assert.equal(at('tools[1].parameters#/not'), 'tools[1].function.parameters.not');
  assert.equal(at('tools[0].parameters#'), 'tools[0].function.parameters');
  assert.equal(at('tools'), 'tools');
  assert.equal(paramOf('SCHEMA_NOT_SUPPORTED', {}, tools), 'tools');
});

test('the compiler of grammars says it the way it is read here', () => {
  const schema = { type: 'object', properties: { a: { type: 'string', pattern: '(a)\\1' } } };
  const thrownBy = (compile: () => unknown) => {
    try {
      compile();
    } catch (error) {
      return error;
    }
    return assert.fail('it was compiled');
  };
  const asked: ToolUse = { ...TOOLS, definitions: [{ name: 'a' }, { name: 'b', parameters: schema }] };
  const cases: [unknown, GenerateRequest, string][] = [
    [
      thrownBy(() => compileJsonSchema(schema)),
      constrained({ kind: 'json-schema', schema }),
      'response_format.json_schema.schema.properties.a.pattern',
    ],
    [
      thrownBy(() => compileToolCalls(asked)),
      { ...chat, tools: asked },
      'tools[1].function.parameters.properties.a.pattern',
    ],
  ];
  for (const [thrown, generation, param] of cases) {
    const named = namingField(thrown, generation);
    assert.ok(named instanceof FreeholdError);
    assert.deepEqual([named.code, named.detail.param], ['SCHEMA_NOT_SUPPORTED', param]);
  }
});

test('what else can be at fault', () => {
  const gbnf = constrained({ kind: 'gbnf', grammar: '' });
  assert.equal(paramOf('GRAMMAR_INVALID', {}, gbnf), 'grammar');
  assert.equal(paramOf('SCHEMA_NOT_SUPPORTED', {}, gbnf), 'grammar');
  assert.equal(paramOf('SCHEMA_NOT_SUPPORTED', {}, constrained({ kind: 'json-object' })), 'response_format');
  assert.equal(paramOf('SCHEMA_NOT_SUPPORTED', {}, chat), null);
  assert.equal(paramOf('CONTEXT_EXCEEDED', {}, chat), 'messages');
  assert.equal(paramOf('TEMPLATE_FAILED', {}, chat), 'messages');
  assert.equal(paramOf('CONTEXT_EXCEEDED', {}, { prompt: { kind: 'text', text: '' } }), 'prompt');
  assert.equal(paramOf('ADAPTER_INVALID', {}, chat), 'model');
  assert.equal(paramOf('BUSY', {}, chat), null);
  assert.equal(paramOf('CONTEXT_EXCEEDED', { param: 'own' }, chat), 'own');
});

test('cause, hint and facts stay, and so does what is no error of ours', () => {
  const cause = new Error('below');
  const error = new FreeholdError('CONTEXT_EXCEEDED', 'm', { cause, hint: 'h', detail: { tokens: 5 } });
  const named = namingField(error, chat);
  assert.ok(named instanceof FreeholdError);
  assert.deepEqual([named.cause, named.hint, named.detail.tokens], [cause, 'h', 5]);
  assert.equal(namingField(cause, chat), cause);
  assert.equal(namingInput(cause, 'input'), cause);
  const busy = new FreeholdError('BUSY', 'm');
  assert.equal(namingInput(busy, 'input'), busy);
});
