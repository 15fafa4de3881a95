import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import {
  CHUNK_MAP_BYTES_MAX,
  type ChunkMap,
  chunkBlob,
  chunkDigest,
  digestAt,
  encodeChunkMap,
  parseChunkMap,
} from './chunk-map.ts';
import { CHUNK_BYTES_MAX, CHUNK_BYTES_MIN } from './chunker.ts';

const BLOB = Buffer.concat(
  Array.from({ length: 40_000 }, (_, index) => createHash('sha256').update(String(index)).digest()),
);
const REFERENCE = { digest: Digest.of(BLOB), sizeBytes: BLOB.length };

async function* pieces(bytes: Buffer, pieceBytes = 100_000) {
  for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
    yield bytes.subarray(offset, offset + pieceBytes);
  }
}

test('a map has the chunks of the blob, and reads as it was written', async () => {
  const map = await chunkBlob(REFERENCE, pieces(BLOB));
  let offset = 0;
  map.lengths.forEach((length, index) => {
    assert.deepEqual(chunkDigest(BLOB.subarray(offset, offset + length)), Buffer.from(digestAt(map, index)));
    offset += length;
  });
  assert.equal(offset, BLOB.length);
  assert.deepEqual(parseChunkMap(encodeChunkMap(map), REFERENCE), map);
  assert.deepEqual(await chunkBlob(REFERENCE, pieces(BLOB, 7919)), map, 'however the bytes come');
});

test('a map takes less than a thousandth of its blob', async () => {
  const bytes = encodeChunkMap(await chunkBlob(REFERENCE, pieces(BLOB)));
  assert.ok(bytes.length < BLOB.length / 1000, `${bytes.length} of ${BLOB.length}`);
});

test('an empty blob has a map without chunks', async () => {
  const empty = { digest: Digest.of(''), sizeBytes: 0 };
  const map = await chunkBlob(empty, pieces(Buffer.alloc(0)));
  assert.equal(map.lengths.length, 0);
  assert.deepEqual(parseChunkMap(encodeChunkMap(map), empty), map);
});

test('a blob that is longer or shorter than it should be gets no map', async () => {
  for (const sizeBytes of [BLOB.length - 1, BLOB.length + 1]) {
    await assert.rejects(chunkBlob({ ...REFERENCE, sizeBytes }, pieces(BLOB)), { code: 'SIZE_MISMATCH' });
  }
});

test('a map that would be larger than readers take is not written', () => {
  const lengths = new Uint32Array(CHUNK_MAP_BYTES_MAX / 36 + 1);
  const map = { blob: REFERENCE, lengths, digests: new Uint8Array() };
  assert.throws(() => encodeChunkMap(map), { code: 'SIZE_MISMATCH' });
});

/** A map of three chunks, changed. */
function mapOf(lengths: readonly number[], change?: (bytes: Buffer) => Buffer): () => ChunkMap {
  const sizeBytes = 3 * CHUNK_BYTES_MIN;
  const blob = { digest: Digest.of('a blob'), sizeBytes };
  const bytes = encodeChunkMap({
    blob,
    lengths: Uint32Array.from(lengths),
    digests: new Uint8Array(32 * lengths.length),
  });
  return () => parseChunkMap(change?.(bytes) ?? bytes, blob);
}

const EVEN = [CHUNK_BYTES_MIN, CHUNK_BYTES_MIN, CHUNK_BYTES_MIN];

test('hostile maps are refused, each for what is wrong with it', () => {
  assert.doesNotThrow(mapOf(EVEN));
  const withNumber = (offset: number, value: number) => (bytes: Buffer) => {
    const copy = Buffer.from(bytes);
    copy.writeUInt32LE(value, offset);
    return copy;
  };
  const hostile: Record<string, [() => ChunkMap, RegExp]> = {
    'no map at all': [mapOf(EVEN, () => Buffer.from('<html>')), /none of version 1/],
    'a later version': [
      mapOf(EVEN, (bytes) => Buffer.concat([Buffer.from('FHCHUNK2'), bytes.subarray(8)])),
      /version 1/,
    ],
    'of another blob': [mapOf(EVEN, withNumber(8, 1)), /of another blob/],
    'another size': [mapOf(EVEN, withNumber(40, 1)), /instead of/],
    'a size beyond every number': [mapOf(EVEN, withNumber(44, 0xffff_ffff)), /instead of/],
    'a count that the bytes do not hold': [mapOf(EVEN, withNumber(48, 0xffff_ffff)), /4294967295 chunks/],
    'cut off': [mapOf(EVEN, (bytes) => bytes.subarray(0, -1)), /3 chunks/],
    'bytes behind its end': [mapOf(EVEN, (bytes) => Buffer.concat([bytes, Buffer.alloc(36)])), /3 chunks/],
    'chunks that overlap': [mapOf([...EVEN, CHUNK_BYTES_MIN]), /adds up to/],
    'chunks with a hole': [mapOf(EVEN.slice(1)), /adds up to/],
    'a chunk without bytes, for an endless map': [mapOf([...EVEN, 0]), /a chunk of 0 bytes/],
    'crumbs, for a request each': [mapOf([1, 3 * CHUNK_BYTES_MIN - 1]), /a chunk of 1 bytes/],
    'a chunk for all memory': [mapOf([CHUNK_BYTES_MAX + 1]), /a chunk of 262145 bytes/],
  };
  for (const [name, [read, message]] of Object.entries(hostile)) {
    assert.throws(
      read,
      (error) =>
        error instanceof FreeholdError && error.code === 'CHUNK_MAP_INVALID' && message.test(error.message),
      name,
    );
  }
});
