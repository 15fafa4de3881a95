import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import { parseMessages } from './openai-messages.ts';

const call = (id: unknown, name: unknown = 'look_up', args: unknown = '{"a":1}') => ({
  id,
  type: 'function',
  function: { name, arguments: args },
});
const assistant = (...tool_calls: unknown[]) => ({ role: 'assistant', content: null, tool_calls });
const result = (tool_call_id: unknown, content: unknown = 'found') => ({
  role: 'tool',
  tool_call_id,
  content,
});
const USER = { role: 'user', content: 'hi' };

function refusalOf(...messages: unknown[]): string {
  try {
    parseMessages(messages);
  } catch (error) {
    if (error instanceof FreeholdError) return `${error.code} ${error.detail.param}`;
    throw error;
  }
  return 'accepted';
}

test('a conversation with calls', () => {
  assert.deepEqual(
    parseMessages([
      USER,
      { ...assistant(call('call_1'), { ...call('call_2', 'b', ' '), index: 1 }), refusal: null },
      result('call_2', [
        { type: 'text', text: 'one' },
        { type: 'text', text: 'two' },
      ]),
      { ...result('call_1'), name: 'look_up' },
      { role: 'assistant', content: 'Both.', tool_calls: [] },
      assistant(call('call_1')),
      result('call_1'),
    ]),
    [
      USER,
      {
        role: 'assistant',
        content: '',
        toolCalls: [
          { id: 'call_1', name: 'look_up', arguments: '{"a":1}' },
          { id: 'call_2', name: 'b', arguments: '{}' },
        ],
      },
      { role: 'tool', content: 'one\ntwo', toolCallId: 'call_2' },
      { role: 'tool', content: 'found', name: 'look_up', toolCallId: 'call_1' },
      { role: 'assistant', content: 'Both.' },
      {
        role: 'assistant',
        content: '',
        toolCalls: [{ id: 'call_1', name: 'look_up', arguments: '{"a":1}' }],
      },
      { role: 'tool', content: 'found', toolCallId: 'call_1' },
    ],
  );
});

test('arguments go on as they were written, large numbers too', () => {
  const text = '{ "id": 123456789012345678901, "a": "\\u00e9{[" }';
  const [message] = parseMessages([{ ...assistant(call('c', 'f', text)), content: 'Wait.' }, result('c')]);
  assert.deepEqual([message?.content, message?.toolCalls?.[0]?.arguments], ['Wait.', text]);
});

test('ids of other servers are taken', () => {
  for (const id of ['toolu_01A', 'functions.look_up:0', 'abcDEF123', 'call_1__thought__a+b/c==', '0']) {
    assert.equal(refusalOf(assistant(call(id)), result(id)), 'accepted', id);
  }
});

test('calls and answers must match', () => {
  const id = 'REQUEST_INVALID messages[1].tool_call_id';
  const calls = 'REQUEST_INVALID messages[0].tool_calls';
  assert.equal(refusalOf(USER, result('a')), id);
  assert.equal(refusalOf(assistant(call('a')), result('b')), id);
  assert.equal(refusalOf(assistant(call('a')), result('a'), result('a')), id.replace('[1]', '[2]'));
  assert.equal(refusalOf(assistant(call('a')), USER, result('a')), calls);
  assert.equal(refusalOf(assistant(call('a'), call('b')), result('a'), USER), calls);
  assert.equal(refusalOf(assistant(call('a'))), calls);
  assert.equal(refusalOf(assistant(call('a')), result('a'), USER, result('a')), id.replace('[1]', '[3]'));
  assert.equal(
    refusalOf(assistant(call('a'), call('a')), result('a')),
    'REQUEST_INVALID messages[0].tool_calls[1].id',
  );
  for (const hostile of ['__proto__', 'constructor']) assert.equal(refusalOf(USER, result(hostile)), id);
});

test('what is no call is refused by its place', () => {
  const place = 'messages[0].tool_calls[0]';
  const one = (value: unknown) => refusalOf(assistant(value), result('a'));
  assert.equal(one(null), `REQUEST_INVALID ${place}.type`);
  assert.equal(one({ ...call('a'), type: 'custom' }), `FIELD_NOT_SUPPORTED ${place}.type`);
  assert.equal(one({ ...call('a'), x: 1 }), `FIELD_NOT_SUPPORTED ${place}.x`);
  for (const id of [undefined, 5, '', 'a b', 'a\nb', 'a\u0007', '<|im_end|>', 'a'.repeat(1025)]) {
    assert.equal(one(call(id)), `REQUEST_INVALID ${place}.id`);
  }
  assert.equal(one({ id: 'a', type: 'function' }), `REQUEST_INVALID ${place}.function`);
  assert.equal(
    one({ ...call('a'), function: { name: 'f', arguments: '{}', x: 1 } }),
    `FIELD_NOT_SUPPORTED ${place}.function.x`,
  );
  assert.equal(one(call('a', 'a b')), `REQUEST_INVALID ${place}.function.name`);
  const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
  assert.equal(one(call('a', 'f', nested(64))), 'accepted');
  for (const args of [null, 5, {}, '{', '[]', '1', 'null', '"{}"', '{"a":"\ud800"}', nested(65)]) {
    assert.equal(one(call('a', 'f', args)), `REQUEST_INVALID ${place}.function.arguments`);
  }
  assert.equal(one(call('a', 'f', nested(100_000))), `REQUEST_INVALID ${place}.function.arguments`);
  for (const filling of ['a', '\\"', '[']) {
    const large = `{"a":"${filling.repeat(15_000_000 / filling.length)}"}`;
    assert.equal(one(call('a', 'f', large)), 'accepted', 'large, not deep');
  }
  const many = Array.from({ length: 10_000 }, (_, index) => call(`c${index}`));
  assert.equal(refusalOf(assistant(...many)), 'REQUEST_INVALID messages[0].tool_calls');
});

test('fields of one role are refused in another', () => {
  assert.equal(refusalOf({ ...USER, tool_call_id: 'a' }), 'REQUEST_INVALID messages[0].tool_call_id');
  assert.equal(refusalOf({ ...USER, tool_calls: [call('a')] }), 'REQUEST_INVALID messages[0].tool_calls');
  assert.equal(refusalOf({ ...USER, tool_calls: [], tool_call_id: null }), 'accepted');
  assert.equal(refusalOf({ role: 'tool', content: 'x' }), 'REQUEST_INVALID messages[0].tool_call_id');
  assert.equal(refusalOf(assistant(call('a')), result('a', null)), 'REQUEST_INVALID messages[1].content');
  assert.equal(refusalOf({ role: 'assistant', content: null }), 'REQUEST_INVALID messages[0].content');
  assert.equal(
    refusalOf(assistant(call('a')), result('a', [{ type: 'image_url' }])),
    'MODALITY_NOT_SUPPORTED messages[1].content[0]',
  );
});
