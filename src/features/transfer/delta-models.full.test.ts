import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { realModel } from '../../../tests/fixtures/real-models.ts';
import { memoryByteSource } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { type ChunkMap, chunkBlob, encodeChunkMap } from '../../core/format/chunk-map.ts';
import { ggufStrings } from '../../core/format/gguf/gguf-array.ts';
import { readGguf } from '../../core/format/gguf/gguf-reader.ts';
import type { GgufFile } from '../../core/format/gguf/gguf-types.ts';
import { ggufMetadata, ggufValue, optionalString } from '../../core/format/gguf/gguf-values.ts';
import { contentOf, type GgufContent, ggufParts } from '../../core/format/gguf/gguf-writer.ts';
import { ChunkIndex, planDelta } from './delta-plan.ts';

const PIECE_BYTES = 1 << 20;

async function* pieces(bytes: Buffer) {
  for (let offset = 0; offset < bytes.length; offset += PIECE_BYTES) {
    yield bytes.subarray(offset, offset + PIECE_BYTES);
  }
}

const mapOf = (bytes: Buffer): Promise<ChunkMap> =>
  chunkBlob({ digest: Digest.of(bytes), sizeBytes: bytes.length }, pieces(bytes));

/** The model again with other metadata, or with other bytes in some tensors. */
async function rewritten(
  model: Buffer,
  file: GgufFile,
  change: { content?: Partial<GgufContent>; isChanged?: (tensor: string) => boolean },
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const written = ggufParts({ ...contentOf(file), ...change.content }, ({ name }) => {
    const tensor = file.tensors.find((other) => other.name === name);
    assert.ok(tensor);
    const data = model.subarray(tensor.offset, tensor.offset + tensor.sizeBytes);
    return change.isChanged?.(name) === true ? Buffer.from(data.map((byte) => (byte * 7 + 13) & 0xff)) : data;
  });
  for await (const part of written) parts.push(part);
  return Buffer.concat(parts);
}

test('updates of a real model: a template, a token, one layer', async (context) => {
  const model = readFileSync(await realModel('smollm2-135m-instruct'));
  const file = await readGguf(memoryByteSource(model));
  const started = performance.now();
  const before = await mapOf(model);
  const seconds = (performance.now() - started) / 1000;
  context.diagnostic(`chunked and hashed at ${Math.round(model.length / 1e6 / seconds)} MB/s`);
  const mapShare = encodeChunkMap(before).length / model.length;
  context.diagnostic(`${before.lengths.length} chunks, the map is ${(mapShare * 100).toFixed(3)} %`);
  assert.ok(mapShare < 0.001);
  const index = new ChunkIndex([before]);
  const costOf = async (change: Parameters<typeof rewritten>[2]) => {
    const map = await mapOf(await rewritten(model, file, change));
    const { fetchBytes, requests } = planDelta(map, index);
    return { bytes: fetchBytes + encodeChunkMap(map).length, requests };
  };

  assert.equal((await costOf({})).requests, 0, 'written again, nothing changed');
  const key = 'tokenizer.chat_template';
  for (const [name, text] of Object.entries({
    longer: `${optionalString(file, key) ?? ''}{# ${'a longer template '.repeat(200)} #}`,
    'one letter more': `${optionalString(file, key) ?? ''} `,
    none: '',
  })) {
    const metadata = ggufMetadata([...file.metadata, [key, ggufValue.string(text)]]);
    const { bytes, requests } = await costOf({ content: { metadata } });
    context.diagnostic(
      `template, ${name}: ${((bytes / model.length) * 100).toFixed(2)} % in ${requests} requests`,
    );
    assert.ok(bytes <= model.length * 0.02);
  }

  const tokensKey = 'tokenizer.ggml.tokens';
  const tokens = file.metadata.get(tokensKey);
  assert.ok(tokens?.kind === 'array');
  const texts = [...tokens.value.strings()].map((text, id) =>
    id === 17 ? 'a token of another length' : text,
  );
  const metadata = ggufMetadata([...file.metadata, [tokensKey, ggufValue.array(ggufStrings(texts))]]);
  const { bytes } = await costOf({ content: { metadata } });
  context.diagnostic(`one token: ${((bytes / model.length) * 100).toFixed(2)} %`);
  assert.ok(bytes <= model.length * 0.02);

  for (const layer of ['blk.0.', 'blk.12.', 'blk.29.']) {
    const isChanged = (tensor: string) => tensor.startsWith(layer);
    const layerBytes = file.tensors
      .filter(({ name }) => isChanged(name))
      .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const { bytes, requests } = await costOf({ isChanged });
    context.diagnostic(`${layer}: ${(bytes / layerBytes).toFixed(3)} × its size in ${requests} requests`);
    assert.ok(layerBytes > 1e6 && bytes <= layerBytes * 1.2);
  }
});
