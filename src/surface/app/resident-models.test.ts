import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Digest } from '../../core/base/digest.ts';
import type { GenerateEvent, LoadedModel } from '../../core/base/engine-port.ts';
import { RESIDENT_MODELS_MAX, ResidentModels } from './resident-models.ts';

/** A model that answers when it is told to, and counts its closings. */
function heldModel() {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const state = { closed: 0 };
  const model: LoadedModel = {
    info: {
      architecture: 'test',
      parameterCount: 1,
      contextTokens: 1,
      vocabularyTokens: 1,
      embeddingLength: 1,
      hasChatTemplate: false,
      purpose: 'generate',
      isolation: 'none',
    },
    async *generate(): AsyncIterable<GenerateEvent> {
      yield { kind: 'started', promptTokens: 1 };
      await released;
    },
    embed: async () => ({ vectors: [], promptTokens: 0 }),
    close: async () => {
      state.closed++;
    },
  };
  return { model, release, state };
}

const key = (name: string) => Digest.of(name);

test('concurrent callers share one load', async () => {
  const residents = new ResidentModels();
  let loads = 0;
  const load = async () => {
    loads++;
    return heldModel().model;
  };
  await Promise.all([1, 2, 3].map(() => residents.use(key('a'), load)));
  assert.equal(loads, 1);
  await residents.close();
});

test('a failed load is tried again', async () => {
  const residents = new ResidentModels();
  await assert.rejects(
    residents.use(key('a'), () => Promise.reject(new Error('first'))),
    /first/,
  );
  await residents.use(key('a'), async () => heldModel().model);
  await residents.close();
});

test('the least recently used idle model makes room; one at work never does', async () => {
  const residents = new ResidentModels();
  const held = Array.from({ length: RESIDENT_MODELS_MAX + 1 }, heldModel);
  const use = (index: number) =>
    residents.use(key(String(index)), async () => held[index]?.model ?? assert.fail());
  const first = await use(0);
  const running = first.generate({ prompt: { kind: 'text', text: '' } })[Symbol.asyncIterator]();
  await running.next();
  for (let index = 1; index <= RESIDENT_MODELS_MAX; index++) await use(index);
  assert.deepEqual(
    held.map(({ state }) => state.closed),
    [0, 1, ...Array(RESIDENT_MODELS_MAX - 1).fill(0)],
  );
  held[0]?.release();
  await running.next();
  await residents.close();
  assert.deepEqual(
    held.map(({ state }) => state.closed),
    Array(RESIDENT_MODELS_MAX + 1).fill(1),
  );
});

test('a caller that gives up leaves the load to the others', async () => {
  const residents = new ResidentModels();
  const { promise, resolve } = Promise.withResolvers<LoadedModel>();
  const abort = new AbortController();
  const impatient = residents.use(key('a'), () => promise, abort.signal);
  const patient = residents.use(key('a'), () => promise);
  abort.abort(new Error('gave up'));
  await assert.rejects(impatient, /gave up/);
  resolve(heldModel().model);
  assert.ok(await patient);
  await residents.close();
  await assert.rejects(
    residents.use(key('a'), () => promise),
    { code: 'CANCELLED' },
  );
});
