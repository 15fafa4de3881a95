import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { link, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { blobFile, withFolder } from '../../../tests/conformance/store-fixture.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { openStore, type Store } from './store.ts';

const BYTES = Buffer.alloc((2 << 20) + 5, 'weights ');
const DIGEST = Digest.of(BYTES);
const REFLINK_OR_COPY = { kind: 'reflink-or-copy' } as const;

interface Setting {
  readonly store: Store;
  /** A file with BYTES in a user's folder. */
  readonly file: string;
  readonly cache: string;
  /** The same file in the cache. */
  readonly cached: string;
}

async function withSetting(work: (setting: Setting) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const store = await openStore(path.join(folder, 'store'));
    const cache = path.join(folder, 'cache');
    await mkdir(cache);
    const [file, cached] = [path.join(folder, 'model.gguf'), path.join(cache, Digest.hex(DIGEST))];
    for (const each of [file, cached]) await writeFile(each, BYTES);
    await work({ store, file, cache, cached });
    assert.deepEqual(
      await readdir(path.join(store.folder, 'tmp')).catch(() => []),
      [],
      'no temporary file is left',
    );
  });
}

describe("a user's file", () => {
  test('is taken in and not touched', () =>
    withSetting(async ({ store, file }) => {
      const before = await stat(file);
      let done = 0;
      const onBytes = (bytes: number) => {
        done = bytes;
      };
      const info = await store.importFile(file, { how: REFLINK_OR_COPY, onBytes });
      assert.deepEqual(info, { digest: DIGEST, sizeBytes: BYTES.byteLength });
      assert.equal(done, BYTES.byteLength);
      assert.deepEqual(await store.blobs.readAll(DIGEST, BYTES.byteLength), BYTES);
      const after = await stat(file);
      assert.deepEqual([after.mode, after.nlink, after.ctimeMs], [before.mode, 1, before.ctimeMs]);
    }));

  test('shares no inode with the blob: writing into it later changes nothing in the store', () =>
    withSetting(async ({ store, file }) => {
      await store.importFile(file, { how: REFLINK_OR_COPY });
      assert.notEqual((await stat(file)).ino, (await stat(blobFile(store, DIGEST))).ino);
      await writeFile(file, 'changed');
      assert.deepEqual(await store.blobs.readAll(DIGEST, BYTES.byteLength), BYTES);
    }));

  test('with a wrong digest or size is refused', () =>
    withSetting(async ({ store, file }) => {
      const wrong = [
        [{ digest: Digest.of('x') }, 'DIGEST_MISMATCH'],
        [{ sizeBytes: 5 }, 'SIZE_MISMATCH'],
      ] as const;
      for (const [expect, code] of wrong) {
        await assert.rejects(store.importFile(file, { how: REFLINK_OR_COPY, expect }), withCode(code));
      }
      assert.equal(await store.blobs.has(DIGEST), false);
    }));

  test('absent, a folder or a pipe is refused', () =>
    withSetting(async ({ store, file }) => {
      const pipe = `${file}.pipe`;
      assert.equal(spawnSync('mkfifo', [pipe]).status, 0);
      for (const each of [`${file}x`, path.join(file, 'below'), path.dirname(file), pipe]) {
        await assert.rejects(store.importFile(each, { how: REFLINK_OR_COPY }), withCode('NOT_FOUND'));
      }
    }));

  test('can be cancelled', () =>
    withSetting(async ({ store, file }) => {
      const signal = AbortSignal.abort();
      await assert.rejects(store.importFile(file, { how: REFLINK_OR_COPY, signal }), withCode('CANCELLED'));
    }));

  test('is never moved out of its place as if it were ours', () =>
    withSetting(async ({ store, file, cache }) => {
      const how = { kind: 'move-from-cache', ownCacheFolder: cache } as const;
      const planted = path.join(cache, 'planted');
      await symlink(file, planted);
      for (const each of [file, planted, path.join(cache, '..', path.basename(file)), `${cache}-x`]) {
        await assert.rejects(
          store.importFile(each, { how }),
          (thrown) =>
            thrown instanceof FreeholdError && ['PERMISSION_DENIED', 'NOT_FOUND'].includes(thrown.code),
        );
      }
      assert.deepEqual(await readFile(file), BYTES);
    }));
});

describe('a file of our own cache', () => {
  test('becomes the blob without a copy and leaves the cache', () =>
    withSetting(async ({ store, cache, cached }) => {
      const { ino } = await stat(cached);
      const how = { kind: 'move-from-cache', ownCacheFolder: cache } as const;
      await store.importFile(cached, { how, expect: { digest: DIGEST } });
      const blob = await stat(blobFile(store, DIGEST));
      assert.deepEqual([blob.ino, blob.nlink, blob.mode & 0o777], [ino, 1, 0o444]);
      assert.deepEqual(await readdir(cache), []);
    }));

  test('stays where it is when its bytes are wrong', () =>
    withSetting(async ({ store, cache, cached }) => {
      await writeFile(cached, 'not what it should be');
      const how = { kind: 'move-from-cache', ownCacheFolder: cache } as const;
      const moving = store.importFile(cached, { how, expect: { digest: DIGEST } });
      await assert.rejects(moving, withCode('DIGEST_MISMATCH'));
      assert.equal((await stat(cached)).mode & 0o777, 0o644);
      assert.deepEqual(await readdir(path.join(store.folder, 'blobs', 'sha256')), []);
    }));

  test('that has a second name is copied: through that name the blob could be changed', () =>
    withSetting(async ({ store, file, cache, cached }) => {
      await link(cached, `${file}.other`);
      await store.importFile(cached, { how: { kind: 'move-from-cache', ownCacheFolder: cache } });
      await writeFile(`${file}.other`, 'changed');
      assert.deepEqual(await store.blobs.readAll(DIGEST, BYTES.byteLength), BYTES);
    }));

  test('is there for everybody who moves it at the same moment', () =>
    withSetting(async ({ store, cache, cached }) => {
      const how = { kind: 'move-from-cache', ownCacheFolder: cache } as const;
      const moves = Array.from({ length: 5 }, () =>
        store.importFile(cached, { how, expect: { digest: DIGEST } }),
      );
      for (const info of await Promise.all(moves)) assert.equal(info.digest, DIGEST);
      assert.deepEqual(await readdir(cache), []);
      assert.deepEqual(
        (await store.check()).findings.map(({ kind }) => kind),
        ['unreferenced'],
      );
    }));
});

test('a blob that is there already is kept', () =>
  withSetting(async ({ store, file, cache, cached }) => {
    await store.importFile(file, { how: REFLINK_OR_COPY });
    const { ino } = await stat(blobFile(store, DIGEST));
    await store.importFile(file, { how: REFLINK_OR_COPY });
    await store.importFile(cached, { how: { kind: 'move-from-cache', ownCacheFolder: cache } });
    assert.equal((await stat(blobFile(store, DIGEST))).ino, ino);
    assert.deepEqual(await readdir(cache), []);
  }));

function withCode(code: string) {
  return (thrown: unknown) => thrown instanceof FreeholdError && thrown.code === code;
}
