import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { blobFile, install, withFolder } from '../../../tests/conformance/store-fixture.ts';
import { skipHere } from '../../../tests/fixtures/skip.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { openStore } from './store.ts';

const CHILD = path.resolve(import.meta.dirname, '../../../tests/conformance/store-child.ts');
const IS_CI = process.env.CI === 'true';

/** Runs work in a fresh tmpfs of the given size; only root may mount one. */
async function onSmallDisk(
  context: TestContext,
  options: string,
  work: (folder: string) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder], { encoding: 'utf8' });
    if (mounted.status !== 0) {
      assert.ok(!IS_CI, `a tmpfs cannot be mounted: ${mounted.stderr}`);
      return skipHere(context, 'needs root, to mount a small tmpfs');
    }
    try {
      await work(folder);
    } finally {
      spawnSync('umount', [folder]);
    }
  });
}

test('a full disk is DISK_FULL, and nothing is left behind', (context) =>
  onSmallDisk(context, 'size=1m', async (folder) => {
    const store = await openStore(path.join(folder, 'store'));
    await install(store, 'small', { a: 'a' });
    const tooLarge = Buffer.alloc(2 << 20, 1);
    await assert.rejects(store.blobs.write(tooLarge), diskFull(/no room to write .*tmp/));
    await withFolder(async (outside) => {
      const file = path.join(outside, 'model.gguf');
      await writeFile(file, tooLarge);
      await assert.rejects(store.importFile(file, { how: { kind: 'reflink-or-copy' } }), diskFull(/tmp/));
    });
    assert.deepEqual(await readdir(path.join(store.folder, 'tmp')), []);
    assert.deepEqual((await store.check()).findings, []);
    await store.blobs.write(Buffer.alloc(100_000));
  }));

test('an index that does not fit any more is DISK_FULL, and the old one stays', (context) =>
  onSmallDisk(context, 'size=1m', async (folder) => {
    const store = await openStore(path.join(folder, 'store'));
    const { entry } = await install(store, 'a', { a: 'a' });
    const many = Array.from({ length: 8_000 }, (_, number) => ({
      ...entry,
      annotations: { name: `${number}` },
    }));
    await assert.rejects(
      store.updateEntries(() => many),
      diskFull(/index\.json|tmp/),
    );
    assert.deepEqual(await (await openStore(store.folder)).entries(), [entry]);
    assert.deepEqual((await store.check()).findings, []);
  }));

test('a disk without room for another file is DISK_FULL', (context) =>
  onSmallDisk(context, 'size=1m,nr_inodes=16', async (folder) => {
    const store = await openStore(path.join(folder, 'store'));
    const writeMany = async () => {
      for (let number = 0; number < 20; number++) await store.blobs.write(Buffer.from(`${number}`));
    };
    await assert.rejects(writeMany(), diskFull(/no room to create/));
    assert.deepEqual(await readdir(path.join(store.folder, 'tmp')), []);
  }));

test('a read-only disk can be read, checked and run from; writing is PERMISSION_DENIED', (context) =>
  onSmallDisk(context, 'size=1m', async (folder) => {
    const made = await install(await openStore(path.join(folder, 'store')), 'a', { a: 'text' });
    const digest = made.layers[0] ?? assert.fail();
    assert.equal(spawnSync('mount', ['-o', 'remount,ro', folder]).status, 0);
    const store = await openStore(path.join(folder, 'store'));
    assert.deepEqual(await store.entries(), [made.entry]);
    assert.deepEqual((await store.check()).findings, []);
    const file = await store.openVerified(digest, { mode: 'warm', name: 'a' });
    await file.requireUnchanged();
    await file.close();
    const writing = [
      () => store.blobs.write(Buffer.from('x')),
      () => store.updateEntries(() => []),
      () => store.gc(),
    ];
    for (const write of writing) await assert.rejects(write(), withCode('PERMISSION_DENIED'));
    await assert.rejects(openStore(path.join(folder, 'other')), withCode('PERMISSION_DENIED'));
  }));

test('a folder without permission is PERMISSION_DENIED and names it', (context) =>
  withFolder(async (folder) => {
    if (process.getuid?.() !== 0) {
      assert.ok(!IS_CI, 'CI runs as root');
      return skipHere(context, 'needs root, to become another user');
    }
    await chmod(folder, 0o755);
    const [closed, readable, foreign] = ['closed', 'readable', 'foreign'].map((name) =>
      path.join(folder, name),
    );
    assert.ok(closed !== undefined && readable !== undefined && foreign !== undefined);
    await mkdir(closed, { mode: 0o700 });
    // Readable by everybody, writable by its owner only.
    const { folder: readableStore } = await openStore(readable);
    await chmod(readableStore, 0o755);
    await mkdir(foreign, { mode: 0o755 });
    for (const target of [path.join(closed, 'store'), readable, foreign, path.join(foreign, 'store')]) {
      const child = spawnSync(process.execPath, [CHILD, target, 'unprivileged'], { encoding: 'utf8' });
      const said = JSON.parse(child.stdout);
      assert.equal(said.code, 'PERMISSION_DENIED', child.stdout);
      assert.ok(said.message.includes(target), said.message);
    }
    assert.deepEqual(await readdir(foreign), []);
  }));

test('a blob that may not be read is PERMISSION_DENIED, or damaged for root', () =>
  withFolder(async (folder) => {
    const store = await openStore(path.join(folder, 'store'));
    const made = await install(store, 'a', { a: 'text' });
    const digest = made.layers[0] ?? assert.fail();
    await chmod(blobFile(store, digest), 0o000);
    if (process.getuid?.() === 0) {
      assert.equal((await store.blobs.readAll(digest, 10)).toString(), 'text');
    } else {
      await assert.rejects(store.blobs.readAll(digest, 10), withCode('PERMISSION_DENIED'));
    }
  }));

function diskFull(message: RegExp) {
  return (thrown: unknown) =>
    thrown instanceof FreeholdError && thrown.code === 'DISK_FULL' && message.test(thrown.message);
}

function withCode(code: string) {
  return (thrown: unknown) => thrown instanceof FreeholdError && thrown.code === code;
}
