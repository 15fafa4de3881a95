import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import type { JsonSchema } from '../src/core/base/engine-port.ts';
import { requireGrammar } from '../src/core/grammar/gbnf.ts';
import { compileJsonSchema, JSON_OBJECT_GRAMMAR } from '../src/core/grammar/json-schema.ts';
import { ToolCallReader } from '../src/core/grammar/tool-call-reader.ts';
import { compileToolCalls } from '../src/core/grammar/tool-calls.ts';
import { GrammarConstraint } from '../src/io/engine/llama/grammar-constraint.ts';
import { type NativeGrammar, nativeGrammars, randomAnswer, takesText } from './fixtures/grammar-native.ts';
import { checkRandomAnswers } from './fixtures/grammar-native-run.ts';
import { llamaLibraryMissing } from './fixtures/llama-library.ts';
import { seededRandom } from './fixtures/random.ts';
import { skipUnlessCi } from './fixtures/skip.ts';

const skip = skipUnlessCi(llamaLibraryMissing());
let tiny: NativeGrammar;
let starter: NativeGrammar;

before(async () => {
  if (skip === false) ({ tiny, starter } = await nativeGrammars());
});

test('llama.cpp takes our grammars, and random tokens make valid values: 50 schemas, byte tokens', {
  skip,
}, () => {
  checkRandomAnswers(tiny, 50, 1);
});

test('the same with the vocabulary of the starter model, whose tokens cross the borders of rules', {
  skip,
}, () => {
  checkRandomAnswers(starter, 6, 2);
});

test('random tokens under the grammar of any object make an object', { skip }, () => {
  requireGrammar(JSON_OBJECT_GRAMMAR);
  for (let seed = 0; seed < 10; seed++) {
    const value: unknown = JSON.parse(randomAnswer(tiny, JSON_OBJECT_GRAMMAR, seededRandom(seed)) ?? '');
    assert.ok(typeof value === 'object' && value !== null && !Array.isArray(value));
  }
});

test('random tokens under the grammar of tool calls are read as tool calls', { skip }, () => {
  const parameters = { type: 'object', properties: { x: { type: 'integer' } }, required: ['x'] };
  for (const isParallel of [false, true]) {
    const gbnf = compileToolCalls({
      definitions: [{ name: 'move "now"', parameters }, { name: 'stop' }],
      choice: { kind: 'required' },
      isParallel,
    });
    requireGrammar(gbnf);
    for (let seed = 0; seed < 5; seed++) {
      const reader = new ToolCallReader();
      const text = randomAnswer(tiny, gbnf, seededRandom(seed)) ?? '';
      const events = reader.push(text);
      assert.ok(events.some(({ kind }) => kind === 'tool-call'));
      assert.deepEqual(reader.finish(), { isComplete: true }, text);
    }
  }
});

test('what is at a limit of ours is no trouble for llama.cpp', { skip }, () => {
  const members = Array.from({ length: 2_000 }, (_, index) => [`member${index}`, { type: 'integer' }]);
  const words = Array.from({ length: 10_000 }, (_, index) => `word ${index * 7919}`);
  const cases: [schema: JsonSchema, fitting: unknown, other: unknown][] = [
    [{ type: 'string', minLength: 1_500, maxLength: 60_000 }, 'é'.repeat(1_500), 'x'.repeat(1_499)],
    [{ type: 'string', maxLength: 1_500 }, 'x'.repeat(1_500), 'x'.repeat(1_501)],
    [
      { type: 'array', items: { type: 'boolean' }, minItems: 600, maxItems: 601 },
      Array(601).fill(true),
      Array(602).fill(true),
    ],
    [
      { type: 'object', properties: Object.fromEntries(members) },
      { member5: 1, member1999: 2 },
      { member1999: 1, member5: 2 },
    ],
    [{ enum: words }, words[9_999], 'word 1'],
    [
      { type: 'string', pattern: '^[a-z]+( [a-z]+)*$', maxLength: 1_000 },
      `${'ab '.repeat(333)}c`,
      `${'ab '.repeat(333)}cd`,
    ],
  ];
  for (const [schema, fitting, other] of cases) {
    const gbnf = compileJsonSchema(schema);
    requireGrammar(gbnf);
    assert.ok(takesText(tiny, gbnf, JSON.stringify(fitting)), JSON.stringify(fitting).slice(0, 100));
    assert.ok(!takesText(tiny, gbnf, JSON.stringify(other)), JSON.stringify(other).slice(0, 100));
  }
});

test('llama.cpp takes every grammar that passes our check', { skip }, () => {
  const { body } = fc.letrec<{ body: string; item: string }>((tie) => ({
    item: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom('"a"', '"bc"', '[a-z]', '[^\\n]', '.', 'x', 'y'),
      tie('body').map((inner) => `(${inner})`),
    ),
    body: fc
      .array(fc.tuple(tie('item'), fc.constantFrom('', '', '', '*', '+', '?', '{2}', '{1,3}', ' | "d"')), {
        minLength: 1,
        maxLength: 3,
      })
      .map((parts) => parts.map((part) => part.join('')).join(' ')),
  }));
  let taken = 0;
  fc.assert(
    fc.property(body, body, body, (root, x, y) => {
      const gbnf = `root ::= ${root}\nx ::= ${x}\ny ::= ${y}\n`;
      try {
        requireGrammar(gbnf);
      } catch {
        return;
      }
      const constraint = new GrammarConstraint(tiny.grammar, gbnf);
      constraint.mask(new Float32Array(tiny.vocabulary.tokenCount));
      constraint.close();
      taken++;
    }),
    { seed: 6, numRuns: 4_000, endOnFailure: true },
  );
  assert.ok(taken > 1_000, `${taken}`);
});
