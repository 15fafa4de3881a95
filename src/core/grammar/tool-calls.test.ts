import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { matchesGbnf, walkGbnf } from '../../../tests/fixtures/gbnf-walk.ts';
import { seededRandom } from '../../../tests/fixtures/random.ts';
import type { ToolDefinition, ToolUse } from '../base/engine-port.ts';
import { requireGrammar } from './gbnf.ts';
import { parseGbnf } from './gbnf-parser.ts';
import { type ToolCallEvent, ToolCallReader } from './tool-call-reader.ts';
import { compileToolCalls } from './tool-calls.ts';

const definitions: ToolDefinition[] = [
  {
    name: 'weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
  { name: 'now', parameters: { type: 'object', properties: {} } },
  { name: 'any "thing" \\ é' },
];
const required = (isParallel: boolean): ToolUse => ({
  definitions,
  choice: { kind: 'required' },
  isParallel,
});

function rulesOf(tools: ToolUse) {
  const gbnf = compileToolCalls(tools);
  requireGrammar(gbnf);
  return parseGbnf(gbnf);
}

const CITY = '{"name":"weather","arguments":{"city":"Oslo"}}';
const NOW = '{"name":"now","arguments":{}}';

test('one call, of any tool or of the named one', () => {
  const any = rulesOf(required(false));
  for (const text of [CITY, NOW, '{"name":"any \\"thing\\" \\\\ é","arguments":{"x":[1]}}'])
    assert.ok(matchesGbnf(any, text), text);
  for (const text of [
    `[${NOW}]`,
    '{"name":"other","arguments":{}}',
    '{"name":"weather","arguments":{}}',
    '{"name":"now","arguments":{"a":1}}',
    '{}',
    '',
  ]) {
    assert.ok(!matchesGbnf(any, text), text);
  }
  const named = rulesOf({ definitions, choice: { kind: 'named', name: 'now' }, isParallel: false });
  assert.ok(matchesGbnf(named, NOW));
  assert.ok(!matchesGbnf(named, CITY));
});

test('several calls: 1 to 16 in a list', () => {
  const rules = rulesOf(required(true));
  const list = (count: number) => `[${Array(count).fill(NOW).join()}]`;
  for (const text of [list(1), `[${CITY},${NOW}]`, list(16)]) assert.ok(matchesGbnf(rules, text), text);
  for (const text of ['[]', NOW, list(17), `[${NOW}`, `[${NOW},]`])
    assert.ok(!matchesGbnf(rules, text), text);
});

test('what is wrong names the tool and the path in its parameters', () => {
  const withParameters = (parameters: ToolDefinition['parameters']): ToolUse => ({
    definitions: [{ name: 'a' }, { name: 'b', ...(parameters === undefined ? {} : { parameters }) }],
    choice: { kind: 'required' },
    isParallel: false,
  });
  const path = (parameters: ToolDefinition['parameters']) => {
    try {
      compileToolCalls(withParameters(parameters));
    } catch (error) {
      return (error as { detail: { path: string } }).detail.path;
    }
    return assert.fail('compiled');
  };
  assert.equal(
    path({ type: 'object', properties: { n: { multipleOf: 2 } } }),
    'tools[1].parameters#/properties/n/multipleOf',
  );
  assert.equal(
    path({ type: 'object', properties: { n: { $ref: '#/$defs/x' } } }),
    'tools[1].parameters#/properties/n/$ref',
  );
  assert.match(path({ type: 'string' }), /^tools\[1\]\.parameters#/);
  assert.match(path(false), /^tools\[1\]\.parameters#/);
  assert.equal(
    path({ type: 'object', properties: { n: { $ref: '#' } }, required: ['n'] }),
    'tools[1].parameters#',
  );
  compileToolCalls(
    withParameters({ $ref: '#/$defs/o', $defs: { o: { properties: { next: { $ref: '#/$defs/o' } } } } }),
  );
  compileToolCalls(withParameters({}));
  compileToolCalls(withParameters(true));
});

test('tools that do not go together are refused', () => {
  const refuses = (tools: ToolUse, message: RegExp) =>
    assert.throws(() => compileToolCalls(tools), { code: 'REQUEST_INVALID', message });
  refuses(
    { definitions, choice: { kind: 'named', name: 'nowhere' }, isParallel: false },
    /no tool has the name "nowhere"/,
  );
  refuses({ definitions: [], choice: { kind: 'required' }, isParallel: false }, /no tool to call/);
  refuses(
    { definitions: [{ name: 'a' }, { name: 'a' }], choice: { kind: 'required' }, isParallel: false },
    /two tools have the name "a"/,
  );
  refuses({ definitions, choice: { kind: 'none' }, isParallel: false }, /"none"/);
});

/** Events with the pieces of one call's arguments put together. */
function joined(events: readonly ToolCallEvent[]): unknown[] {
  const calls: { name: string; arguments: string }[] = [];
  for (const event of events) {
    if (event.kind === 'tool-call') {
      assert.equal(event.index, calls.length);
      calls.push({ name: event.name, arguments: '' });
      continue;
    }
    assert.equal(event.index, calls.length - 1);
    assert.notEqual(event.text, '');
    const call = calls.at(-1);
    if (call !== undefined) call.arguments += event.text;
  }
  return calls;
}

test('any split of an answer gives the same calls, and the arguments as they were written', () => {
  const grammars = [false, true].map((isParallel) => rulesOf(required(isParallel)));
  fc.assert(
    fc.property(
      fc.constantFrom(...grammars),
      fc.integer(),
      fc.array(fc.nat(400), { maxLength: 20 }),
      (rules, seed, cuts) => {
        const text = walkGbnf(rules, seededRandom(seed));
        const reader = new ToolCallReader();
        const borders = [0, ...cuts.map((cut) => Math.min(cut, text.length)), text.length].sort(
          (left, right) => left - right,
        );
        const events = borders.flatMap((border, index) => {
          if (index > 0 && border < text.length) assert.deepEqual(reader.finish(), { isComplete: false });
          return reader.push(text.slice(border, borders[index + 1]));
        });
        assert.deepEqual(reader.finish(), { isComplete: true }, text);
        const whole: unknown = JSON.parse(text);
        const calls = joined(events) as { name: string; arguments: string }[];
        const expected = (Array.isArray(whole) ? whole : [whole]) as { name: string; arguments: unknown }[];
        assert.deepEqual(
          calls.map((call) => ({ name: call.name, arguments: JSON.parse(call.arguments) as unknown })),
          expected,
        );
        assert.ok(calls.every((call) => text.includes(`"arguments":${call.arguments}}`)));
      },
    ),
    { seed: 5, numRuns: 500 },
  );
});

test('every character by itself, and what is cut is not complete', () => {
  const text = `[${CITY},{"name":"any \\"thing\\" \\\\ é","arguments":{"a":"}]\\"{","b":[{}]}}]`;
  const reader = new ToolCallReader();
  const events = [...text].flatMap((character) => reader.push(character));
  assert.deepEqual(joined(events), [
    { name: 'weather', arguments: '{"city":"Oslo"}' },
    { name: 'any "thing" \\ é', arguments: '{"a":"}]\\"{","b":[{}]}' },
  ]);
  for (let length = 0; length < text.length; length++) {
    const cut = new ToolCallReader();
    cut.push(text.slice(0, length));
    assert.deepEqual(cut.finish(), { isComplete: false }, text.slice(0, length));
  }
});

test('a text of another form is an error', () => {
  for (const text of [
    'hello',
    '{"name": "x"',
    '{"name":"x","arguments":[]}',
    '{"name":"x","arguments":5}',
    `${NOW}x`,
    `[${NOW}}`,
    '[]',
    ` ${NOW}`,
    '{"arguments":{}}',
    `[${NOW}]x`,
  ]) {
    assert.throws(() => new ToolCallReader().push(text), { code: 'ENGINE_FAILED' }, text);
  }
});
