import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contentBytes, smallModelContent } from '../../../../tests/fixtures/small-gguf.ts';
import { memoryByteSource } from '../../base/byte-source.ts';
import { describeGguf } from './gguf-description.ts';
import { readGguf } from './gguf-reader.ts';
import { encodeShardName, parseShardName, verifyShardNames, verifyShards } from './gguf-shards.ts';
import type { GgufFile, GgufValue } from './gguf-types.ts';
import { ggufValue } from './gguf-values.ts';
import { verifyModelGguf } from './gguf-verification.ts';

const uint16 = (value: number) => ggufValue.number('uint16', value);

/** A model in two files, one tensor each; keys of the second can be changed. */
async function split(change: Readonly<Record<string, GgufValue>> = {}): Promise<[GgufFile, GgufFile]> {
  const content = smallModelContent();
  const splitKeys = (no: number): [string, GgufValue][] => [
    ['split.no', uint16(no)],
    ['split.count', uint16(2)],
    ['split.tensors.count', ggufValue.number('int32', 2)],
  ];
  const files = [
    { metadata: new Map([...content.metadata, ...splitKeys(0)]), tensors: content.tensors.slice(0, 1) },
    { metadata: new Map([...splitKeys(1), ...Object.entries(change)]), tensors: content.tensors.slice(1) },
  ];
  const [first, second] = await Promise.all(
    files.map(async (file, index) => readGguf(memoryByteSource(await contentBytes(file)), `m${index}.gguf`)),
  );
  assert.ok(first !== undefined && second !== undefined);
  return [first, second];
}

test('a model in two files is one model', async () => {
  const files = await split();
  verifyShards(files);
  const { architecture, tensorCount } = verifyModelGguf(files);
  assert.deepEqual([architecture, tensorCount], ['llama', 2]);
  assert.equal(describeGguf(files).parameterCount, describeGguf(files[0]).parameterCount + 8);
});

test('files that are not all of one model, in order, are refused', async () => {
  const [first, second] = await split();
  const refused = (files: readonly GgufFile[], message: RegExp) =>
    assert.throws(() => verifyShards(files), { code: 'GGUF_INVALID', message });
  refused([], /no file given/);
  refused([first], /m0\.gguf: split\.count is 2, and 1 file is given/);
  refused([second, first], /m1\.gguf: split\.no is 1, and the file stands at place 0/);
  refused([first, first], /m0\.gguf: split\.no is 0, and the file stands at place 1/);
  refused([first, second, second], /split\.count is 2, and 3 files are given/);
  refused([first, (await split({ 'split.count': uint16(3) }))[1]], /m1\.gguf: split\.count is 3/);
  refused([first, { ...second, tensors: [] }], /split\.tensors\.count is 2, and the files have 1 tensors/);
  refused([first, { ...second, tensors: first.tensors }], /tensor token_embd\.weight stands in another file/);
});

test('names of shards', () => {
  const shard = { prefix: 'a-b.Q4_0', number: 1, count: 12 };
  assert.equal(encodeShardName(shard), 'a-b.Q4_0-00001-of-00012.gguf');
  assert.deepEqual(parseShardName('a-b.Q4_0-00001-of-00012.gguf'), shard);
  for (const other of [
    'a.gguf',
    'a-00000-of-00002.gguf',
    'a-00003-of-00002.gguf',
    '-00001-of-00002.gguf',
    'a-1-of-2.gguf',
    'a-00001-of-00002.gguf.part',
    'a-00001-of-99999.gguf',
  ]) {
    assert.equal(parseShardName(other), undefined, other);
  }
});

test('names of all shards are put into order', () => {
  const names = [1, 2, 3].map((number) => encodeShardName({ prefix: 'm', number, count: 3 }));
  assert.deepEqual(verifyShardNames(names.toReversed()), names);
  assert.deepEqual(verifyShardNames(['any.gguf']), ['any.gguf']);
  const [first = '', second = '', third = ''] = names;
  for (const wrong of [
    [first, third],
    [first, second],
    [first, second, second],
    [first, second, 'x-00003-of-00003.gguf'],
    [first, 'x.gguf'],
  ]) {
    assert.throws(() => verifyShardNames(wrong), { code: 'GGUF_INVALID' }, `${wrong}`);
  }
});
