import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RawGguf, raw, rawGguf } from '../../../../tests/fixtures/raw-gguf.ts';
import { type ByteSource, memoryByteSource } from '../../base/byte-source.ts';
import { HEADER_BYTES_MAX, TENSORS_MAX, TEXT_BYTES_MAX } from './gguf-limits.ts';
import { readGguf } from './gguf-reader.ts';
import { arrayValue } from './gguf-values.ts';

// Each file is fine but for one thing. Type numbers: 4 uint32, 7 bool, 8 string, 9 array; ggml 0 f32, 8 q8_0.

const zeros = Buffer.alloc(8);
const alignment = (value: number) => ({ entries: [raw.entry('general.alignment', 4, raw.uint32(value))] });
const entry = (...parts: Parameters<typeof raw.entry>) => ({ entries: [raw.entry(...parts)] });
const tensors = (...entries: Buffer[]) => ({ tensors: entries, dataBytes: 256 });
const tensor = (...parts: Parameters<typeof raw.tensor>) => tensors(raw.tensor(...parts));

const INVALID: readonly [what: string, file: RawGguf, message: RegExp][] = [
  ['another format', { magic: 'GGML' }, /does not begin with "GGUF"/],
  ['version 1', { version: 1 }, /GGUF version 1; only versions 2 and 3/],
  ['version 4', { version: 4 }, /GGUF version 4/],
  ['version 0', { version: 0 }, /GGUF version 0/],
  ['big-endian version 3', { version: 0x0300_0000 }, /big-endian/],
  ['2⁶³ tensors (CVE-2024-21836)', { tensorCount: 2n ** 63n }, /tensor count is 9223372036854775808/],
  ['2⁶¹+1 tensors', { tensorCount: 2n ** 61n + 1n }, /tensor count is 2305843009213693953/],
  ['more tensors than bytes', { tensorCount: 2 }, /tensor count is 2, in a file of 32/],
  ['2⁶⁴−1 keys (CVE-2024-23605)', { entryCount: 2n ** 64n - 1n }, /metadata count is 18446744073709551615/],
  ['more keys than bytes', { entryCount: 1000 }, /metadata count is 1000/],
  ['an empty key', entry('', 4, zeros), /key 0 is empty/],
  ['a key with a NUL', entry('a\0b', 4, raw.uint32(1)), /key 0 is not printable ASCII/],
  ['a key with an escape', entry('a\u001b[2J', 4, raw.uint32(1)), /key 0 is not printable ASCII/],
  ['a key that is not ASCII', entry('größe', 4, raw.uint32(1)), /key 0 is not printable ASCII/],
  [
    'a key of 2⁶⁴−1 bytes (CVE-2024-23496)',
    { entryCount: 1, entries: [Buffer.alloc(16, 255)] },
    /length of key 0 is 18446744073709551615/,
  ],
  [
    'a key twice',
    { entries: [raw.entry('a', 4, raw.uint32(1)), raw.entry('a', 4, raw.uint32(2))] },
    /key "a" twice/,
  ],
  ['an unknown value type', entry('a', 13, zeros), /"a" has the unknown value type 13/],
  ['a negative value type', entry('a', 2 ** 32 - 1, zeros), /unknown value type 4294967295/],
  ['a boolean of 2', entry('a', 7, Buffer.from([2])), /"a" has the boolean 2/],
  [
    'a boolean of 255 in an array',
    entry('a', 9, raw.array(7, 3, Buffer.from([0, 1, 255]))),
    /"a" has the boolean 255/,
  ],
  ['a text with a NUL', entry('a', 8, raw.text('a\0b')), /"a" has a NUL/],
  ['a text that is not UTF-8', entry('a', 8, raw.text(Buffer.from([0xc0, 0xaf]))), /"a" is not UTF-8/],
  ['a text longer than the file', entry('a', 8, raw.uint64(1000)), /"a" needs 1000 bytes, \d+ are left/],
  [
    'an array of arrays',
    entry('a', 9, raw.array(9, 1, raw.array(4, 1, raw.uint32(1)))),
    /"a" is an array of arrays/,
  ],
  ['an array of an unknown type', entry('a', 9, raw.array(99, 1, zeros)), /unknown value type 99/],
  [
    '2⁶¹+1 uint64 (CVE-2024-21825)',
    entry('a', 9, raw.array(10, 2n ** 61n + 1n, zeros)),
    /length of the array "a" is 2305843009213693953/,
  ],
  [
    '2⁵³−1 uint64',
    entry('a', 9, raw.array(10, 2n ** 53n - 1n, zeros)),
    /of 9007199254740991 elements needs 7205759403792\d+ bytes/,
  ],
  ['more strings than bytes', entry('a', 9, raw.array(8, 1000, zeros)), /1000 strings does not fit/],
  [
    'a string in an array longer than the file',
    entry('a', 9, raw.array(8, 1, raw.uint64(1000))),
    /a string of "a" needs 1000 bytes/,
  ],
  [
    'a string in an array of 2⁶⁴−8 bytes',
    entry('a', 9, raw.array(8, 1, raw.uint64(2n ** 64n - 8n))),
    /a string of "a" is 18446744073709551608/,
  ],
  ['an alignment of 0', alignment(0), /general.alignment is 0 instead of a power of two/],
  ['an alignment of 1', alignment(1), /general.alignment is 1/],
  ['an alignment of 48', alignment(48), /general.alignment is 48/],
  ['an alignment of 2³¹', alignment(2 ** 31), /general.alignment is 2147483648/],
  [
    'an alignment that is a text',
    entry('general.alignment', 8, raw.text('32')),
    /is string instead of uint32/,
  ],
  [
    'an alignment of another width',
    entry('general.alignment', 10, raw.uint64(32)),
    /is uint64 instead of uint32/,
  ],
  ['a tensor without a name', tensor('', [8], 0, 0), /name of tensor 0 is empty/],
  ['a tensor name with a NUL', tensor('a\0', [8], 0, 0), /name of tensor 0 is not printable ASCII/],
  ['a tensor twice', tensors(raw.tensor('a', [8], 0, 0), raw.tensor('a', [8], 0, 32)), /tensor "a" twice/],
  ['a tensor of no dimensions', tensor('a', [], 0, 0), /"a" has 0 dimensions/],
  ['a tensor of 5 dimensions', tensor('a', [1, 1, 1, 1, 1], 0, 0), /"a" has 5 dimensions/],
  [
    '2³² dimensions',
    tensors(Buffer.concat([raw.text('a'), Buffer.alloc(4, 255), zeros, zeros])),
    /"a" has 4294967295 dimensions/,
  ],
  ['a dimension of 0', tensor('a', [8, 0], 0, 0), /dimension of 0: \[8, 0\]/],
  [
    'a negative dimension',
    tensor('a', [2n ** 64n - 8n], 0, 0),
    /dimension 0 of tensor "a" is 18446744073709551608/,
  ],
  [
    'dimensions whose product wraps (CVE-2025-53630)',
    tensor('a', [4_194_305, 4_194_305, 211_106_198_978_564], 0, 0),
    /too many elements/,
  ],
  ['dimensions of 2³² each (CVE-2024-21802)', tensor('a', [2n ** 32n, 2n ** 32n], 0, 0), /too many elements/],
  ['a removed type (issue 8816)', tensor('a', [32], 4, 0), /"a" has the unknown ggml type 4/],
  ['a removed packing type', tensor('a', [32], 31, 0), /unknown ggml type 31/],
  ['a type behind the last', tensor('a', [32], 43, 0), /unknown ggml type 43/],
  ['a negative type', tensor('a', [32], 2 ** 32 - 1, 0), /unknown ggml type 4294967295/],
  [
    'rows that are no whole blocks',
    tensor('a', [33], 8, 0),
    /"a" has rows of 33, not a multiple of the 32 of q8_0/,
  ],
  ['more bytes than the file', tensor('a', [8_000_000], 0, 0), /"a" has 32000000 bytes, in a file of/],
  [
    'an end behind the file (CVE-2026-7482)',
    tensor('a', [64], 0, 32),
    /"a" of 256 bytes at \d+ ends behind the file/,
  ],
  ['an offset behind the file', tensor('a', [8], 0, 2n ** 53n - 32n), /ends behind the file/],
  [
    'an offset that wraps',
    tensor('a', [8], 0, 2n ** 64n - 32n),
    /offset of tensor "a" is 18446744073709551584/,
  ],
  ['an offset that is not aligned', tensor('a', [8], 0, 8), /"a" lies at 8, not a multiple of 32/],
  [
    'tensors that overlap',
    tensors(raw.tensor('a', [16], 0, 32), raw.tensor('b', [16], 0, 0)),
    /"b" and "a" overlap/,
  ],
  [
    'tensors in the same place',
    tensors(raw.tensor('a', [8], 0, 0), raw.tensor('b', [8], 0, 0)),
    /"a" and "b" overlap/,
  ],
];

