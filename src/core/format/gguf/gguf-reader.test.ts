import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { runGgufMutants } from '../../../../tests/fixtures/gguf-mutation-run.ts';
import { raw, rawGguf } from '../../../../tests/fixtures/raw-gguf.ts';
import { realModel } from '../../../../tests/fixtures/real-models.ts';
import { contentBytes, everyKindContent, smallModelContent } from '../../../../tests/fixtures/small-gguf.ts';
import { type ByteSource, memoryByteSource } from '../../base/byte-source.ts';
import { HEADER_BYTES_MAX, METADATA_ENTRIES_MAX, TENSORS_MAX, WINDOW_BYTES } from './gguf-limits.ts';
import { readGguf } from './gguf-reader.ts';
import { arrayOfStrings, arrayValue } from './gguf-values.ts';
import { contentOf, encodeGgufHeader } from './gguf-writer.ts';

const MEBIBYTE = 1 << 20;

for (const version of [2, 3] as const) {
  test(`every kind of value and tensor, version ${version}`, async () => {
    const bytes = await contentBytes(everyKindContent(version));
    const file = await readGguf(memoryByteSource(bytes), 'x.gguf');
    assert.equal(file.name, 'x.gguf');
    assert.equal(file.version, version);
    assert.equal(file.sizeBytes, bytes.length);
    assert.equal(file.alignmentBytes, 64);
    assert.equal(file.dataOffset % 64, 0);
    const scalars = Object.fromEntries(
      [...file.metadata].filter(([, { kind }]) => kind !== 'array').map(([key, { value }]) => [key, value]),
    );
    assert.deepEqual(scalars, {
      'general.architecture': 'llama',
      'general.alignment': 64,
      'text.empty': '',
      'text.unicode': 'Grüße, 世界 🌍',
      'number.uint8': 255,
      'number.int8': -128,
      'number.uint16': 65_535,
      'number.int16': -32_768,
      'number.uint32': 4_294_967_295,
      'number.int32': -2_147_483_648,
      'number.uint64': 18_446_744_073_709_551_615n,
      'number.int64': -9_223_372_036_854_775_808n,
      'number.float32': 0.5,
      'number.float64': Math.PI,
      flag: true,
    });
    assert.equal(arrayValue(file, 'array.empty', ['string']).length, 0);
    assert.equal(arrayOfStrings(file, 'array.strings')[34], 'xxxxxx');
    assert.equal(arrayValue(file, 'array.strings', ['string']).stringAt(34), 'xxxxxx');
    assert.equal(arrayValue(file, 'array.int32', ['int32']).numberAt(1), -2);
    assert.equal(arrayValue(file, 'array.bool', ['bool']).booleanAt(2), true);
    assert.equal(arrayValue(file, 'array.int64', ['int64']).bigintAt(0), -1n);
    const { dataOffset } = file;
    assert.deepEqual(
      file.tensors.map(({ name, type, dimensions, elementCount, offset, sizeBytes }) => [
        name,
        type.name,
        dimensions,
        elementCount,
        offset - dataOffset,
        sizeBytes,
      ]),
      [
        ['row', 'f32', [5], 5, 0, 20],
        ['blocks', 'q8_0', [32, 2], 64, 64, 68],
        ['half', 'f16', [2, 1, 2, 3], 12, 192, 24],
      ],
    );
  });
}

test('the starter model: three reads, and its header is written again byte for byte', async () => {
  const handle = await open(await realModel('smollm2-135m-instruct'));
  try {
    const { size } = await handle.stat();
    const lengths: number[] = [];
    const source: ByteSource = {
      sizeBytes: size,
      async read(offset, length) {
        lengths.push(length);
        return (await handle.read(Buffer.alloc(length), 0, length, offset)).buffer;
      },
    };
    const file = await readGguf(source);
    assert.deepEqual([file.version, file.tensors.length, file.dataOffset], [3, 272, 1_785_664]);
    assert.ok(lengths.length <= 4 && Math.max(...lengths) <= WINDOW_BYTES, `${lengths}`);
    assert.equal(arrayValue(file, 'tokenizer.ggml.tokens', ['string']).stringAt(1), '<|im_start|>');
    const layout = encodeGgufHeader(contentOf(file));
    assert.ok(Buffer.from(layout.header).equals(await source.read(0, file.dataOffset)));
    assert.deepEqual(layout.tensors, file.tensors);
    assert.equal(layout.sizeBytes, size);
  } finally {
    await handle.close();
  }
});

