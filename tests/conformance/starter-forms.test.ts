import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { JsonSchema, LoadedModel } from '../../src/core/base/engine-port.ts';
import { silentLog } from '../../src/core/base/log.ts';
import { createLlamaEngine } from '../../src/io/engine/llama/llama-engine.ts';
import { realModel } from '../fixtures/real-models.ts';
import { weightsFile } from './engine-fixture.ts';
import { chat, collectAnswer } from './engine-suite.ts';

// The whole suite with this model is in the full tier; these are the answers that only a real vocabulary tests.

const SCHEMA: JsonSchema = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 20 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    mood: { enum: ['good', 'bad'] },
  },
  required: ['name', 'age', 'mood'],
  additionalProperties: false,
};

let model: LoadedModel;
before(async () => {
  const weights = [weightsFile(await realModel('smollm2-135m-instruct'))];
  model = await createLlamaEngine({ log: silentLog }).load({ name: 'starter', weights, contextTokens: 1024 });
});
after(() => model.close());

test('a real model fills a schema in, and ends', async () => {
  const validate = new Ajv2020().compile(SCHEMA as object);
  for (const sampling of [{ temperature: 0 }, { temperature: 1.2, topK: 0, topP: 1, minP: 0, seed: 3 }]) {
    const { text, finished } = await collectAnswer(model, {
      prompt: chat('Describe Anna, who is 28 years old and happy, as JSON.'),
      constraint: { kind: 'json-schema', schema: SCHEMA },
      sampling,
    });
    assert.ok(validate(JSON.parse(text)), text);
    assert.equal(finished.reason, 'stop');
    if (sampling.temperature === 0) assert.match(text, /Anna.*28.*good/);
  }
});

test('a real model calls the function that it must call', async () => {
  const events = await Array.fromAsync(
    model.generate({
      prompt: chat('Is it warm in Oslo today?'),
      tools: {
        definitions: [
          {
            name: 'get_weather',
            parameters: {
              type: 'object',
              properties: { city: { type: 'string', maxLength: 20 } },
              required: ['city'],
              additionalProperties: false,
            },
          },
        ],
        choice: { kind: 'required' },
        isParallel: false,
      },
      sampling: { temperature: 0 },
    }),
  );
  const text = events.map((event) => (event.kind === 'tool-arguments' ? event.text : '')).join('');
  assert.deepEqual(JSON.parse(text), { city: 'Oslo' });
  const last = events.at(-1);
  assert.ok(last?.kind === 'finished' && last.reason === 'tool-calls');
});
