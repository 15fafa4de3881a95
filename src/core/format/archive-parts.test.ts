import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import {
  archiveOfPart,
  encodePartsList,
  FAT_FILE_BYTES_MAX,
  parsePartsList,
  partName,
  partSizes,
} from './archive-parts.ts';

const digest = Digest.of('part');

test('a list of parts comes back', () => {
  const parts = [
    { size: FAT_FILE_BYTES_MAX, digest },
    { size: 17, digest },
  ];
  assert.deepEqual(parsePartsList(encodePartsList(parts), 'list'), parts);
});

test('lists that lie are refused', () => {
  const list = (parts: unknown, more = {}) =>
    Buffer.from(JSON.stringify({ formatVersion: 1, parts, ...more }));
  const lies = [
    list([]),
    list([{ size: 0, digest }]),
    list([{ size: 1.5, digest }]),
    list([{ size: 1, digest: 'sha256:..' }]),
    list([{ size: 1, digest, file: '../elsewhere' }]),
    list([{ size: 1, digest }], { formatVersion: 2 }),
    list(Array.from({ length: 1000 }, () => ({ size: 1, digest }))),
    list(Array.from({ length: 3 }, () => ({ size: Number.MAX_SAFE_INTEGER, digest }))),
    Buffer.from('{"formatVersion":1,"parts":[{"size":1,"size":2}]}'),
    Buffer.alloc((1 << 20) + 1, ' '),
  ];
  for (const bytes of lies) {
    assert.throws(
      () => parsePartsList(bytes, 'list'),
      (error) => error instanceof FreeholdError && error.code === 'ARCHIVE_INVALID',
      bytes.toString('utf8', 0, 200),
    );
  }
});

test('parts are numbered from 001, and their names lead back to the archive', () => {
  assert.deepEqual([partName('a.tar', 0), partName('a.tar', 998)], ['a.tar.001', 'a.tar.999']);
  assert.equal(archiveOfPart('/stick/a.tar.017'), '/stick/a.tar');
  assert.equal(archiveOfPart('/stick/a.tar.parts.json'), '/stick/a.tar');
  for (const name of ['a.tar', 'a.tar.17', 'a.001.tar', '.001'])
    assert.equal(archiveOfPart(name), undefined, name);
});

test('parts are of one size but for the last; too many are refused with the size that would do', () => {
  assert.deepEqual(partSizes(10, 4), [4, 4, 2]);
  assert.deepEqual(partSizes(8, 4), [4, 4]);
  assert.throws(
    () => partSizes(1_000_000, 1000),
    (error) =>
      error instanceof FreeholdError && error.code === 'USAGE' && /--part-size 1002/.test(error.hint),
  );
});
