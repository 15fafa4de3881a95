import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import { TOOLS_MAX } from '../base/request-limits.ts';
import { parseChatRequest } from './openai-chat-request.ts';
import { SCHEMA_CHARACTERS_MAX } from './openai-format.ts';

const tool = (name: unknown, rest: object = {}) => ({ type: 'function', function: { name, ...rest } });
const TOOLS = [
  tool('look_up', { description: 'Looks.', parameters: { type: 'object' }, strict: true }),
  tool('b'),
];
const parse = (fields: object) =>
  parseChatRequest({ model: 'm', messages: [{ role: 'user', content: 'hi' }], ...fields }).generations[0];
const named = (name: unknown) => ({ type: 'function', function: { name } });

function refusalOf(fields: object): string {
  try {
    parse(fields);
  } catch (error) {
    if (error instanceof FreeholdError) return `${error.code} ${error.detail.param}`;
    throw error;
  }
  return 'accepted';
}

test('tools reach the engine with what was chosen', () => {
  const definitions = [
    { name: 'look_up', description: 'Looks.', parameters: { type: 'object' } },
    { name: 'b' },
  ];
  assert.deepEqual(parse({ tools: TOOLS, tool_choice: 'required' })?.tools, {
    definitions,
    choice: { kind: 'required' },
    isParallel: false,
  });
  assert.deepEqual(parse({ tools: TOOLS, tool_choice: 'none', parallel_tool_calls: false })?.tools, {
    definitions,
    choice: { kind: 'none' },
    isParallel: false,
  });
  assert.deepEqual(parse({ tools: TOOLS, tool_choice: named('b') })?.tools, {
    definitions,
    choice: { kind: 'named', name: 'b' },
    isParallel: false,
  });
  const parallel = parse({ tools: TOOLS, tool_choice: named('b'), parallel_tool_calls: true })?.tools;
  assert.equal(parallel?.isParallel, true);
});

test('without tools nothing is asked for', () => {
  for (const fields of [
    {},
    { tools: [] },
    { tools: null, tool_choice: 'none' },
    { tools: [], tool_choice: 'auto', parallel_tool_calls: true },
  ]) {
    assert.equal(parse(fields)?.tools, undefined);
  }
});

