import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countingSource } from '../../../../tests/fixtures/gguf-mutation-run.ts';
import { mutants } from '../../../../tests/fixtures/mutations.ts';
import { type ByteSource, memoryByteSource } from '../../base/byte-source.ts';
import { FreeholdError } from '../../base/errors.ts';
import { readSafetensors, SAFETENSORS_HEADER_BYTES_MAX } from './safetensors-reader.ts';

function file(header: string | object, dataBytes: number): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

const entry = (start: number, end: number, more: object = {}) => ({
  dtype: 'F32',
  shape: [(end - start) / 4],
  data_offsets: [start, end],
  ...more,
});
const two = { b: entry(8, 16), a: entry(0, 8) };

test('tensors in the order of their data, with places in the file', async () => {
  const bytes = file(
    { __metadata__: { format: 'pt' }, ...two, half: entry(16, 28, { dtype: 'BF16', shape: [2, 3] }) },
    28,
  );
  const { tensors, metadata, sizeBytes } = await readSafetensors(memoryByteSource(bytes));
  const start = bytes.length - 28;
  assert.equal(sizeBytes, bytes.length);
  assert.deepEqual([...metadata], [['format', 'pt']]);
  assert.deepEqual(
    [...tensors],
    [
      ['a', { name: 'a', type: 'F32', shape: [2], offset: start, sizeBytes: 8 }],
      ['b', { name: 'b', type: 'F32', shape: [2], offset: start + 8, sizeBytes: 8 }],
      ['half', { name: 'half', type: 'BF16', shape: [2, 3], offset: start + 16, sizeBytes: 12 }],
    ],
  );
});

test('scalars, empty tensors, blanks behind the header and odd names are fine', async () => {
  const header = `{"s":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"e":{"dtype":"F64","shape":[0,3],"data_offsets":[1,1]},"__proto__":{"dtype":"I8","shape":[2],"data_offsets":[1,3]}}   `;
  const { tensors } = await readSafetensors(memoryByteSource(file(header, 3)));
  assert.deepEqual([...tensors.keys()], ['s', 'e', '__proto__']);
  assert.deepEqual((await readSafetensors(memoryByteSource(file({}, 0)))).tensors.size, 0);
});

const INVALID: readonly [what: string, bytes: Buffer, message: RegExp][] = [
  ['an empty file', Buffer.alloc(0), /has 0 bytes/],
  [
    'a header longer than the file',
    file(two, 16).fill(0xff, 0, 8),
    /header has 18446744073709551615 bytes, in a file of/,
  ],
  ['no JSON', file('{"a":', 0), /not JSON/],
  ['JSON that is no object', file('[]', 0), /not a JSON object/],
  ['a header that is not UTF-8', file('{"a\u00ff"}', 0).fill(0xff, 11, 12), /not JSON/],
  ['a tensor that is no object', file('{"a":null}', 0), /tensor "a"/],
  ['an unknown type', file({ a: entry(0, 8, { dtype: 'F31' }) }, 8), /tensor "a".*F32/],
  ['an unknown field', file({ a: entry(0, 8, { strides: [1] }) }, 8), /tensor "a".*strides/],
  ['a negative dimension', file({ a: entry(0, 8, { shape: [-2] }) }, 8), /tensor "a"/],
  ['half a dimension', file({ a: entry(0, 8, { shape: [0.5] }) }, 8), /tensor "a"/],
  ['9 dimensions', file({ a: entry(0, 4, { shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] }) }, 4), /tensor "a"/],
  ['one place instead of two', file({ a: entry(0, 8, { data_offsets: [0] }) }, 8), /tensor "a"/],
  ['an end before its start', file({ a: entry(0, 8, { data_offsets: [8, 0] }) }, 8), /"a" lies at 8 to 0/],
  ['an end behind the file', file(two, 12), /"b" lies at 8 to 16, of 12 bytes/],
  ['fewer bytes than the shape', file({ a: entry(0, 8, { shape: [3] }) }, 8), /12 bytes by its shape and 8/],
  [
    'a shape whose product wraps',
    file({ a: entry(0, 0, { shape: [2 ** 32, 2 ** 32] }) }, 0),
    /by its shape and 0/,
  ],
  [
    'a gap',
    file({ a: entry(0, 4), b: entry(8, 12) }, 12),
    /"b" begins at byte \d+, and the one before ends at/,
  ],
  ['an overlap', file({ a: entry(0, 8), b: entry(4, 12) }, 12), /"b" begins at byte/],
  ['bytes behind the last', file(two, 20), /the tensors end at byte \d+, the file at/],
  [
    'a name twice',
    file(`{"a":${JSON.stringify(entry(0, 4))},"a":${JSON.stringify(entry(4, 8))}}`, 8),
    /"a" begins at byte/,
  ],
  [
    'metadata that are no strings',
    file({ __metadata__: { a: 1 } }, 0),
    /__metadata__ is not a map of strings/,
  ],
  ['hostile nesting', file('['.repeat(500_000), 0), /not JSON/],
];

for (const [what, bytes, message] of INVALID) {
  test(`refused: ${what}`, async () => {
    await assert.rejects(readSafetensors(memoryByteSource(bytes), 'x'), {
      code: 'SAFETENSORS_INVALID',
      message,
    });
  });
}

test('a header above the limit is refused before it is read', async () => {
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(SAFETENSORS_HEADER_BYTES_MAX + 1));
  const source: ByteSource = {
    sizeBytes: 2 ** 40,
    async read(offset, length) {
      assert.deepEqual([offset, length], [0, 8]);
      return prefix;
    },
  };
  await assert.rejects(readSafetensors(source), { code: 'SAFETENSORS_INVALID', message: /above 2097152/ });
});

test('10,000 mutants: refused by code or read, fast, in little memory', async () => {
  const bytes = file(
    { __metadata__: { format: 'pt' }, ...two, c: entry(16, 28, { dtype: 'F16', shape: [2, 3] }) },
    28,
  );
  let accepted = 0;
  for (const mutant of mutants(7, bytes, 10_000)) {
    const source = countingSource(mutant);
    const startMs = performance.now();
    try {
      const { tensors } = await readSafetensors(source);
      for (const { offset, sizeBytes } of tensors.values()) assert.ok(offset + sizeBytes <= mutant.length);
      accepted++;
    } catch (error) {
      assert.ok(error instanceof FreeholdError && error.code === 'SAFETENSORS_INVALID', `${error}`);
    }
    assert.ok(performance.now() - startMs < 1000);
    assert.ok(source.bytesRead <= mutant.length);
  }
  assert.ok(accepted > 100 && accepted < 6000, `${accepted} accepted`);
});
