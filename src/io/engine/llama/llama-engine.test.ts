import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { weightsFile } from '../../../../tests/conformance/engine-fixture.ts';
import { chat, collectAnswer } from '../../../../tests/conformance/engine-suite.ts';
import { ManualClock } from '../../../../tests/fixtures/manual-clock.ts';
import { minilmGguf } from '../../../../tests/fixtures/minilm.ts';
import { realModel } from '../../../../tests/fixtures/real-models.ts';
import { tinyModelContent, writeTinyModel } from '../../../../tests/fixtures/tiny-model.ts';
import { memoryByteSource } from '../../../core/base/byte-source.ts';
import type { GenerateRequest, LoadedModel } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { silentLog } from '../../../core/base/log.ts';
import { readGguf } from '../../../core/format/gguf/gguf-reader.ts';
import { ggufMetadata, ggufValue } from '../../../core/format/gguf/gguf-values.ts';
import { ggufParts } from '../../../core/format/gguf/gguf-writer.ts';
import { createLlamaEngine } from './llama-engine.ts';
import { LlamaModel } from './llama-model.ts';
import { GRID_TOKENS } from './sequence-memory.ts';

const GREEDY = { temperature: 0 } as const;
const engine = createLlamaEngine({ log: silentLog });
let folder: string;
let starter: LoadedModel;
let tinyFile: string;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'freehold-llama-'));
  tinyFile = await writeTinyModel(path.join(folder, 'tiny.gguf'));
  starter = await engine.load({
    name: 'starter',
    weights: [weightsFile(await realModel('smollm2-135m-instruct'))],
  });
});
after(async () => {
  await starter?.close();
  await rm(folder, { recursive: true });
});

const loadTiny = (options: Partial<Parameters<typeof engine.load>[0]> = {}, by = engine) =>
  by.load({ name: 'tiny', weights: [weightsFile(tinyFile)], ...options });

const processIdOf = (model: LoadedModel): number => {
  assert.ok(model instanceof LlamaModel && model.processId !== undefined);
  return model.processId;
};

const question: GenerateRequest = {
  prompt: chat('The access code is 7261. What is the access code?'),
  sampling: GREEDY,
  maxTokens: 32,
};

test('the starter answers a question whose answer stands only in the prompt', async () => {
  const answer = await collectAnswer(starter, question);
  assert.equal(answer.text, 'The access code is 7261.');
  assert.equal(answer.finished.reason, 'stop');
  assert.equal((await collectAnswer(starter, question)).text, answer.text);
});

test('an answer that is continued goes on where it stopped', async () => {
  const prompt: GenerateRequest['prompt'] = {
    kind: 'chat',
    messages: [
      { role: 'user', content: 'The access code is 7261. What is the access code?' },
      { role: 'assistant', content: 'The access code is' },
    ],
    continueLast: true,
  };
  assert.equal((await collectAnswer(starter, { ...question, prompt })).text, ' 7261.');
});

test('a slow reader gets the same text as a fast one', async () => {
  let text = '';
  for await (const event of starter.generate(question)) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    if (event.kind === 'text') text += event.text;
  }
  assert.equal(text, 'The access code is 7261.');
});

test('stop strings out of the real answer: nothing of them leaks, whatever the token borders', async () => {
  const request: GenerateRequest = { prompt: chat('Name three colours.'), sampling: GREEDY, maxTokens: 20 };
  const { text } = await collectAnswer(starter, request);
  for (let start = 1; start < text.length - 3; start += 23) {
    const stop = text.slice(start, start + 1 + (start % 7));
    const answer = await collectAnswer(starter, { ...request, stop: ['\u0000never', stop] });
    assert.equal(answer.text, text.slice(0, text.indexOf(stop)), JSON.stringify(stop));
    assert.equal(answer.finished.stop, stop);
  }
});

test('characters of several tokens are streamed whole', async () => {
  const prompt: GenerateRequest['prompt'] = { kind: 'text', text: '😀😃😄😁😆😅😂 😀😃😄😁😆😅😂 😀😃😄' };
  const answer = await collectAnswer(starter, {
    prompt,
    sampling: GREEDY,
    maxTokens: 24,
    logprobs: { top: 0 },
  });
  assert.match(answer.text, /\p{Emoji_Presentation}/u);
  // The limit may fall into a character: then its beginning is the very last thing.
  assert.doesNotMatch(answer.text.slice(0, -1), /\ufffd/);
  assert.ok(answer.tokens.length > [...answer.text].length, 'emoji of several tokens each');
  for (const piece of answer.pieces) assert.ok(piece.isWellFormed());
});

