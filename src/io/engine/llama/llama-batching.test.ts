import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { weightsFile } from '../../../../tests/conformance/engine-fixture.ts';
import { type Answer, chat, collectAnswer } from '../../../../tests/conformance/engine-suite.ts';
import { realModel } from '../../../../tests/fixtures/real-models.ts';
import { tinyAdapterBytes } from '../../../../tests/fixtures/tiny-adapter.ts';
import { writeTinyModel } from '../../../../tests/fixtures/tiny-model.ts';
import { Digest } from '../../../core/base/digest.ts';
import type { GenerateRequest, LoadedModel } from '../../../core/base/engine-port.ts';
import { silentLog } from '../../../core/base/log.ts';
import type { ThreadChoice } from '../../../core/base/thread-choices.ts';
import { createLlamaEngine } from './llama-engine.ts';

const GREEDY = { temperature: 0 } as const;
/** No token of the starter that ends an answer. */
const ENDLESS = { temperature: 0, logitBias: { 0: -100, 2: -100 } } as const;
const engine = createLlamaEngine({ log: silentLog });
let folder: string;
let starter: LoadedModel;
let tinyFile: string;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'freehold-batching-'));
  tinyFile = await writeTinyModel(path.join(folder, 'tiny.gguf'));
  starter = await engine.load({
    name: 'starter',
    weights: [weightsFile(await realModel('smollm2-135m-instruct'))],
    contextTokens: 2048,
  });
});
after(async () => {
  await starter?.close();
  await rm(folder, { recursive: true });
});

const codeQuestion = (code: string): GenerateRequest => ({
  prompt: chat(`The access code is ${code}. What is the access code?`),
  sampling: GREEDY,
  maxTokens: 16,
  logprobs: { top: 1 },
});

test('answers that are written together are those that each would get alone, and take turns', async () => {
  const questions = ['4417', '9052', '1138', '6620'].map(codeQuestion);
  const alone: Answer[] = [];
  for (const question of questions) alone.push(await collectAnswer(starter, question));
  const order: number[] = [];
  const together = await Promise.all(
    questions.map(async (question, index) => {
      const events = starter.generate({ ...question, sampling: ENDLESS, maxTokens: 6 });
      for await (const { kind } of events) if (kind === 'text') order.push(index);
      return collectAnswer(starter, question);
    }),
  );
  for (const [index, answer] of together.entries()) {
    assert.equal(answer.text, alone[index]?.text);
    // These weights are multiplied row by row: for others the last bits depend on the neighbours.
    assert.deepEqual(answer.tokens, alone[index]?.tokens);
  }
  assert.ok(order.indexOf(1) < order.lastIndexOf(0), `answers came one after another: ${order}`);
  assert.ok(order.indexOf(3) < order.lastIndexOf(2), `answers came one after another: ${order}`);
});

test('an answer goes on to the last bit when others come and the context grows under it', async () => {
  const request: GenerateRequest = {
    prompt: chat('Count from one to a hundred.'),
    sampling: ENDLESS,
    maxTokens: 48,
    logprobs: { top: 2 },
  };
  const load = async () =>
    engine.load({
      name: 'growing',
      weights: [weightsFile(await realModel('smollm2-135m-instruct'))],
      contextTokens: 1024,
    });
  const quiet = await load();
  const alone = await collectAnswer(quiet, request);
  await quiet.close();
  const growing = await load();
  try {
    const others: Promise<Answer>[] = [];
    const tokens: Answer['tokens'][number][] = [];
    for await (const event of growing.generate(request)) {
      if (event.kind !== 'text') continue;
      tokens.push(...event.tokens);
      if (tokens.length === 10) others.push(collectAnswer(growing, codeQuestion('5521')));
      if (tokens.length === 20) others.push(collectAnswer(growing, codeQuestion('7734')));
    }
    assert.deepEqual(tokens, alone.tokens);
    assert.match((await others[0])?.text ?? '', /5521/);
    assert.match((await others[1])?.text ?? '', /7734/);
  } finally {
    await growing.close();
  }
});

test('one of several running requests is cancelled, the others go on', async () => {
  const abort = new AbortController();
  const cancelled = collectAnswer(
    starter,
    { ...codeQuestion('1'), sampling: ENDLESS, maxTokens: 500 },
    abort.signal,
  );
  const other = collectAnswer(starter, codeQuestion('8086'));
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(cancelled, { code: 'CANCELLED' });
  assert.match((await other).text, /8086/);
});

