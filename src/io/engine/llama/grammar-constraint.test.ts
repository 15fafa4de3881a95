import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { seededRandom } from '../../../../tests/fixtures/random.ts';
import { realModel } from '../../../../tests/fixtures/real-models.ts';
import { writeTinyModel } from '../../../../tests/fixtures/tiny-model.ts';
import { loadVocabularyOnly } from '../../../../tests/fixtures/vocabularies.ts';
import { GrammarConstraint } from './grammar-constraint.ts';
import { GrammarVocabulary } from './grammar-vocabulary.ts';
import { locateLibrary } from './library-folder.ts';
import { type LlamaLibrary, openLibrary } from './llama-library.ts';
import { readVocabulary, type Vocabulary } from './vocabulary.ts';

interface Loaded {
  readonly grammar: GrammarVocabulary;
  readonly vocabulary: Vocabulary;
}

let library: LlamaLibrary;
let tiny: Loaded;
let starter: Loaded;
let folder: string;

function loaded(file: string): Loaded {
  const model = loadVocabularyOnly(library, file);
  const vocabulary = readVocabulary(library, model);
  const grammar = new GrammarVocabulary(library, library.vocabularyOf(model), vocabulary.tokenCount);
  return { grammar, vocabulary };
}

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'freehold-grammar-'));
  library = openLibrary(locateLibrary());
  tiny = loaded(await writeTinyModel(path.join(folder, 'tiny.gguf')));
  starter = loaded(await realModel('smollm2-135m-instruct'));
});
after(() => rm(folder, { recursive: true }));

const textOf = ({ vocabulary }: Loaded, tokens: readonly number[]): string =>
  Buffer.concat(tokens.map((token) => vocabulary.visibleBytes(token))).toString();

/** Tokens that `mask` leaves. */
function maskLeaves(constraint: GrammarConstraint, model: Loaded): number[] {
  const logits = new Float32Array(model.vocabulary.tokenCount);
  constraint.mask(logits);
  return [...logits.keys()].filter((token) => logits[token] === 0);
}

function constrained(model: Loaded, gbnf: string, text = ''): GrammarConstraint {
  const constraint = new GrammarConstraint(model.grammar, gbnf);
  for (const token of model.vocabulary.tokenize(text, false)) constraint.accept(token);
  return constraint;
}

const JSON_TEXT = `
root ::= "{" (pair ("," pair)*)? "}"
pair ::= string ":" value
value ::= string | number | root | "[" (value ("," value)*)? "]" | "true" | "false" | "null"
string ::= "\\"" ([^"\\\\\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])){0,12} "\\""
number ::= "-"? ("0" | [1-9] [0-9]{0,9}) ("." [0-9]{1,5})?
`;

test('a token may come exactly when its whole text fits', () => {
  for (const model of [tiny, starter]) {
    const constraint = constrained(model, 'root ::= [a-f ]+ "!"?');
    const left = maskLeaves(constraint, model);
    const fitting = [...Array(model.vocabulary.tokenCount).keys()].filter((token) =>
      /^[a-f ]+!?$/.test(Buffer.from(model.vocabulary.visibleBytes(token)).toString()),
    );
    assert.deepEqual(left, fitting);
    assert.ok(left.length > 5);
    constraint.close();
  }
});

test('one token, several, all: the same verdict, at every step of an answer', () => {
  const text = '{"naïve 😀":[1.5,"a\\u00e9",{}],"x":null}';
  const every = Int32Array.from({ length: tiny.vocabulary.tokenCount }, (_, token) => token);
  const constraint = constrained(tiny, JSON_TEXT);
  for (const token of tiny.vocabulary.tokenize(text, false)) {
    const masked = maskLeaves(constraint, tiny);
    assert.deepEqual([...constraint.allowedAmong(every)], masked);
    assert.deepEqual(
      [...every].filter((candidate) => constraint.allows(candidate)),
      masked,
    );
    assert.equal(constraint.isComplete, false);
    constraint.accept(token);
  }
  assert.equal(constraint.isComplete, true);
  assert.deepEqual(maskLeaves(constraint, tiny), [...every].filter(tiny.vocabulary.isEndOfGeneration));
  constraint.close();
});

test('complete when nothing but the end can follow, not where the answer may go on', () => {
  const complete = (gbnf: string, text: string) => {
    const constraint = constrained(starter, gbnf, text);
    const { isComplete } = constraint;
    constraint.close();
    return isComplete;
  };
  assert.equal(complete('root ::= [0-9]+', '12'), false);
  assert.equal(complete('root ::= [0-9]{1,2}', '1'), false);
  assert.equal(complete('root ::= [0-9]{1,2}', '12'), true);
  assert.equal(complete('root ::= "a" [^a-z]*', 'a'), false);
  // Only the continuation that begins beyond ASCII is left.
  assert.equal(complete('root ::= "a" [é]?', 'a'), false);
  assert.equal(complete('root ::= "a" [é]?', 'aé'), true);
  // llama.cpp refuses the first byte of what a negated class might take; the whole character is another token.
  assert.equal(complete('root ::= "a" [^\\x00-\\u00e8\\u00ea-\\U0010ffff]?', 'a'), false);
  assert.equal(complete('root ::= ""', ''), true);
});

