import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from '../base/errors.ts';
import { encodeTarHeader, tarPaddingBytes } from './archive-tar.ts';
import { tarMembers } from './tar-members.ts';

const LIMITS = { unpackedBytesMax: 1 << 20, membersMax: 10 };
const END = Buffer.alloc(1024);

const entry = (name: string, data: Buffer) =>
  Buffer.concat([
    encodeTarHeader({ name, sizeBytes: data.byteLength }),
    data,
    Buffer.alloc(tarPaddingBytes(data.byteLength)),
  ]);

/** A header of a kind that we never write, its checksum put right. */
function retyped(block: Buffer, type: string, change: (block: Buffer) => void = () => {}): Buffer {
  const copy = Buffer.from(block);
  copy.write(type, 156, 1, 'latin1');
  change(copy);
  copy.fill(0x20, 148, 156);
  const sum = copy.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  copy.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return copy;
}

const pax = (...records: string[]) => {
  const data = Buffer.from(records.map((record) => `${record.length + 4} ${record}\n`).join(''));
  return retyped(entry('PaxHeaders/x', data), 'x');
};

async function* pieces(bytes: Buffer, length: number) {
  for (let at = 0; at < bytes.byteLength; at += length) yield bytes.subarray(at, at + length);
}

async function walk(bytes: Buffer, pieceBytes = 700, limits = LIMITS): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for await (const { name, data } of tarMembers(pieces(bytes, pieceBytes), limits, 'kit')) {
    found.push([name, Buffer.concat(await Array.fromAsync(data)).toString()]);
  }
  return found;
}

test('plain files, whatever the pieces in which the archive comes; what is not read is skipped', async () => {
  const archive = Buffer.concat([
    entry('a.gguf', Buffer.from('first')),
    retyped(entry('folder/', Buffer.alloc(0)), '5'),
    entry('folder/b', Buffer.alloc(600, 'b')),
    entry('empty', Buffer.alloc(0)),
    END,
  ]);
  const expected = [
    ['a.gguf', 'first'],
    ['folder/b', 'b'.repeat(600)],
    ['empty', ''],
  ];
  for (const length of [1, 511, 512, 10_000]) assert.deepEqual(await walk(archive, length), expected);
  const names: string[] = [];
  for await (const { name } of tarMembers(pieces(archive, 100), LIMITS, 'kit')) names.push(name);
  assert.deepEqual(names, ['a.gguf', 'folder/b', 'empty']);
});

test('pax records name and size the next entry only', async () => {
  const long = `${'x'.repeat(300)}.gguf`;
  const data = Buffer.from('12345');
  const archive = Buffer.concat([
    pax('mtime=1.5'),
    pax(`path=${long}`, 'size=5'),
    retyped(entry('short', data), '0', (block) => block.write('00000000000', 124, 11, 'latin1')),
    entry('next', Buffer.from('n')),
    END,
  ]);
  assert.deepEqual(await walk(archive), [
    [long, '12345'],
    ['next', 'n'],
  ]);
});

test('links, devices and sparse files are refused', async () => {
  for (const type of ['1', '2', '3', '4', '6', 'S', 'L', 'K', 'Z']) {
    const archive = Buffer.concat([retyped(entry('a.gguf', Buffer.alloc(0)), type), END]);
    await assert.rejects(walk(archive), { code: 'ARCHIVE_INVALID' }, type);
  }
  await assert.rejects(walk(Buffer.concat([pax('GNU.sparse.major=1'), END])), { message: /sparse/ });
});

test('a bomb: more bytes, or more entries, than the limits', async () => {
  const zeros = Buffer.concat([entry('zeros', Buffer.alloc(2 << 20)), END]);
  await assert.rejects(walk(zeros), {
    code: 'ARCHIVE_INVALID',
    message: /unpacks to more than 1048576 bytes/,
  });
  const many = Buffer.concat([
    ...Array.from({ length: 11 }, (_, index) => entry(`${index}`, Buffer.alloc(0))),
    END,
  ]);
  await assert.rejects(walk(many), { message: /more than 10 entries/ });
  const records = pax(`comment=${'x'.repeat(100_000)}`);
  await assert.rejects(walk(records), { message: /pax records of/ });
});

test('an archive that is cut off, or whose header was changed', async () => {
  const archive = Buffer.concat([entry('a', Buffer.alloc(600, 'a')), END]);
  for (const length of [100, 512, 900]) {
    await assert.rejects(walk(archive.subarray(0, length)), { message: /ends in the middle/ });
  }
  const changed = Buffer.from(archive);
  changed[0] = 0x62;
  await assert.rejects(walk(changed), { message: /checksum/ });
  const changedPax = pax('size=5');
  changedPax[0] = 0x62;
  await assert.rejects(walk(changedPax), { message: /checksum/ });
});

test('no bytes make the walk end with anything but members or our refusal', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), fc.nat(1500), async (noise, at) => {
      const archive = Buffer.concat([pax('size=3'), entry('a', Buffer.alloc(700, 'a')), END]);
      archive.set(noise.subarray(0, Math.max(0, archive.byteLength - at)), at);
      await walk(archive).catch((error: unknown) => assert.ok(error instanceof FreeholdError, String(error)));
    }),
    { numRuns: 200 },
  );
});
