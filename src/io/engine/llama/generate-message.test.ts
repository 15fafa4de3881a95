import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GenerateRequest, JsonSchema, ToolUse } from '../../../core/base/engine-port.ts';
import { type GenerateContext, generateMessage, mustCall } from './generate-message.ts';
import { CACHED_CHARACTERS_MAX, GrammarCache } from './grammar-cache.ts';
import { parseParentMessage } from './protocol.ts';

const CONTEXT: GenerateContext = {
  defaults: { stop: ['<|im_end|>'], temperature: 0.3 },
  seed: 42,
  contextTokens: 100,
  adapters: ['legal', 'medical'],
  grammars: new GrammarCache(),
};
const PROMPT = { kind: 'chat', messages: [{ role: 'user', content: 'x' }] } as const;
const SCHEMA: JsonSchema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] };
const TOOLS: ToolUse = {
  definitions: [{ name: 'f', description: 'F', parameters: SCHEMA }, { name: 'g' }],
  choice: { kind: 'required' },
  isParallel: false,
};

const message = (request: Partial<GenerateRequest>) =>
  generateMessage({ prompt: PROMPT, ...request }, CONTEXT);

test('what is made of a request passes the check of the engine process', () => {
  const call = { id: 'c', name: 'f', arguments: '{"a":1}' };
  for (const request of [
    {},
    { tools: TOOLS },
    { tools: { ...TOOLS, isParallel: true, choice: { kind: 'named', name: 'g' } } },
    { constraint: { kind: 'json-object' } },
    { constraint: { kind: 'json-schema', schema: SCHEMA } },
    { constraint: { kind: 'gbnf', grammar: 'root ::= "a"' } },
    { adapter: 'medical' },
    {
      prompt: {
        kind: 'chat',
        messages: [
          { role: 'user', content: 'x' },
          { role: 'assistant', content: '', toolCalls: [call] },
          { role: 'tool', content: 'y', toolCallId: 'c', name: 'f' },
        ],
      },
    },
  ] as const satisfies readonly Partial<GenerateRequest>[]) {
    const made = { ...message(request), id: 1 };
    assert.deepEqual(parseParentMessage(JSON.parse(JSON.stringify(made))), JSON.parse(JSON.stringify(made)));
  }
  assert.equal(message({ adapter: 'medical' }).adapter, 1);
});

test('the seed: of the request, of the package, or the given one; then the answer is not reproducible', () => {
  const of = (request: Partial<GenerateRequest>, defaults: GenerateContext['defaults']) => {
    const made = generateMessage({ prompt: PROMPT, ...request }, { ...CONTEXT, defaults });
    return [made.sampling.seed, made.isReproducible];
  };
  assert.deepEqual(of({ sampling: { seed: 7 } }, { seed: 8 }), [7, true]);
  assert.deepEqual(of({}, { seed: 8 }), [8, true]);
  assert.deepEqual(of({}, undefined), [42, false]);
  assert.deepEqual(of({ sampling: { temperature: 0 } }, undefined), [42, true]);
});

test('stop strings of the package hold for free answers only', () => {
  assert.deepEqual(message({ stop: ['!'] }).stop, ['<|im_end|>', '!']);
  assert.deepEqual(message({ stop: ['!'], constraint: { kind: 'json-object' } }).stop, ['!']);
  assert.deepEqual(message({ tools: TOOLS }).stop, []);
  assert.deepEqual(message({ tools: { ...TOOLS, choice: { kind: 'none' } } }).stop, ['<|im_end|>']);
});

test('the model is told of tools when it must call one, or has called', () => {
  const shown = (request: Partial<GenerateRequest>) => {
    const { prompt } = message(request);
    return prompt.kind === 'chat' ? prompt.tools : assert.fail();
  };
  const none: ToolUse = { ...TOOLS, choice: { kind: 'none' } };
  const called = {
    kind: 'chat',
    messages: [
      ...PROMPT.messages,
      { role: 'assistant', content: '', toolCalls: [{ id: 'c', name: 'f', arguments: '{}' }] },
    ],
  } as const;
  assert.deepEqual(shown({ tools: TOOLS }), TOOLS.definitions);
  assert.equal(shown({ tools: none }), undefined);
  assert.deepEqual(shown({ tools: none, prompt: called }), TOOLS.definitions);
  assert.equal(shown({ prompt: called }), undefined);
  assert.equal(shown({ tools: { ...none, definitions: [] }, prompt: called }), undefined);
  assert.deepEqual(
    [mustCall({ tools: TOOLS }), mustCall({ tools: none }), mustCall({})],
    [true, false, false],
  );
});

test('a call and another form exclude each other; a form and tools that are not called do not', () => {
  const constraint = { kind: 'json-object' } as const;
  assert.throws(() => message({ tools: TOOLS, constraint }), { code: 'REQUEST_INVALID' });
  assert.ok(message({ tools: { ...TOOLS, choice: { kind: 'none' } }, constraint }).grammar);
});

test('what cannot be enforced is refused by name', () => {
  assert.throws(() => message({ constraint: { kind: 'json-schema', schema: { unknown: 1 } } }), {
    code: 'SCHEMA_NOT_SUPPORTED',
    message: /unknown/,
  });
  assert.throws(
    () => message({ constraint: { kind: 'gbnf', grammar: `root ::=${' "a"'.repeat(300_000)}` } }),
    {
      code: 'GRAMMAR_INVALID',
    },
  );
  assert.throws(() => message({ adapter: 'legal2' }), { code: 'REQUEST_INVALID', message: /legal, medical/ });
});

test('a grammar is compiled once for equal schemas; old ones make room', () => {
  const cache = new GrammarCache();
  const schemaOf = (name: string): JsonSchema => ({ const: name });
  const first = cache.ofConstraint({ kind: 'json-schema', schema: schemaOf('a') });
  assert.ok(first.includes('a'));
  assert.equal(cache.ofConstraint({ kind: 'json-schema', schema: schemaOf('a') }), first);
  assert.notEqual(cache.ofConstraint({ kind: 'json-schema', schema: schemaOf('b') }), first);
  // Far more than are kept: the memory stays bounded, and each is right.
  const long = 'x'.repeat(CACHED_CHARACTERS_MAX >> 6);
  for (let index = 0; index < 100; index++) {
    const grammar = cache.ofConstraint({ kind: 'gbnf', grammar: `root ::= "${index}" #${long}` });
    assert.ok(grammar.startsWith(`root ::= "${index}"`));
    assert.ok(cache.characters <= CACHED_CHARACTERS_MAX);
  }
  // Wrong ones are wrong each time.
  for (let round = 0; round < 2; round++) {
    assert.throws(() => cache.ofConstraint({ kind: 'gbnf', grammar: 'root ::= x' }), {
      code: 'GRAMMAR_INVALID',
    });
  }
  assert.notEqual(cache.ofTools(TOOLS), cache.ofTools({ ...TOOLS, isParallel: true }));
});
