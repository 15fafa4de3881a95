import { silentLog } from '../../src/core/base/log.ts';
import { createLlamaEngine } from '../../src/io/engine/llama/llama-engine.ts';
import { realModel } from '../fixtures/real-models.ts';
import { weightsFile } from './engine-fixture.ts';
import { engineSuite } from './engine-suite.ts';

const engine = createLlamaEngine({ log: silentLog });

engineSuite('llama with the starter model', {
  purpose: 'generate',
  answers: 'sensible',
  prepare: async () => ({ engine, weights: [weightsFile(await realModel('smollm2-135m-instruct'))] }),
});
