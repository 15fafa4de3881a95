import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { seededRandom } from '../../../../tests/fixtures/random.ts';
import { realModel } from '../../../../tests/fixtures/real-models.ts';
import { loadVocabularyOnly } from '../../../../tests/fixtures/vocabularies.ts';
import type { JsonSchema } from '../../../core/base/engine-port.ts';
import { compileJsonSchema, JSON_OBJECT_GRAMMAR } from '../../../core/grammar/json-schema.ts';
import { GrammarConstraint } from './grammar-constraint.ts';
import { GrammarVocabulary } from './grammar-vocabulary.ts';
import { locateLibrary } from './library-folder.ts';
import { openLibrary } from './llama-library.ts';
import { readVocabulary, type Vocabulary } from './vocabulary.ts';

let grammar: GrammarVocabulary;
let vocabulary: Vocabulary;

before(async () => {
  const library = openLibrary(locateLibrary());
  const model = loadVocabularyOnly(library, await realModel('smollm2-135m-instruct'));
  vocabulary = readVocabulary(library, model);
  grammar = new GrammarVocabulary(library, library.vocabularyOf(model), vocabulary.tokenCount);
});

const SCHEMAS: Readonly<Record<string, JsonSchema>> = {
  flat: {
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 2, maxLength: 9 },
      age: { type: 'integer', minimum: -5, maximum: 120 },
      ratio: { type: 'number', minimum: 0, maximum: 1 },
      state: { enum: ['on', 'öff', null, 7, { a: 1 }] },
    },
    required: ['name', 'age', 'ratio'],
    additionalProperties: false,
  },
  nested: {
    type: 'object',
    properties: {
      rows: {
        type: 'array',
        minItems: 1,
        maxItems: 3,
        items: {
          anyOf: [
            { type: 'string', pattern: '^[a-cé😀]{1,4}-[0-9]+$', maxLength: 12 },
            { type: 'array', items: { type: 'boolean' }, maxItems: 2 },
          ],
        },
      },
    },
    required: ['rows'],
    additionalProperties: false,
  },
  recursive: {
    $ref: '#/$defs/tree',
    $defs: {
      tree: {
        type: 'object',
        properties: { leaf: { type: 'integer' }, left: { $ref: '#/$defs/tree' } },
        required: ['leaf'],
        additionalProperties: false,
      },
    },
  },
  'constant text': { const: 'naïve "\\ 😀' },
};

/** Writes with random tokens that fit. @returns undefined when it did not end within `tokensMax` */
function randomAnswer(
  gbnf: string,
  random: ReturnType<typeof seededRandom>,
  tokensMax: number,
): string | undefined {
  const constraint = new GrammarConstraint(grammar, gbnf);
  try {
    const answer: Uint8Array[] = [];
    while (!constraint.isComplete) {
      if (answer.length >= tokensMax) return undefined;
      const some = Int32Array.from({ length: 48 }, () => random.below(vocabulary.tokenCount));
      // Long tokens first, so that those of one byte do not write everything.
      const tokens = Int32Array.from([...some, ...grammar.tokens.byteTokens]);
      const places = constraint.allowedAmong(tokens);
      const likely = places.filter((place) => place < some.length);
      const from = likely.length > 0 ? likely : places;
      const token = tokens[from[random.below(from.length)] ?? -1] ?? fittingToken(constraint, random);
      if (vocabulary.isEndOfGeneration(token)) break;
      constraint.accept(token);
      answer.push(vocabulary.visibleBytes(token));
    }
    return Buffer.concat(answer).toString();
  } finally {
    constraint.close();
  }
}

function fittingToken(constraint: GrammarConstraint, random: ReturnType<typeof seededRandom>): number {
  const logits = new Float32Array(vocabulary.tokenCount);
  constraint.mask(logits);
  const left = [...logits.keys()].filter((token) => logits[token] === 0);
  return left[random.below(left.length)] as number;
}

for (const [name, schema] of Object.entries(SCHEMAS)) {
  test(`a thousand answers of random tokens are valid: ${name}`, () => {
    const gbnf = compileJsonSchema(schema);
    const validate = new Ajv2020().compile(schema as object);
    const random = seededRandom(name.length);
    let ended = 0;
    for (let round = 0; round < 1000; round++) {
      const text = randomAnswer(gbnf, random, 300);
      if (text === undefined) continue;
      ended++;
      assert.ok(validate(JSON.parse(text)), `${text}: ${JSON.stringify(validate.errors)}`);
    }
    assert.ok(ended > 950, `${ended} of 1000 ended`);
  });
}

test('ten thousand constraints leave no memory behind', () => {
  const gbnf = compileJsonSchema(SCHEMAS.flat as JsonSchema);
  const random = seededRandom(5);
  const round = (count: number) => {
    for (let index = 0; index < count; index++) {
      const constraint = new GrammarConstraint(grammar, index % 2 === 0 ? gbnf : JSON_OBJECT_GRAMMAR);
      for (const token of vocabulary.tokenize('{"name":"A', false)) constraint.accept(token);
      constraint.allowedAmong(Int32Array.from({ length: 32 }, () => random.below(vocabulary.tokenCount)));
      if (index % 500 === 0) constraint.mask(new Float32Array(vocabulary.tokenCount));
      constraint.close();
    }
  };
  round(1000);
  const before = process.memoryUsage.rss();
  round(10_000);
  const grownBytes = process.memoryUsage.rss() - before;
  // A grammar takes 20 kB and more: ten thousand kept ones would be 200 MB.
  assert.ok(grownBytes < 40 << 20, `${grownBytes} bytes more`);
});