test('a reproducible answer does not depend on what was asked before, and whole pieces are reused', async () => {
  const story = 'A short story about a lighthouse keeper who repairs clocks in winter. '.repeat(10);
  const request: GenerateRequest = {
    prompt: chat(`${story}Who repairs clocks?`),
    sampling: GREEDY,
    maxTokens: 12,
    logprobs: { top: 3 },
  };
  await collectAnswer(starter, { prompt: chat('Hi'), maxTokens: 4 });
  const cold = await collectAnswer(starter, request);
  assert.ok(cold.finished.usage.cachedTokens <= GRID_TOKENS, 'nothing but the beginning of the template');
  // Reuses a prefix with token-by-token positions behind it, then leaves its own.
  await collectAnswer(starter, {
    ...request,
    prompt: chat(`${story}Name a season.`),
    sampling: { temperature: 1 },
  });
  const warm = await collectAnswer(starter, request);
  const { cachedTokens, promptTokens } = warm.finished.usage;
  assert.ok(cachedTokens > 100 && cachedTokens % GRID_TOKENS === 0 && cachedTokens < promptTokens);
  assert.deepEqual(warm.tokens, cold.tokens, 'to the last bit');
});

test('a request without a seed reuses all that fits', async () => {
  const request: GenerateRequest = {
    prompt: chat('Tell me about rivers.'),
    sampling: { temperature: 1 },
    maxTokens: 4,
  };
  await collectAnswer(starter, request);
  const { usage } = (await collectAnswer(starter, request)).finished;
  assert.equal(usage.cachedTokens, usage.promptTokens - 2);
});

/** How long a model with room for one stays occupied after an abort: until the next request has started. */
async function cancelledAfterMs(
  model: LoadedModel,
  request: GenerateRequest,
  event: 'started' | 'text',
  delayMs: number,
): Promise<number> {
  const abort = new AbortController();
  let begunMs = 0;
  const read = async (): Promise<void> => {
    for await (const { kind } of model.generate(request, abort.signal)) {
      if (kind !== event || begunMs > 0) continue;
      begunMs = 1;
      setTimeout(() => {
        begunMs = performance.now();
        abort.abort();
      }, delayMs);
    }
  };
  await assert.rejects(read(), { code: 'CANCELLED' });
  const next: GenerateRequest = { prompt: { kind: 'tokens', tokens: [72] }, maxTokens: 0 };
  for await (const { kind } of model.generate(next)) if (kind === 'started') break;
  return performance.now() - begunMs;
}

test('cancelling takes effect within 200 ms, while a long prompt is read and while it answers', async () => {
  const long = {
    prompt: { kind: 'tokens', tokens: Array.from({ length: 2000 }, (_, index) => 1000 + index) },
  } as const;
  const writing: GenerateRequest = {
    prompt: chat('Write a very long story.'),
    sampling: { temperature: 1, logitBias: { 0: -100, 2: -100 } },
  };
  const weights = [weightsFile(await realModel('smollm2-135m-instruct'))];
  const model = await engine.load({ name: 'single', weights, parallelRequests: 1 });
  try {
    for (const [request, event] of [
      [long, 'started'],
      [writing, 'text'],
    ] as const) {
      const times: number[] = [];
      for (const delayMs of [40, 130, 250])
        times.push(await cancelledAfterMs(model, request, event, delayMs));
      // The best of three: this machine may be doing other things.
      assert.ok(Math.min(...times) < 200, `${event}: ${times.map(Math.round).join(', ')} ms`);
    }
  } finally {
    await model.close();
  }
});

test('a process that is killed fails its request, not the one that waits; the next starts a new one', async () => {
  const model = await loadTiny({ parallelRequests: 1 });
  try {
    const before = processIdOf(model);
    const request: GenerateRequest = {
      prompt: { kind: 'text', text: 'x' },
      sampling: { logitBias: { 0: -100, 2: -100 } },
    };
    let waiting: ReturnType<typeof collectAnswer> | undefined;
    const read = async (): Promise<void> => {
      for await (const { kind } of model.generate(request)) {
        if (kind !== 'text' || waiting !== undefined) continue;
        waiting = collectAnswer(model, { ...request, maxTokens: 3 });
        process.kill(before, 'SIGKILL');
      }
    };
    await assert.rejects(
      read(),
      (error: FreeholdError) =>
        error.code === 'ENGINE_LOST' && error.detail.signal === 'SIGKILL' && error.isTemporary,
    );
    assert.equal((await waiting)?.finished.usage.completionTokens, 3);
    assert.notEqual(processIdOf(model), before);
  } finally {
    await model.close();
  }
});

