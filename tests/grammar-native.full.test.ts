import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { locateLibrary } from '../src/io/engine/llama/library-folder.ts';
import { openLibrary } from '../src/io/engine/llama/llama-library.ts';
import { loadNativeGrammar, type NativeGrammar } from './fixtures/grammar-native.ts';
import { checkRandomAnswers } from './fixtures/grammar-native-run.ts';
import { llamaLibraryMissing } from './fixtures/llama-library.ts';
import { realModel } from './fixtures/real-models.ts';
import { skipUnlessCi } from './fixtures/skip.ts';
import { writeTinyModel } from './fixtures/tiny-model.ts';

const skip = skipUnlessCi(llamaLibraryMissing());
let folder: string;
let tiny: NativeGrammar;
let starter: NativeGrammar;

before(async () => {
  if (skip !== false) return;
  folder = await mkdtemp(path.join(tmpdir(), 'freehold-grammar-native-'));
  const library = openLibrary(locateLibrary());
  tiny = loadNativeGrammar(library, await writeTinyModel(path.join(folder, 'tiny.gguf')));
  starter = loadNativeGrammar(library, await realModel('smollm2-135m-instruct'));
});
after(async () => {
  if (skip === false) await rm(folder, { recursive: true });
});

test('1,000 schemas through llama.cpp with random byte tokens', { skip }, () => {
  checkRandomAnswers(tiny, 1_000, 20_261_122);
});

test('100 schemas through llama.cpp with random tokens of the starter model', { skip }, () => {
  checkRandomAnswers(starter, 100, 20_261_123);
});
