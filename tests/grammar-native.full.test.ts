import { before, test } from 'node:test';
import { type NativeGrammar, nativeGrammars } from './fixtures/grammar-native.ts';
import { checkRandomAnswers } from './fixtures/grammar-native-run.ts';
import { llamaLibraryMissing } from './fixtures/llama-library.ts';
import { skipUnlessCi } from './fixtures/skip.ts';

const skip = skipUnlessCi(llamaLibraryMissing());
let tiny: NativeGrammar;
let starter: NativeGrammar;

before(async () => {
  if (skip === false) ({ tiny, starter } = await nativeGrammars());
});

test('1,000 schemas through llama.cpp with random byte tokens', { skip }, () => {
  checkRandomAnswers(tiny, 1_000, 20_261_122);
});

test('100 schemas through llama.cpp with random tokens of the starter model', { skip }, () => {
  checkRandomAnswers(starter, 100, 20_261_123);
});
