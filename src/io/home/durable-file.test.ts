import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import { onFile, readGuarded, removeLeftovers, requirePrivate, writeFileDurably } from './durable-file.ts';

const root = mkdtempSync(path.join(tmpdir(), 'freehold-durable-'));
after(() => rmSync(root, { recursive: true, force: true }));

let folder = root;
beforeEach(() => {
  folder = mkdtempSync(path.join(root, 'case-'));
});

const GUARD = { bytesMax: 100, forbiddenMode: 0o077, repair: 'chmod 600' };

test('writes, replaces, keeps the wanted mode whatever the umask, and leaves nothing else', async () => {
  const file = path.join(folder, 'a.txt');
  const umask = process.umask(0o077);
  try {
    await writeFileDurably(file, Buffer.from('one'), { mode: 0o644 });
  } finally {
    process.umask(umask);
  }
  assert.equal(statSync(file).mode & 0o777, 0o644);
  await writeFileDurably(file, Buffer.from('two'), { mode: 0o600 });
  assert.equal(readFileSync(file, 'utf8'), 'two');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder), ['a.txt']);
});

test('exclusive never replaces, not even a dangling link, and exactly one of many at once wins', async () => {
  const file = path.join(folder, 'a.key');
  const writes = await Promise.allSettled(
    Array.from({ length: 8 }, (_, index) =>
      writeFileDurably(file, Buffer.from(`${index}`), { mode: 0o600, exclusive: true }),
    ),
  );
  assert.equal(writes.filter(({ status }) => status === 'fulfilled').length, 1);
  const winner = writes.findIndex(({ status }) => status === 'fulfilled');
  assert.equal(readFileSync(file, 'utf8'), `${winner}`);
  for (const write of writes)
    if (write.status === 'rejected') assert.equal(write.reason.code, 'ALREADY_EXISTS');
  const link = path.join(folder, 'link.key');
  symlinkSync('/nowhere/at/all', link);
  await assert.rejects(writeFileDurably(link, Buffer.from('x'), { mode: 0o600, exclusive: true }), {
    code: 'ALREADY_EXISTS',
  });
  assert.deepEqual(readdirSync(folder).sort(), ['a.key', 'link.key']);
});

test('a folder that is not there, and a folder in place of the file', async () => {
  await assert.rejects(writeFileDurably(path.join(folder, 'no', 'a'), Buffer.from('x'), { mode: 0o600 }), {
    code: 'NOT_FOUND',
  });
  mkdirSync(path.join(folder, 'd'));
  await assert.rejects(writeFileDurably(path.join(folder, 'd'), Buffer.from('x'), { mode: 0o600 }), {
    code: 'CONFIG_INVALID',
  });
  assert.deepEqual(readdirSync(folder), ['d']);
});

test('leftovers of killed writers are removed, other files stay', async () => {
  for (const name of ['.a.key.0123456789abcdef.tmp', '.x.tmp', 'a.key', 'a.tmp'])
    writeFileSync(path.join(folder, name), '');
  await removeLeftovers(folder);
  assert.deepEqual(readdirSync(folder).sort(), ['.x.tmp', 'a.key', 'a.tmp']);
});

test('guarded reading: absent, too open, too large, no file', async () => {
  const file = path.join(folder, 'a.key');
  assert.equal(await readGuarded(file, GUARD), undefined);
  writeFileSync(file, 'secret', { mode: 0o600 });
  assert.equal(await readGuarded(file, GUARD), 'secret');
  for (const mode of [0o640, 0o604, 0o620, 0o601]) {
    chmodSync(file, mode);
    await assert.rejects(readGuarded(file, GUARD), {
      code: 'PERMISSION_DENIED',
      message: new RegExp(`a\\.key is readable or writable by other users \\(mode 0${mode.toString(8)}\\)`),
      hint: `chmod 600 ${file}`,
    });
  }
  chmodSync(file, 0o400);
  assert.equal(await readGuarded(file, GUARD), 'secret');
  assert.equal(await readGuarded(file, { ...GUARD, bytesMax: 6 }), 'secret');
  await assert.rejects(readGuarded(file, { ...GUARD, bytesMax: 5 }), {
    code: 'CONFIG_INVALID',
    message: /6 bytes, at most 5/,
  });
  await assert.rejects(readGuarded(folder, GUARD), { code: 'CONFIG_INVALID' });
  const pipe = path.join(folder, 'pipe');
  await promisify(execFile)('mkfifo', ['-m', '600', pipe]);
  await assert.rejects(readGuarded(pipe, GUARD), { code: 'CONFIG_INVALID', message: /not a regular file/ });
});

test('a file of another user is refused, except for root', () => {
  const userId = process.geteuid?.() ?? 0;
  const check = (uid: number) => requirePrivate('f', { uid, mode: 0o100600 }, 0o077, 'chmod 600');
  check(userId);
  check(0);
  if (userId === 0) check(12345);
  else assert.throws(() => check(userId + 1), { code: 'PERMISSION_DENIED', message: /belongs to user/ });
});

test('a full disk is DISK_FULL with the path', async () => {
  await assert.rejects(
    onFile('write', '/dev/full', () => writeFile('/dev/full', 'x')),
    { code: 'DISK_FULL', message: 'no room to write /dev/full (ENOSPC)' },
  );
});

test('whatever else the system says passes through', async () => {
  const odd = Object.assign(new Error('odd'), { code: 'EIO' });
  await assert.rejects(
    onFile('write', 'x', () => Promise.reject(odd)),
    odd,
  );
});
