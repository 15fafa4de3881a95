import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Digest } from '../src/core/base/digest.ts';
import {
  CHUNK_MAP_BYTES_MAX,
  CHUNK_MAP_TYPE,
  type ChunkMap,
  chunkBlob,
  encodeChunkMap,
  MAPPED_BLOB_BYTES_MIN,
} from '../src/core/format/chunk-map.ts';
import {
  CHUNK_BYTES_AVERAGE,
  CHUNK_BYTES_MAX,
  CHUNK_BYTES_MIN,
  gearTable,
} from '../src/core/format/chunker.ts';

// What spec/CHUNK-MAP.md says in numbers is what the code does.

const page = readFileSync(path.join(path.dirname(import.meta.dirname), 'spec', 'CHUNK-MAP.md'), 'utf8');

const sample = Buffer.concat(
  Array.from({ length: 32_768 }, (_, index) => createHash('sha256').update(String(index)).digest()),
);

function sampleMap(): Promise<ChunkMap> {
  const pieces = async function* () {
    yield sample;
  };
  return chunkBlob({ digest: Digest.of(sample), sizeBytes: sample.length }, pieces());
}

test('limits and types', () => {
  for (const number of [
    CHUNK_BYTES_MIN,
    CHUNK_BYTES_AVERAGE,
    CHUNK_BYTES_MAX,
    MAPPED_BLOB_BYTES_MIN,
    CHUNK_MAP_BYTES_MAX,
  ]) {
    assert.match(page, new RegExp(`\\b${number}\\b`));
  }
  assert.ok(page.includes(CHUNK_MAP_TYPE));
});

test('the check values: table and sample', async () => {
  const table = Buffer.alloc(1024);
  gearTable().forEach((number, byte) => {
    table.writeInt32LE(number, 4 * byte);
  });
  assert.ok(page.includes(Digest.hex(Digest.of(table))));
  const map = await sampleMap();
  const digest = Digest.hex(Digest.of(encodeChunkMap(map)));
  assert.ok(page.includes(digest), digest);
});

test('a reader written from the page alone finds the same boundaries', async () => {
  const table = Array.from({ length: 256 }, (_, byte) =>
    createHash('sha256')
      .update(Buffer.concat([Buffer.from('freehold chunker 1'), Buffer.from([byte])]))
      .digest()
      .readUInt32LE(0),
  );
  const lengths: number[] = [];
  let length = 0;
  let hash = 0;
  for (const byte of sample) {
    length++;
    if (length > 16_384) {
      hash = (hash * 2 + (table[byte] ?? 0)) % 2 ** 32;
      const bits = length <= 65_536 ? 18 : 14;
      if (hash < 2 ** (32 - bits) || length === 262_144) {
        lengths.push(length);
        length = 0;
        hash = 0;
      }
    }
  }
  if (length > 0) lengths.push(length);
  const map = await sampleMap();
  assert.deepEqual([...map.lengths], lengths);
});