for (const [what, file, message] of INVALID) {
  test(`refused: ${what}`, async () => {
    await assert.rejects(
      readGguf(memoryByteSource(rawGguf(file)), 'x.gguf'),
      (error: Error & { code: string; detail: { offset?: number; file: string } }) => {
        assert.equal(error.code, 'GGUF_INVALID');
        assert.match(error.message, message);
        assert.ok(error.message.startsWith('x.gguf: '));
        assert.equal(error.detail.file, 'x.gguf');
        if (!/alignment/.test(what)) assert.equal(typeof error.detail.offset, 'number');
        return true;
      },
    );
  });
}

/** `bytes`, then zeros up to a size that nobody has to allocate. */
function longSource(bytes: Buffer, sizeBytes: number): ByteSource {
  return {
    sizeBytes,
    async read(offset, length) {
      assert.ok(offset + length <= sizeBytes && length <= HEADER_BYTES_MAX, `${length} bytes at ${offset}`);
      const result = Buffer.alloc(length);
      bytes.subarray(offset).copy(result);
      return result;
    },
  };
}

const many = 2 ** 40;
const LIMITED: readonly [what: string, file: RawGguf, message: RegExp][] = [
  ['tensors', { tensorCount: TENSORS_MAX + 1 }, /tensor count is 32769, above 32768/],
  ['keys', { entryCount: 4097 }, /metadata count is 4097, above 4096/],
  ['the length of a key', { entryCount: 1, entries: [raw.uint64(1025)] }, /key 0 has 1025 bytes, above 1024/],
  [
    'the length of a tensor name',
    tensor('n'.repeat(64), [8], 0, 0),
    /name of tensor 0 has 64 bytes, above 63/,
  ],
  ['text', entry('a', 8, raw.uint64(TEXT_BYTES_MAX)), /"a" takes all text above/],
  [
    'an array of numbers',
    entry('a', 9, raw.array(0, HEADER_BYTES_MAX, zeros)),
    /header is larger than 33554432 bytes/,
  ],
  [
    'an array of strings',
    entry('a', 9, raw.array(8, many / 16, zeros)),
    /header is larger than 33554432 bytes/,
  ],
  [
    'one string of an array',
    entry('a', 9, raw.array(8, 1, raw.uint64(many / 2))),
    /header is larger than 33554432 bytes/,
  ],
];