test('a process that dies again and again is left alone for a while', async () => {
  const clock = new ManualClock();
  const model = await loadTiny({}, createLlamaEngine({ log: silentLog, clock }));
  const short: GenerateRequest = { prompt: { kind: 'text', text: 'x' }, maxTokens: 1 };
  try {
    for (let death = 0; death < 3; death++) {
      await collectAnswer(model, short);
      process.kill(processIdOf(model), 'SIGKILL');
      while ((model as LlamaModel).processId !== undefined)
        await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await assert.rejects(collectAnswer(model, short), {
      code: 'ENGINE_FAILED',
      message: /3 times within 60 s/,
    });
    await clock.advance(30_000);
    await collectAnswer(model, short);
  } finally {
    await model.close();
  }
});

test('weights that changed on disk are not loaded again after a death', async () => {
  const file = await writeTinyModel(path.join(folder, 'changing.gguf'));
  let isDamaged = false;
  const inner = weightsFile(file);
  const weights = [
    {
      name: inner.name,
      open: () =>
        isDamaged ? Promise.reject(new FreeholdError('DIGEST_MISMATCH', 'changing.gguf')) : inner.open(),
    },
  ];
  const model = await engine.load({ name: 'changing', weights });
  try {
    isDamaged = true;
    process.kill(processIdOf(model), 'SIGKILL');
    while ((model as LlamaModel).processId !== undefined)
      await new Promise((resolve) => setTimeout(resolve, 5));
    await assert.rejects(collectAnswer(model, { prompt: { kind: 'text', text: 'x' } }), {
      code: 'DIGEST_MISMATCH',
    });
  } finally {
    await model.close();
  }
});

const tinyChat: GenerateRequest = { prompt: chat('x'), maxTokens: 1 };
const tinyText: GenerateRequest = { prompt: { kind: 'text', text: 'x' }, maxTokens: 1 };

test('an endless template fails its chat within the limit; plain prompts go on', async () => {
  const limits = { templateTimeoutMs: 700, cancelTimeoutMs: 5000, silenceTimeoutMs: 60_000 };
  const endless = '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}';
  const model = await loadTiny({ chatTemplate: endless }, createLlamaEngine({ log: silentLog, limits }));
  try {
    await assert.rejects(collectAnswer(model, tinyChat), {
      code: 'TEMPLATE_FAILED',
      message: /within 0.7 s/,
    });
    await collectAnswer(model, tinyText);
  } finally {
    await model.close();
  }
});

test('a prompt that can never fit is refused by its length, and the process lives on', async () => {
  const model = await loadTiny();
  const pid = processIdOf(model);
  const text = 'a'.repeat(12 << 20);
  try {
    for (const prompt of [{ kind: 'text', text } as const, chat(text)]) {
      const begun = performance.now();
      await assert.rejects(collectAnswer(model, { prompt, maxTokens: 1 }), {
        code: 'CONTEXT_EXCEEDED',
        message: /at least \d+ tokens/,
      });
      // Tokenizing it would take about ten seconds, in which the process hears of nothing.
      assert.ok(performance.now() - begun < 6000);
    }
    assert.equal(processIdOf(model), pid);
    await collectAnswer(model, tinyText);
  } finally {
    await model.close();
  }
});

test('a broken or refusing template fails chats with its reason; plain prompts go on', async () => {
  for (const [chatTemplate, message] of [
    ['{% for %}', /cannot be parsed/],
    ["{{ raise_exception('Only user and assistant roles are supported!') }}", /Only user and assistant/],
  ] as const) {
    const model = await loadTiny({ chatTemplate });
    try {
      await assert.rejects(collectAnswer(model, tinyChat), { code: 'TEMPLATE_FAILED', message });
      await collectAnswer(model, tinyText);
    } finally {
      await model.close();
    }
  }
});

test('a model without a template says so', async () => {
  const file = await writeTinyModel(path.join(folder, 'bare.gguf'), { without: ['tokenizer.chat_template'] });
  const model = await engine.load({ name: 'bare', weights: [weightsFile(file)] });
  try {
    assert.equal(model.info.hasChatTemplate, false);
    await assert.rejects(collectAnswer(model, tinyChat), {
      code: 'NOT_SUPPORTED',
      message: /no chat template/,
    });
    await collectAnswer(model, tinyText);
  } finally {
    await model.close();
  }
});

test('without maxTokens the answer ends with length at the border of the context', async () => {
  const model = await loadTiny({
    contextTokens: 48,
    defaults: { temperature: 0, logitBias: { 0: -100, 2: -100 } },
  });
  try {
    const { finished, promptTokens } = await collectAnswer(model, {
      prompt: { kind: 'tokens', tokens: [70, 71, 72] },
    });
    const { contextTokens } = model.info;
    assert.deepEqual(
      [finished.reason, finished.usage.completionTokens],
      ['length', contextTokens - promptTokens],
    );
  } finally {
    await model.close();
  }
});

test('the defaults and stop strings of the package hold beside those of the request', async () => {
  const request = { prompt: { kind: 'text', text: 'abc' }, sampling: { seed: 3 }, maxTokens: 12 } as const;
  const plain = await loadTiny();
  const { text } = await collectAnswer(plain, { ...request, sampling: { seed: 3, temperature: 0 } });
  await plain.close();
  const stop = text.slice(3, 5);
  const model = await loadTiny({ defaults: { temperature: 0, stop: [stop] } });
  try {
    const answer = await collectAnswer(model, { ...request, stop: ['\u0000'] });
    assert.equal(answer.text, text.slice(0, text.indexOf(stop)));
    assert.equal(answer.finished.stop, stop);
  } finally {
    await model.close();
  }
});

test('embeddings put what means the same close together', async () => {
  const model = await engine.load({ name: 'minilm', weights: [weightsFile(await minilmGguf())] });
  try {
    const { vectors } = await model.embed({
      inputs: [
        'A man is eating food.',
        'A man is eating a piece of bread.',
        'The stock market fell sharply.',
      ],
    });
    const [eating, bread, market] = vectors as [Float32Array, Float32Array, Float32Array];
    const cosine = (left: Float32Array, right: Float32Array) =>
      left.reduce((sum, value, index) => sum + value * (right[index] as number), 0);
    // sentence-transformers' documentation gives 0.7553 for this pair.
    assert.ok(Math.abs(cosine(eating, bread) - 0.7553) < 0.01, `${cosine(eating, bread)}`);
    assert.ok(cosine(eating, market) < 0.2);
  } finally {
    await model.close();
  }
});

test('weights in shards are loaded, inside the sandbox too', async () => {
  const shards = await writeShards();
  const whole = await loadTiny();
  const split = await engine.load({ name: 'split', weights: shards.map(weightsFile) });
  try {
    const request: GenerateRequest = { prompt: { kind: 'text', text: 'x' }, sampling: GREEDY, maxTokens: 8 };
    assert.equal((await collectAnswer(split, request)).text, (await collectAnswer(whole, request)).text);
    await assert.rejects(engine.load({ name: 'half', weights: shards.slice(0, 1).map(weightsFile) }), {
      code: 'GGUF_INVALID',
    });
  } finally {
    await split.close();
    await whole.close();
  }
});

/** The tiny model cut in two: the first file has all metadata, each some of the tensors. */
async function writeShards(): Promise<string[]> {
  const { metadata, tensors } = tinyModelContent();
  const whole = await readFile(tinyFile);
  const header = await headerOf(whole);
  const files: string[] = [];
  for (const number of [0, 1]) {
    const split = [
      ['split.no', ggufValue.number('uint16', number)],
      ['split.count', ggufValue.number('uint16', 2)],
      ['split.tensors.count', ggufValue.number('int32', tensors.length)],
    ] as const;
    const content = {
      name: 'shard',
      metadata: ggufMetadata(number === 0 ? [...metadata, ...split] : split),
      tensors: number === 0 ? tensors.slice(0, 9) : tensors.slice(9),
    };
    const file = path.join(folder, `split-0000${number + 1}-of-00002.gguf`);
    const bytesOf = (name: string) => header.get(name) as Uint8Array;
    await writeFile(
      file,
      ggufParts(content, ({ name }) => bytesOf(name)),
    );
    files.push(file);
  }
  return files;
}

async function headerOf(whole: Buffer): Promise<Map<string, Uint8Array>> {
  const { tensors } = await readGguf(memoryByteSource(whole));
  return new Map(
    tensors.map(({ name, offset, sizeBytes }) => [name, whole.subarray(offset, offset + sizeBytes)]),
  );
}

test('damaged weights are refused before native code sees them, and what llama.cpp refuses is said in its words', async () => {
  const cut = await writeTinyModel(path.join(folder, 'cut.gguf'));
  await truncate(cut, 100_000);
  await assert.rejects(engine.load({ name: 'cut', weights: [weightsFile(cut)] }), { code: 'GGUF_INVALID' });
  const odd = await writeTinyModel(path.join(folder, 'odd.gguf'), {
    without: ['llama.attention.layer_norm_rms_epsilon'],
  });
  await assert.rejects(engine.load({ name: 'odd', weights: [weightsFile(odd)] }), {
    code: 'ENGINE_FAILED',
    message: /layer_norm_rms_epsilon/,
  });
});
