import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  CHUNK_BYTES_AVERAGE,
  CHUNK_BYTES_MAX,
  CHUNK_BYTES_MIN,
  ChunkBoundaries,
  gearTable,
} from './chunker.ts';

/** Bytes without a pattern, the same for the same seed. */
function noise(seed: number, length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, index) =>
    createHash('sha256').update(`${seed} ${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, length);
}

/** Lengths of the chunks of bytes that come in pieces of the given length. */
function lengthsOf(bytes: Uint8Array, pieceBytes = bytes.length): number[] {
  const boundaries = new ChunkBoundaries();
  const ends: number[] = [];
  for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
    const piece = bytes.subarray(offset, offset + pieceBytes);
    for (let start = boundaries.next(piece, 0); start >= 0; start = boundaries.next(piece, start)) {
      ends.push(offset + start);
      if (start === piece.length) break;
    }
  }
  if (ends.at(-1) !== bytes.length && bytes.length > 0) ends.push(bytes.length);
  return ends.map((end, index) => end - (ends[index - 1] ?? 0));
}

const SAMPLE = noise(1, 3 << 20);

test('the table is what the seed gives: another one would make maps that fit no others', () => {
  const table = gearTable();
  const first = createHash('sha256').update('freehold chunker 1\0').digest().readInt32LE(0);
  assert.equal(table[0], first);
  assert.equal(
    createHash('sha256').update(new Uint8Array(table.buffer)).digest('hex'),
    '49fdbc1fea8d8c071214f8d9e212a14449c21b9431c784b9b2c2daa3a43fa2ef',
  );
});

test('the boundaries of known bytes are known', () => {
  const ends = lengthsOf(SAMPLE);
  assert.equal(createHash('sha256').update(ends.join(' ')).digest('hex').slice(0, 16), '54b1de8494c5c524');
});

test('chunks cover the bytes within the bounds, and are about as long as they should be', () => {
  const lengths = lengthsOf(SAMPLE);
  assert.equal(
    lengths.reduce((sum, length) => sum + length, 0),
    SAMPLE.length,
  );
  assert.ok(lengths.slice(0, -1).every((length) => length >= CHUNK_BYTES_MIN && length <= CHUNK_BYTES_MAX));
  const mean = SAMPLE.length / lengths.length;
  assert.ok(mean > CHUNK_BYTES_AVERAGE / 2 && mean < CHUNK_BYTES_AVERAGE * 2, `mean ${mean}`);
});

test('how the bytes are cut into pieces changes no boundary', () => {
  const bytes = SAMPLE.subarray(0, 400_000);
  const wanted = lengthsOf(bytes);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200_000 }), (pieceBytes) => {
      assert.deepEqual(lengthsOf(bytes, pieceBytes), wanted);
    }),
    { numRuns: 20, examples: [[1], [CHUNK_BYTES_MIN], [CHUNK_BYTES_MIN - 1], [CHUNK_BYTES_AVERAGE]] },
  );
});

test('after bytes were put in or taken out, the boundaries are found again', () => {
  const at = 700_000;
  const changes = {
    'one byte more': [at, at, 1],
    '32 KiB less': [at, at + 32_768, 0],
    'an insertion': [at, at, 5000],
  };
  for (const [name, [from = 0, to = 0, inserted = 0]] of Object.entries(changes)) {
    const changed = Buffer.concat([SAMPLE.subarray(0, from), noise(2, inserted), SAMPLE.subarray(to)]);
    const known = new Set(chunksOf(SAMPLE));
    const fresh = chunksOf(changed).filter((digest) => !known.has(digest));
    assert.ok(fresh.length <= 6, `${name}: ${fresh.length} chunks are new`);
  }
});

function chunksOf(bytes: Buffer): string[] {
  let offset = 0;
  return lengthsOf(bytes).map((length) => {
    offset += length;
    return createHash('sha256')
      .update(bytes.subarray(offset - length, offset))
      .digest('hex');
  });
}

test('bytes that all are the same make chunks within the bounds', () => {
  for (const value of [0, 1, 255]) {
    const lengths = lengthsOf(new Uint8Array(1 << 20).fill(value));
    assert.ok(lengths.slice(0, -1).every((length) => length >= CHUNK_BYTES_MIN && length <= CHUNK_BYTES_MAX));
  }
});
