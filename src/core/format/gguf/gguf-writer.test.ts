import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { contentBytes, everyKindContent } from '../../../../tests/fixtures/small-gguf.ts';
import { memoryByteSource } from '../../base/byte-source.ts';
import { GGML_TYPES, ggmlType } from './ggml-types.ts';
import { ggufBigints, ggufBooleans, ggufNumbers, ggufStrings } from './gguf-array.ts';
import { readGguf } from './gguf-reader.ts';
import type { GgufNumberKind, GgufValue } from './gguf-types.ts';
import { ggufMetadata, ggufValue } from './gguf-values.ts';
import { contentOf, encodeGgufHeader, type GgufContent, ggufParts } from './gguf-writer.ts';

const integers: Readonly<Record<Exclude<GgufNumberKind, 'float32' | 'float64'>, fc.Arbitrary<number>>> = {
  uint8: fc.integer({ min: 0, max: 255 }),
  int8: fc.integer({ min: -128, max: 127 }),
  uint16: fc.integer({ min: 0, max: 65_535 }),
  int16: fc.integer({ min: -32_768, max: 32_767 }),
  uint32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  int32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
};
const numbers: Readonly<Record<GgufNumberKind, fc.Arbitrary<number>>> = {
  ...integers,
  float32: fc.float(),
  float64: fc.double(),
};
const numberKind = fc.constantFrom(...(Object.keys(numbers) as GgufNumberKind[]));
const text = fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0') && value.isWellFormed());
const value: fc.Arbitrary<GgufValue> = fc.oneof(
  numberKind.chain((kind) => numbers[kind].map((number) => ggufValue.number(kind, number))),
  text.map(ggufValue.string),
  fc.boolean().map(ggufValue.boolean),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((integer) => ggufValue.bigint('uint64', integer)),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((integer) => ggufValue.bigint('int64', integer)),
  fc
    .array(fc.uint8Array({ maxLength: 20 }), { maxLength: 50 })
    .map((strings) => ggufValue.array(ggufStrings(strings))),
  fc.array(fc.boolean()).map((booleans) => ggufValue.array(ggufBooleans(booleans))),
  fc
    .array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }))
    .map((list) => ggufValue.array(ggufBigints('int64', list))),
  numberKind.chain((kind) => fc.array(numbers[kind]).map((list) => ggufValue.array(ggufNumbers(kind, list)))),
);
const name = fc.stringMatching(/^[a-z][a-z0-9._-]{0,30}$/);
const alignment = fc
  .constantFrom(undefined, 8, 32, 64, 4096)
  .map((bytes) =>
    bytes === undefined ? [] : ([['general.alignment', ggufValue.number('uint32', bytes)]] as const),
  );
const content: fc.Arbitrary<GgufContent> = fc.record({
  version: fc.constantFrom(2, 3),
  metadata: fc
    .tuple(fc.array(fc.tuple(name, value)), alignment)
    .map(([entries, aligned]) =>
      ggufMetadata([...entries.filter(([key]) => key !== 'general.alignment'), ...aligned]),
    ),
  tensors: fc.uniqueArray(
    fc
      .tuple(
        name,
        fc.constantFrom(...GGML_TYPES.values()),
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }),
      )
      .map(([tensorName, type, blocks, more]) => ({
        name: tensorName,
        type,
        dimensions: [blocks * type.blockElements, ...more],
      })),
    { selector: (tensor) => tensor.name, maxLength: 8 },
  ),
});

test('what is written is read again, and written again to the same bytes', async () => {
  await fc.assert(
    fc.asyncProperty(content, async (written) => {
      const bytes = await contentBytes(written);
      const file = await readGguf(memoryByteSource(bytes));
      assert.equal(file.version, written.version);
      assert.deepEqual([...file.metadata.keys()], [...written.metadata.keys()]);
      assert.deepEqual([...file.metadata].map(comparable), [...written.metadata].map(comparable));
      assert.deepEqual(
        file.tensors.map(({ name, type, dimensions }) => ({ name, type, dimensions })),
        written.tensors,
      );
      assert.deepEqual(await contentBytes(contentOf(file)), bytes);
      assert.equal(bytes.length, encodeGgufHeader(written).sizeBytes);
    }),
    { numRuns: 300 },
  );
});

/** Floats compare by their bits in the file, arrays by their bytes. */
function comparable([key, { kind, value: content }]: [string, GgufValue]): unknown[] {
  if (kind === 'float32') return [key, kind, Math.fround(content)];
  return typeof content === 'object'
    ? [key, kind, content.elementKind, content.length, Buffer.from(content.encoded).toString('hex')]
    : [key, kind, content];
}

