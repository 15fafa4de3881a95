import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { readGguf } from '../src/core/format/gguf/gguf-reader.ts';
import type { GgufFile } from '../src/core/format/gguf/gguf-types.ts';
import { BATCH_TOKENS, estimateMemory, memoryFacts } from '../src/core/format/gguf/memory-estimate.ts';
import { createLlamaEngine } from '../src/io/engine/llama/llama-engine.ts';
import { LlamaModel } from '../src/io/engine/llama/llama-model.ts';
import { PIECE_TOKENS_MAX } from '../src/io/engine/llama/native-context.ts';
import { fileByteSource } from '../src/io/files/file-range.ts';
import { weightsFile } from './conformance/engine-fixture.ts';
import { temporaryFolder } from './fixtures/freehold-home.ts';
import { minilmGguf } from './fixtures/minilm.ts';
import { realModel } from './fixtures/real-models.ts';
import { writeTinyModel } from './fixtures/tiny-model.ts';

/** The promise of `estimateMemory`, of what a process really has at its busiest. */
const RATIO_MIN = 0.9;
const RATIO_MAX = 1.3;
const MIB = 2 ** 20;

/** Keys and values take their memory when a context is made, so that a prompt need not fill it. */
const PROMPT_TOKENS_MAX = 192;
const ANSWER_TOKENS = 8;

test('the estimate counts with the pieces that the engine makes', () => {
  assert.equal(BATCH_TOKENS, PIECE_TOKENS_MAX);
});

describe('estimated memory against the memory of the process', () => {
  const tiny = async (context: TestContext) =>
    writeTinyModel(path.join(await temporaryFolder(context), 'tiny.gguf'));
  for (const [name, find, contextTokens, parallelRequests] of [
    ['a tiny model', tiny, 512, 1],
    ['a tiny model', tiny, 256, 8],
    ['SmolLM2 135M', () => realModel('smollm2-135m-instruct'), 2048, 1],
    ['SmolLM2 135M', () => realModel('smollm2-135m-instruct'), 1024, 4],
    ['SmolLM2 135M', () => realModel('smollm2-135m-instruct'), 8192, 1],
    ['Qwen2.5 Coder 0.5B', () => realModel('qwen2.5-coder-0.5b-instruct'), 512, 2],
    ['Qwen2.5 Coder 0.5B', () => realModel('qwen2.5-coder-0.5b-instruct'), 2048, 1],
    ['MiniLM', minilmGguf, 128, 1],
    ['MiniLM', minilmGguf, 512, 1],
  ] as const) {
    test(`${name}, ${parallelRequests} × ${contextTokens} tokens`, async (context) => {
      const file = await find(context);
      const estimated = await estimateOf(file, contextTokens, parallelRequests);
      const measured = await measure(file, contextTokens, parallelRequests);
      const ratio = estimated / measured;
      context.diagnostic(
        `estimated ${(estimated / MIB).toFixed(0)} MiB, measured ${(measured / MIB).toFixed(0)} MiB, ratio ${ratio.toFixed(2)}`,
      );
      assert.ok(ratio >= RATIO_MIN && ratio <= RATIO_MAX, `${ratio}`);
    });
  }
});

async function readHeader(file: string): Promise<GgufFile> {
  const handle = await open(file);
  try {
    return await readGguf(await fileByteSource(handle, path.basename(file)), path.basename(file));
  } finally {
    await handle.close();
  }
}

async function estimateOf(file: string, contextTokens: number, parallelRequests: number): Promise<number> {
  const { size: weightsBytes } = await stat(file);
  const request = { weightsBytes, contextTokens, parallelRequests };
  return estimateMemory(memoryFacts(await readHeader(file)), request).totalBytes;
}

/**
 * Loads a model, keeps it as busy as it can be, and reads what its process has then. Weights that llama.cpp keeps a second
 * time in another order count once: their pages of the file are never read again, and the system drops them first.
 */
async function measure(file: string, contextTokens: number, parallelRequests: number): Promise<number> {
  const engine = createLlamaEngine({ log: () => {} });
  const request = { weights: [weightsFile(file)], contextTokens, parallelRequests, threads: 1 };
  const model = await engine.load({ ...request, name: path.basename(file) });
  try {
    assert.ok(model instanceof LlamaModel);
    if (model.info.purpose === 'embed') {
      await model.embed({ inputs: [new Array<number>(contextTokens).fill(2000)] });
    } else {
      await Promise.all(
        Array.from({ length: parallelRequests }, async (_, index) => {
          const length = Math.min(contextTokens - ANSWER_TOKENS, PROMPT_TOKENS_MAX);
          const tokens = Array.from({ length }, (_, at) => 10 + ((index + at) % 200));
          const prompt = { kind: 'tokens', tokens } as const;
          for await (const event of model.generate({ prompt, maxTokens: ANSWER_TOKENS }))
            if (event.kind === 'finished') assert.equal(event.usage.promptTokens, tokens.length);
        }),
      );
    }
    const busy = memoryOf(model.processId ?? 0);
    return busy.anonymous + busy.file - repackedBytes(await readHeader(file));
  } finally {
    await model.close();
  }
}

/** Resident bytes: of its own, and of mapped files. */
function memoryOf(processId: number): { readonly anonymous: number; readonly file: number } {
  const status = readFileSync(`/proc/${processId}/status`, 'utf8');
  const field = (name: string) =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0);
  return { anonymous: field('RssAnon'), file: field('RssFile') };
}

/** On this processor family llama.cpp reorders matrices of these types ("CPU_REPACK model buffer size" of its log). */
function repackedBytes({ tensors }: GgufFile): number {
  return tensors
    .filter(({ name, type }) => /^(q4_0|q4_K|iq4_nl)$/.test(type.name) && !name.startsWith('token_embd'))
    .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
