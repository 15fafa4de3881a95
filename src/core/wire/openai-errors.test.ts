import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERROR_TABLE, type ErrorCode } from '../base/error-table.ts';
import { FreeholdError } from '../base/errors.ts';
import { encodeOpenAiError } from './openai-errors.ts';

test('every error of the table has an OpenAI form', () => {
  for (const code of Object.keys(ERROR_TABLE) as ErrorCode[]) {
    const { status, headers, body } = encodeOpenAiError(new FreeholdError(code, 'what happened'));
    const row = ERROR_TABLE[code];
    assert.equal(status, row.http);
    assert.ok(status >= 400 && status <= 599);
    assert.deepEqual(Object.keys(body.error), ['message', 'type', 'param', 'code']);
    assert.equal(body.error.message, `what happened (${row.hint})`);
    assert.equal(body.error.type, status >= 500 ? 'server_error' : 'invalid_request_error');
    assert.equal(headers['retry-after'], row.temporary === true ? '2' : undefined);
    assert.equal(headers['x-should-retry'], String(row.temporary === true));
  }
});

test("codes that OpenAI's users look for", () => {
  const codeOf = (code: ErrorCode) => encodeOpenAiError(new FreeholdError(code, '')).body.error.code;
  assert.equal(codeOf('MODEL_NOT_FOUND'), 'model_not_found');
  assert.equal(codeOf('CONTEXT_EXCEEDED'), 'context_length_exceeded');
  assert.equal(codeOf('FIELD_NOT_SUPPORTED'), 'unsupported_parameter');
  assert.equal(codeOf('ENGINE_LOST'), 'engine_lost');
});

test('param: what the error names, else what the code implies', () => {
  const paramOf = (code: ErrorCode, detail = {}) =>
    encodeOpenAiError(new FreeholdError(code, '', { detail })).body.error.param;
  assert.equal(paramOf('REQUEST_INVALID', { param: 'top_p' }), 'top_p');
  assert.equal(paramOf('MODEL_NOT_FOUND'), 'model');
  assert.equal(paramOf('BUSY'), null);
});