test('every string of an array is found, across the marks of its index', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 9 }), { maxLength: 100 }), (strings) => {
      const array = ggufStrings(strings);
      const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
      const wanted = strings.map(hex);
      assert.deepEqual(
        wanted.map((_, index) => hex(array.bytesAt(index))),
        wanted,
      );
      assert.deepEqual(Array.from(array.strings(), hex), wanted);
      assert.throws(() => array.bytesAt(strings.length), RangeError);
      assert.throws(() => array.bytesAt(-1), RangeError);
    }),
  );
});

test('tensor data come in any pieces, padded in between and at the end', async () => {
  const tensors = ['a', 'b'].map((tensor) => ({ name: tensor, type: ggmlType('f32'), dimensions: [3] }));
  const parts = ggufParts({ metadata: new Map(), tensors }, async function* ({ name: tensor }) {
    for (let piece = 0; piece < 3; piece++) yield Buffer.from(tensor.repeat(4));
  });
  const bytes = Buffer.concat(await Array.fromAsync(parts));
  const { dataOffset } = await readGguf(memoryByteSource(bytes));
  const padding = '\0'.repeat(20);
  assert.equal(bytes.subarray(dataOffset).toString('latin1'), `aaaaaaaaaaaa${padding}bbbbbbbbbbbb${padding}`);
});

test('data that do not fit their shape are refused', async () => {
  const short: GgufContent = {
    metadata: new Map(),
    tensors: [{ name: 'a', type: ggmlType('f32'), dimensions: [3] }],
    name: 'x.gguf',
  };
  for (const length of [0, 11, 13]) {
    const parts = ggufParts(short, () => [new Uint8Array(length)]);
    await assert.rejects(Array.fromAsync(parts), {
      code: 'GGUF_INVALID',
      message: /x\.gguf: tensor a has 12 bytes/,
    });
  }
});

const withTensor = (tensor: Partial<GgufContent['tensors'][number]>): GgufContent => ({
  metadata: new Map(),
  tensors: [{ name: 'a', type: ggmlType('q8_0'), dimensions: [32], ...tensor }],
});
const withEntry = (key: string, entry: GgufValue): GgufContent => ({
  metadata: new Map([[key, entry]]),
  tensors: [],
});

const REFUSED: readonly [what: string, content: GgufContent][] = [
  ['a tensor name of 64 bytes', withTensor({ name: 'n'.repeat(64) })],
  ['an empty tensor name', withTensor({ name: '' })],
  [
    'a tensor twice',
    { metadata: new Map(), tensors: [...withTensor({}).tensors, ...withTensor({}).tensors] },
  ],
  ['rows that are no whole blocks', withTensor({ dimensions: [33] })],
  ['no dimension', withTensor({ dimensions: [] })],
  ['five dimensions', withTensor({ dimensions: [32, 1, 1, 1, 1] })],
  ['a dimension of 0', withTensor({ dimensions: [32, 0] })],
  ['too many elements', withTensor({ dimensions: [2 ** 40, 2 ** 40] })],
  ['an empty key', withEntry('', ggufValue.boolean(true))],
  ['a key with a line feed', withEntry('a\nb', ggufValue.boolean(true))],
  ['a text with a NUL', withEntry('a', ggufValue.string('\0'))],
  ['an integer out of range', withEntry('a', ggufValue.number('uint8', 256))],
  ['a negative unsigned integer', withEntry('a', ggufValue.number('uint32', -1))],
  ['half an integer', withEntry('a', ggufValue.number('int32', 0.5))],
  ['an alignment of 3', withEntry('general.alignment', ggufValue.number('uint32', 3))],
  ['an alignment of another type', withEntry('general.alignment', ggufValue.number('int32', 32))],
];

for (const [what, refused] of REFUSED) {
  test(`not written: ${what}`, () => {
    assert.throws(() => encodeGgufHeader(refused), { code: 'GGUF_INVALID' });
  });
}

test('the bytes of a small file, written out', () => {
  const { header } = encodeGgufHeader({
    metadata: ggufMetadata([['k', ggufValue.number('uint16', 0x0102)]]),
    tensors: [{ name: 't', type: ggmlType('f32'), dimensions: [2] }],
  });
  const words = [
    '47475546 03000000 0100000000000000 0100000000000000',
    '0100000000000000 6b 02000000 0201',
    '0100000000000000 74 01000000 0200000000000000 00000000 0000000000000000',
    '00'.repeat(24),
  ];
  assert.equal(Buffer.from(header).toString('hex'), words.join('').replaceAll(' ', ''));
});

test('the same content gives the same bytes', async () => {
  assert.deepEqual(await contentBytes(everyKindContent()), await contentBytes(everyKindContent()));
});
