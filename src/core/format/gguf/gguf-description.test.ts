import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { realModel } from '../../../../tests/fixtures/real-models.ts';
import { contentBytes } from '../../../../tests/fixtures/small-gguf.ts';
import {
  TINY_CHAT_TEMPLATE,
  type TinyModelOptions,
  tinyModelContent,
} from '../../../../tests/fixtures/tiny-model.ts';
import { memoryByteSource } from '../../base/byte-source.ts';
import { describeGguf } from './gguf-description.ts';
import { readGguf } from './gguf-reader.ts';
import { ggufValue } from './gguf-values.ts';
import { verifyModelGguf } from './gguf-verification.ts';

const uint32 = (value: number) => ggufValue.number('uint32', value);

async function describeTiny(options: TinyModelOptions) {
  return describeGguf(await readGguf(memoryByteSource(await contentBytes(tinyModelContent(options)))));
}

test('the tiny model', async () => {
  const block = 256 * (256 + 32 + 32 + 256) + 3 * 256 * 256 + 2 * 256;
  const parameterCount = 256 * 283 + 2 * block + 256;
  assert.deepEqual(await describeTiny({}), {
    architecture: 'llama',
    name: 'Tiny Random Llama',
    license: 'apache-2.0',
    parameterCount,
    tensorCount: 20,
    weightsBytes: parameterCount * 4,
    bitsPerWeight: 32,
    elementsByType: { f32: parameterCount },
    contextTokens: 512,
    embeddingLength: 256,
    blockCount: 2,
    vocabularyTokens: 283,
    quantization: 'F32',
    chatTemplate: TINY_CHAT_TEMPLATE,
    purpose: 'generate',
  });
});

test('the starter model passes and is described', async () => {
  const handle = await open(await realModel('smollm2-135m-instruct'));
  try {
    const { size } = await handle.stat();
    const file = await readGguf({
      sizeBytes: size,
      read: async (offset, length) => (await handle.read(Buffer.alloc(length), 0, length, offset)).buffer,
    });
    const { chatTemplate, bitsPerWeight, ...rest } = verifyModelGguf(file);
    assert.match(chatTemplate ?? '', /<\|im_start\|>/);
    assert.ok(Math.abs(bitsPerWeight - 5.7437) < 0.0001);
    assert.deepEqual(rest, {
      architecture: 'llama',
      name: 'Smollm2 135M 8k Lc100K Mix1 Ep2',
      license: 'apache-2.0',
      parameterCount: 134_515_008,
      tensorCount: 272,
      weightsBytes: 96_576_768,
      elementsByType: { q4_1: 106_168_320, q8_0: 28_311_552, f32: 35_136 },
      contextTokens: 8192,
      embeddingLength: 576,
      blockCount: 30,
      vocabularyTokens: 49_152,
      quantization: 'Q4_1',
      purpose: 'generate',
    });
  } finally {
    await handle.close();
  }
});

test('a file type that is missing or unknown is taken from the tensors', async () => {
  assert.equal((await describeTiny({ without: ['general.file_type'] })).quantization, 'F32');
  assert.equal((await describeTiny({ metadata: [['general.file_type', uint32(99)]] })).quantization, 'F32');
  assert.equal(
    (await describeTiny({ metadata: [['general.file_type', uint32(15)]] })).quantization,
    'Q4_K_M',
  );
});

test('a model that pools, or looks ahead, embeds', async () => {
  const pooled = await describeTiny({ metadata: [['llama.pooling_type', uint32(3)]] });
  assert.deepEqual([pooled.pooling, pooled.purpose], ['last', 'embed']);
  const none = await describeTiny({ metadata: [['llama.pooling_type', uint32(0)]] });
  assert.deepEqual([none.pooling, none.purpose], ['none', 'generate']);
  const ahead = await describeTiny({ metadata: [['llama.attention.causal', ggufValue.boolean(false)]] });
  assert.deepEqual([ahead.pooling, ahead.purpose], [undefined, 'embed']);
});

test('what the file does not say is left out', async () => {
  const description = await describeTiny({
    without: ['general.name', 'general.license', 'tokenizer.chat_template', 'llama.context_length'],
  });
  for (const field of ['name', 'license', 'chatTemplate', 'contextTokens', 'pooling']) {
    assert.ok(!(field in description), field);
  }
});
