import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before } from 'node:test';
import { silentLog } from '../../src/core/base/log.ts';
import { createFakeEngine } from '../../src/io/engine/fake/fake-engine.ts';
import { createLlamaEngine } from '../../src/io/engine/llama/llama-engine.ts';
import { minilmGguf } from '../fixtures/minilm.ts';
import { writeTinyModel } from '../fixtures/tiny-model.ts';
import { CITY_ARGUMENTS } from './answer-form-suite.ts';
import { weightsFile } from './engine-fixture.ts';
import { engineSuite } from './engine-suite.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'freehold-engine-'));
  // A token is about a byte: definitions of tools need more than the default.
  await writeTinyModel(path.join(folder, 'tiny.gguf'), { contextTokens: 2048 });
});
after(() => rm(folder, { recursive: true }));

const tiny = () => [weightsFile(path.join(folder, 'tiny.gguf'))];
const llama = createLlamaEngine({ log: silentLog });

engineSuite('fake', {
  purpose: 'generate',
  answers: 'fixed',
  prepare: async () => ({
    engine: createFakeEngine({ contextTokens: 512, callArguments: () => CITY_ARGUMENTS }),
    weights: tiny(),
  }),
});
engineSuite('fake embedder', {
  purpose: 'embed',
  prepare: async () => ({
    engine: createFakeEngine({ purpose: 'embed', contextTokens: 512 }),
    weights: tiny(),
  }),
});
engineSuite('llama', {
  purpose: 'generate',
  answers: 'random',
  prepare: async () => ({ engine: llama, weights: tiny() }),
});
engineSuite('llama embedder', {
  purpose: 'embed',
  prepare: async () => ({ engine: llama, weights: [weightsFile(await minilmGguf())] }),
});