test('control tokens never stand for the characters that they are written with', () => {
  const controls = [...starter.vocabulary.controls.values()];
  assert.ok(controls.length > 10);
  const constraint = constrained(starter, 'root ::= "<|im_start|>" [^"]*');
  assert.deepEqual(constraint.allowedAmong(Int32Array.from(controls)), []);
  for (const token of starter.vocabulary.tokenize('<|im_start|>', false)) constraint.accept(token);
  const ends = controls.filter((token) => starter.vocabulary.isEndOfGeneration(token));
  assert.deepEqual(
    constraint.allowedAmong(Int32Array.from(controls)).map((place) => controls[place]),
    ends,
  );
  constraint.close();
});

test('bytes that are not UTF-8 never stand for characters', () => {
  const byte = (value: number) => 3 + value;
  const constraint = constrained(tiny, 'root ::= [^x]{4}');
  // 0xC1 0x81 and 0xE0 0x81 0x81 are "A" for a reader that takes overlong forms; 0xED 0xA0 is half of a surrogate pair.
  for (const first of [0xc0, 0xc1, 0xf5, 0xff, 0x80]) assert.equal(constraint.allows(byte(first)), false);
  constraint.accept(byte(0xe0));
  assert.equal(constraint.allows(byte(0x81)), false);
  assert.equal(constraint.allows(byte(0x41)), false);
  constraint.accept(byte(0xa4));
  constraint.accept(byte(0x85));
  constraint.accept(byte(0xed));
  assert.equal(constraint.allows(byte(0xa0)), false);
  constraint.close();
});

test('a grammar that asks for what the vocabulary cannot spell ends with a clear error', () => {
  // Nothing but control tokens would fit.
  const constraint = constrained(tiny, 'root ::= "a" <[1]>', 'a');
  assert.equal(constraint.isComplete, false);
  assert.throws(() => constraint.mask(new Float32Array(tiny.vocabulary.tokenCount)), {
    code: 'SCHEMA_NOT_SUPPORTED',
  });
  constraint.close();
});

test('what cannot be read is refused, what does not fit is not accepted, and the process lives on', () => {
  const deep = `root ::= ${'('.repeat(200)}"a"${')'.repeat(200)}`;
  constrained(tiny, deep, 'a').close();
  for (const gbnf of [
    '',
    ' ',
    'root',
    'root ::= a',
    'other ::= "a"',
    'root ::= root "a" | "a"',
    'root ::= "a\0"',
    'root ::= [',
    'root ::= "\ud800"',
    '# nothing',
  ]) {
    assert.throws(() => new GrammarConstraint(tiny.grammar, gbnf), { code: 'GRAMMAR_INVALID' }, gbnf);
  }
  const constraint = constrained(tiny, 'root ::= "a" "b"');
  const [a, b] =
    tiny.vocabulary.tokenize('ab', false).length === 2 ? tiny.vocabulary.tokenize('ab', false) : [];
  assert.ok(a !== undefined && b !== undefined);
  for (const token of [b, 0, 1, 2, -1, tiny.vocabulary.tokenCount, 2 ** 31]) {
    assert.throws(() => constraint.accept(token), { code: 'INTERNAL' }, String(token));
  }
  constraint.accept(a);
  constraint.accept(b);
  assert.throws(() => constraint.accept(b), { code: 'INTERNAL' });
  constraint.accept(2);
  assert.equal(constraint.isComplete, true);
  constraint.close();
  constraint.close();
  assert.throws(() => constraint.allows(a), { code: 'INTERNAL' });
});

test('any number of answers take turns over one vocabulary', () => {
  const words = ['alpha', 'beta', 'gamma'];
  const answers = words.map((word) => ({ word, constraint: constrained(tiny, `root ::= "${word}"`) }));
  for (let index = 0; index < 5; index++) {
    for (const { word, constraint } of answers) {
      const next = word.slice(index, index + 1);
      if (next === '') continue;
      const byte = 3 + next.charCodeAt(0);
      assert.ok(maskLeaves(constraint, tiny).includes(byte), `${word} ${index}`);
      constraint.accept(byte);
    }
  }
  for (const { word, constraint } of answers) {
    assert.equal(constraint.isComplete, true, word);
    constraint.close();
  }
});

test('random tokens that fit make JSON, always', () => {
  const random = seededRandom(11);
  const { tokenCount } = tiny.vocabulary;
  for (let round = 0; round < 150; round++) {
    const constraint = new GrammarConstraint(tiny.grammar, JSON_TEXT);
    const answer: number[] = [];
    while (!constraint.isComplete && answer.length < 400) {
      // A few draws, as a sampler does, then the whole list.
      let token = random.below(tokenCount);
      for (let attempt = 0; attempt < 20 && !constraint.allows(token); attempt++)
        token = random.below(tokenCount);
      if (!constraint.allows(token)) {
        const left = maskLeaves(constraint, tiny);
        token = left[random.below(left.length)] as number;
      }
      constraint.accept(token);
      answer.push(token);
    }
    const text = textOf(tiny, answer);
    if (constraint.isComplete) assert.equal(typeof JSON.parse(text), 'object', text);
    constraint.close();
  }
});