test('more requests than sequences wait, and one that waits too long is told so', async () => {
  const hasty = createLlamaEngine({ log: silentLog, queueTimeoutMs: 100 });
  const model = await hasty.load({ name: 'tiny', weights: [weightsFile(tinyFile)], parallelRequests: 2 });
  try {
    assert.equal(model.info.parallelRequests, 2);
    const abort = new AbortController();
    const endless: GenerateRequest = { prompt: { kind: 'text', text: 'x' }, sampling: ENDLESS };
    const running = [1, 2].map((id) =>
      collectAnswer(model, { ...endless, requester: `user ${id}` }, abort.signal),
    );
    const ends = Promise.allSettled(running);
    await assert.rejects(collectAnswer(model, { ...endless, maxTokens: 1 }), { code: 'BUSY' });
    abort.abort();
    await ends;
    // The child needs a moment to end them.
    await assert.doesNotReject(async () => {
      for (let attempt = 0; ; attempt++) {
        try {
          return await collectAnswer(model, { ...endless, maxTokens: 1 });
        } catch (thrown) {
          if (attempt === 50) throw thrown;
        }
      }
    });
  } finally {
    await model.close();
  }
});

test('adapters over one base are chosen by each request', async () => {
  const base = await readFile(tinyFile);
  const files = await Promise.all(
    [1, 2].map(async (seed) => {
      const file = path.join(folder, `adapter-${seed}.gguf`);
      await writeFile(file, await tinyAdapterBytes({ seed }));
      return file;
    }),
  );
  const model = await engine.load({
    name: 'tiny',
    weights: [weightsFile(tinyFile)],
    adapters: files.map((file, index) => ({ name: `ward${index + 1}`, file: weightsFile(file) })),
  });
  try {
    assert.deepEqual(model.info.adapters, ['ward1', 'ward2']);
    const ask = (adapter?: string) =>
      collectAnswer(model, {
        prompt: { kind: 'text', text: 'The same beginning of a text for all of them' },
        sampling: ENDLESS,
        maxTokens: 12,
        logprobs: { top: 0 },
        ...(adapter === undefined ? {} : { adapter }),
      });
    const [plain, first, second] = [await ask(), await ask('ward1'), await ask('ward2')];
    assert.notDeepEqual(first.tokens, plain.tokens);
    assert.notDeepEqual(second.tokens, first.tokens);
    // At the same time, and in another order: nobody gets another's adapter or what was read under it.
    const wanted = ['ward2', undefined, 'ward1', 'ward2', undefined, 'ward1'];
    const answers = await Promise.all(wanted.map((adapter) => ask(adapter)));
    for (const [index, answer] of answers.entries()) {
      const alone = { ward1: first, ward2: second }[wanted[index] ?? ''] ?? plain;
      assert.deepEqual(
        answer.tokens.map(({ id }) => id),
        alone.tokens.map(({ id }) => id),
        `${wanted[index]}`,
      );
    }
    await assert.rejects(ask('ward3'), { code: 'REQUEST_INVALID', message: /ward1, ward2/ });
  } finally {
    await model.close();
  }
  assert.ok((await readFile(tinyFile)).equals(base));
});

test('a file that is no adapter of the base is refused before native code sees it', async () => {
  const other = path.join(folder, 'other.gguf');
  await writeFile(other, await readFile(tinyFile));
  const load = engine.load({
    name: 'tiny',
    weights: [weightsFile(tinyFile)],
    adapters: [{ name: 'wrong', file: weightsFile(other) }],
  });
  await assert.rejects(load, { code: 'ADAPTER_INVALID' });
});

test('threads are measured at the first load and remembered for the next', async () => {
  const choices = new Map<string, ThreadChoice>();
  const measuring = createLlamaEngine({
    log: silentLog,
    threadChoices: {
      read: async (key) => choices.get(key),
      write: async (key, choice) => {
        choices.set(key, choice);
      },
    },
  });
  const weights = [{ ...weightsFile(tinyFile), digest: Digest.of(await readFile(tinyFile)) }];
  const model = await measuring.load({ name: 'tiny', weights });
  await collectAnswer(model, { prompt: { kind: 'text', text: 'x' }, sampling: ENDLESS, maxTokens: 2 });
  await model.close();
  const [measured] = choices.values();
  assert.ok(measured !== undefined && measured.decode >= 1 && measured.batch >= 1);
  assert.ok(measured.tokensPerCpuSecond > 0);
  // A second load reads it, and does not measure.
  const [key] = choices.keys();
  choices.set(key ?? '', { decode: 2, batch: 1, tokensPerCpuSecond: 1 });
  const again = await measuring.load({ name: 'tiny', weights });
  await again.close();
  assert.deepEqual([...choices.values()], [{ decode: 2, batch: 1, tokensPerCpuSecond: 1 }]);
});