test('a file that ends early is refused at every length', async () => {
  const bytes = await contentBytes(everyKindContent());
  const { tensors } = await readGguf(memoryByteSource(bytes));
  const last = tensors.at(-1);
  assert.ok(last);
  const end = last.offset + last.sizeBytes;
  for (let length = 0; length < end; length++) {
    await assert.rejects(readGguf(memoryByteSource(bytes.subarray(0, length))), { code: 'GGUF_INVALID' });
  }
  await readGguf(memoryByteSource(bytes.subarray(0, end)));
});

test('10,000 mutants: refused by code or read, fast, in little memory', async () => {
  const contents = [everyKindContent(2), everyKindContent(3), smallModelContent()];
  const reached = new Set<string>();
  let accepted = 0;
  for (const [index, content] of contents.entries()) {
    const run = await runGgufMutants(index, await contentBytes(content), index === 0 ? 3334 : 3333);
    assert.ok(run.slowestMs < 1000, `${run.slowestMs} ms`);
    assert.ok(run.mostBytesRead < 64 * MEBIBYTE, `${run.mostBytesRead} bytes`);
    for (const refusal of run.refusals.keys()) reached.add(refusal);
    accepted += run.accepted;
  }
  // Mutants that reach nothing but the first check would prove nothing.
  assert.ok(reached.size > 60, `${reached.size} different refusals`);
  assert.ok(accepted > 100 && accepted < 5000, `${accepted} accepted`);
});

const collectGarbage = ((): (() => void) => {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
})();

/** Heap and array buffers in use. Freed buffers leave the count a turn after the collection that finds them. */
async function bytesInUse(): Promise<number> {
  collectGarbage();
  await setImmediate();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** How many bytes more reading needs at most, looked at whenever the source is read and at the end. */
async function peakBytes(bytes: Buffer): Promise<number> {
  const before = await bytesInUse();
  let peak = 0;
  const file = await readGguf({
    sizeBytes: bytes.length,
    async read(offset, length) {
      const copy = new Uint8Array(bytes.subarray(offset, offset + length));
      peak = Math.max(peak, (await bytesInUse()) - before);
      return copy;
    },
  });
  peak = Math.max(peak, (await bytesInUse()) - before);
  assert.ok([...file.metadata.values()].length > 0);
  return peak;
}

/** Headers that use up a limit, each in the way that costs most. */
const largest: Readonly<Record<string, () => Buffer>> = {
  'one array of empty strings': () => {
    const count = Math.floor(HEADER_BYTES_MAX / 8) - 10;
    return rawGguf({ entries: [raw.entry('a', 9, raw.array(8, count, Buffer.alloc(count * 8)))] });
  },
  'one array of bytes': () => {
    const count = HEADER_BYTES_MAX - 100;
    return rawGguf({ entries: [raw.entry('a', 9, raw.array(0, count, Buffer.alloc(count)))] });
  },
  'small arrays between arrays of more than a window': () => {
    const large = raw.array(0, WINDOW_BYTES + 1, Buffer.alloc(WINDOW_BYTES + 1));
    return rawGguf({
      entries: Array.from({ length: 62 }, (_, index) =>
        raw.entry(`a${index}`, 9, index % 2 === 0 ? large : raw.array(0, 3, Buffer.alloc(3))),
      ),
    });
  },
  'keys, texts, tensors and an array together': () => {
    const tensors = Array.from({ length: TENSORS_MAX }, (_, index) =>
      raw.tensor(index.toString().padStart(63, 'n'), [1, 1, 1, 8], 0, index * 32),
    );
    const keys = Array.from({ length: METADATA_ENTRIES_MAX - 1 }, (_, index) =>
      raw.entry(index.toString().padStart(700, 'k'), 8, raw.text('€'.repeat(200))),
    );
    const count = HEADER_BYTES_MAX - 11 * MEBIBYTE;
    const array = raw.entry('array', 9, raw.array(0, count, Buffer.alloc(count)));
    return rawGguf({ entries: [...keys, array], tensors, dataBytes: TENSORS_MAX * 32 });
  },
};

for (const [what, build] of Object.entries(largest)) {
  test(`the largest header stays under 64 MiB: ${what}`, async (t) => {
    const peak = await peakBytes(build());
    t.diagnostic(`${(peak / MEBIBYTE).toFixed(1)} MiB`);
    // 64 MiB are promised; half again of the largest header would mean that something is kept twice.
    assert.ok(peak < 48 * MEBIBYTE, `${(peak / MEBIBYTE).toFixed(1)} MiB`);
    // The array alone has this much: less would mean that nothing was measured.
    assert.ok(peak > 20 * MEBIBYTE, `${(peak / MEBIBYTE).toFixed(1)} MiB`);
  });
}