for (const [what, file, message] of LIMITED) {
  test(`limited: ${what}`, async () => {
    await assert.rejects(readGguf(longSource(rawGguf(file), many)), { code: 'GGUF_LIMIT', message });
  });
}

test('a name of 63 bytes and a header without tensors are fine', async () => {
  const file = await readGguf(memoryByteSource(rawGguf(tensor('n'.repeat(63), [8], 0, 0))));
  assert.equal(file.tensors[0]?.name.length, 63);
  const empty = await readGguf(memoryByteSource(rawGguf({}).subarray(0, 24)));
  assert.deepEqual([empty.tensors.length, empty.dataOffset], [0, 24]);
});

test('long hostile keys are cut in messages', async () => {
  const bytes = rawGguf(entry('k'.repeat(1000), 99, zeros));
  await assert.rejects(readGguf(memoryByteSource(bytes)), (error: Error) => error.message.length < 200);
});

test('a string array whose bytes are changed later is refused instead of read beyond', async () => {
  const bytes = rawGguf(entry('a', 9, raw.array(8, 2, Buffer.concat([raw.text('x'), raw.text('y')]))));
  const array = arrayValue(await readGguf(memoryByteSource(bytes)), 'a', ['string']);
  assert.equal(array.stringAt(1), 'y');
  array.encoded.fill(0xff);
  assert.throws(() => array.stringAt(1), { code: 'GGUF_INVALID' });
  assert.throws(() => [...array.strings()], { code: 'GGUF_INVALID' });
});

test('what the source throws is passed on', async () => {
  const failure = new Error('input/output error');
  const source: ByteSource = { sizeBytes: 100, read: () => Promise.reject(failure) };
  await assert.rejects(readGguf(source), failure);
});
