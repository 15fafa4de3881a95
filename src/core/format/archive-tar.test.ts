import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { rawTar } from '../../../tests/fixtures/raw-tar.ts';
import { FreeholdError } from '../base/errors.ts';
import { encodeTarHeader, parseTarHeader, tarPaddingBytes } from './archive-tar.ts';

const refuse = (name: string, reason: string) => new FreeholdError('ARCHIVE_INVALID', `${name}: ${reason}`);

test('what is written is what is read, for every name and size that tar can hold', () => {
  const part = fc.stringMatching(/^[A-Za-z0-9._ @+-]{1,60}$/);
  const names = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('/'));
  const sizes = fc.oneof(fc.nat(), fc.integer({ min: 2 ** 33 - 3, max: Number.MAX_SAFE_INTEGER }));
  fc.assert(
    fc.property(names, sizes, fc.boolean(), (name, sizeBytes, isExecutable) => {
      let block: Buffer;
      try {
        block = encodeTarHeader({ name, sizeBytes, isExecutable });
      } catch (error) {
        // Too long in a way that no "/" at the right place mends.
        assert.ok(error instanceof FreeholdError && error.code === 'NAME_INVALID' && name.length > 100);
        return;
      }
      assert.deepEqual(parseTarHeader(block, refuse), { name, kind: 'file', sizeBytes });
    }),
  );
});

test('a header is the one that the table of POSIX says, but for its fixed time', () => {
  const bytes = Buffer.from('twelve bytes');
  const change = (header: Buffer) => {
    // 1980-01-01T00:00:00Z
    header.write('02263523000\u0000', 136, 'latin1');
  };
  const expected = rawTar([{ name: 'index.json', bytes, change }]).subarray(0, 512);
  assert.deepEqual(encodeTarHeader({ name: 'index.json', sizeBytes: 12 }), expected);
});

test('names that ustar cannot hold are refused', () => {
  for (const name of ['x'.repeat(101), `${'x'.repeat(156)}/y`, `a/${'x'.repeat(101)}`, 'größe', 'a\nb']) {
    assert.throws(
      () => encodeTarHeader({ name, sizeBytes: 0 }),
      (error) => error instanceof FreeholdError && error.code === 'NAME_INVALID',
      name,
    );
  }
});

test('padding fills the block', () => {
  assert.deepEqual([0, 1, 511, 512, 513].map(tarPaddingBytes), [0, 511, 1, 0, 511]);
});