test('auto is refused, said or not, with what can be said instead', () => {
  for (const fields of [{ tools: TOOLS }, { tools: TOOLS, tool_choice: 'auto' }]) {
    assert.throws(
      () => parse(fields),
      (error) => {
        assert.ok(error instanceof FreeholdError);
        assert.deepEqual([error.code, error.detail.param], ['FIELD_NOT_SUPPORTED', 'tool_choice']);
        assert.match(error.hint, /"required", "none" or \{"type":"function"/);
        return true;
      },
    );
  }
});

test('what is no tool is refused by its place', () => {
  const withTools = (...tools: unknown[]) => refusalOf({ tools, tool_choice: 'required' });
  assert.equal(refusalOf({ tools: {}, tool_choice: 'required' }), 'REQUEST_INVALID tools');
  assert.equal(withTools(null), 'REQUEST_INVALID tools[0].type');
  assert.equal(withTools('x'), 'REQUEST_INVALID tools[0].type');
  assert.equal(withTools({ function: { name: 'x' } }), 'REQUEST_INVALID tools[0].type');
  assert.equal(withTools({ type: 'custom', custom: { name: 'x' } }), 'FIELD_NOT_SUPPORTED tools[0].type');
  assert.equal(withTools({ type: 'function' }), 'REQUEST_INVALID tools[0].function');
  assert.equal(withTools({ ...tool('x'), y: 1 }), 'FIELD_NOT_SUPPORTED tools[0].y');
  assert.equal(withTools(tool('x', { y: 1 })), 'FIELD_NOT_SUPPORTED tools[0].function.y');
  for (const name of ['', 'a b', 'a.b', 'a\n', 'a\0', '<|im_end|>', 'é', 'a'.repeat(65), 5, undefined]) {
    assert.equal(withTools(tool('ok'), tool(name)), 'REQUEST_INVALID tools[1].function.name');
  }
  for (const name of ['__proto__', 'constructor', 'a'.repeat(64), '-']) {
    assert.equal(withTools(tool(name)), 'accepted');
  }
  assert.equal(withTools(tool('a'), tool('b'), tool('a')), 'REQUEST_INVALID tools[2].function.name');
  assert.equal(withTools(tool('a', { description: 5 })), 'REQUEST_INVALID tools[0].function.description');
  assert.equal(
    withTools(tool('a', { description: '\udc00' })),
    'REQUEST_INVALID tools[0].function.description',
  );
  for (const parameters of [[], 'x', true]) {
    assert.equal(withTools(tool('a', { parameters })), 'REQUEST_INVALID tools[0].function.parameters');
  }
});

test('there are bounds for tools and for all their schemas together', () => {
  const many = (count: number) => Array.from({ length: count }, (_, index) => tool(`f${index}`));
  assert.equal(refusalOf({ tools: many(TOOLS_MAX), tool_choice: 'required' }), 'accepted');
  assert.equal(refusalOf({ tools: many(TOOLS_MAX + 1), tool_choice: 'required' }), 'REQUEST_INVALID tools');
  assert.equal(refusalOf({ tools: many(10_000), tool_choice: 'required' }), 'REQUEST_INVALID tools');
  const half = { parameters: { description: 'd'.repeat(SCHEMA_CHARACTERS_MAX / 2) } };
  assert.equal(refusalOf({ tools: [tool('a', half)], tool_choice: 'required' }), 'accepted');
  assert.equal(
    refusalOf({ tools: [tool('a', half), tool('b', half)], tool_choice: 'required' }),
    'REQUEST_INVALID tools',
  );
});

test('what is no choice is refused by its place', () => {
  const choose = (tool_choice: unknown) => refusalOf({ tools: TOOLS, tool_choice });
  assert.equal(choose('any'), 'REQUEST_INVALID tool_choice');
  assert.equal(choose('constructor'), 'REQUEST_INVALID tool_choice');
  assert.equal(choose(5), 'REQUEST_INVALID tool_choice.type');
  assert.equal(choose({}), 'REQUEST_INVALID tool_choice.type');
  assert.equal(choose({ type: 'function' }), 'REQUEST_INVALID tool_choice.function');
  assert.equal(choose(named(5)), 'REQUEST_INVALID tool_choice.function.name');
  assert.equal(choose(named('nobody')), 'REQUEST_INVALID tool_choice.function.name');
  assert.equal(choose({ type: 'allowed_tools', allowed_tools: {} }), 'FIELD_NOT_SUPPORTED tool_choice.type');
  assert.equal(choose({ type: 'custom', custom: { name: 'x' } }), 'FIELD_NOT_SUPPORTED tool_choice.type');
  assert.equal(refusalOf({ tool_choice: 'required' }), 'REQUEST_INVALID tool_choice');
  assert.equal(refusalOf({ tool_choice: named('b') }), 'REQUEST_INVALID tool_choice.function.name');
  assert.equal(
    refusalOf({ tools: TOOLS, tool_choice: 'required', parallel_tool_calls: 'yes' }),
    'REQUEST_INVALID parallel_tool_calls',
  );
});

test('a call has neither another form nor probabilities; words beside tools may have both', () => {
  const required = { tools: TOOLS, tool_choice: 'required' };
  const form = { response_format: { type: 'json_object' } };
  assert.equal(refusalOf({ ...required, ...form }), 'REQUEST_INVALID response_format');
  assert.equal(refusalOf({ ...required, grammar: 'root ::= "a"' }), 'REQUEST_INVALID grammar');
  assert.equal(refusalOf({ ...required, logprobs: true }), 'FIELD_NOT_SUPPORTED logprobs');
  assert.equal(refusalOf({ tools: TOOLS, tool_choice: 'none', logprobs: true, ...form }), 'accepted');
  assert.equal(refusalOf({ ...required, response_format: { type: 'text' } }), 'accepted');
});
