import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import {
  blobFile,
  install,
  withFolder,
  withoutEntry,
  withStore,
  writePackage,
} from '../../../tests/conformance/store-fixture.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { ANNOTATION, MEDIA_TYPE } from '../../core/format/oci.ts';
import { openStore } from './store.ts';

describe('openStore', () => {
  test('creates an OCI image layout and opens it again', () =>
    withFolder(async (folder) => {
      await openStore(folder);
      assert.equal(await readFile(path.join(folder, 'oci-layout'), 'utf8'), '{"imageLayoutVersion":"1.0.0"}');
      const index = JSON.parse(await readFile(path.join(folder, 'index.json'), 'utf8'));
      assert.equal(index.schemaVersion, 2);
      assert.deepEqual(index.manifests, []);
      assert.deepEqual(await readdir(path.join(folder, 'blobs', 'sha256')), []);
      assert.deepEqual(await (await openStore(folder)).entries(), []);
    }));

  test('twenty callers create it at once', () =>
    withFolder(async (folder) => {
      const stores = await Promise.all(
        Array.from({ length: 20 }, () => openStore(path.join(folder, 'deep', 'store'))),
      );
      const [first] = stores;
      assert.ok(first !== undefined);
      await install(first, 'a', { a: 'a' });
      for (const store of stores) assert.equal((await store.entries()).length, 1);
    }));

  test('refuses a folder with other files in it and writes nothing there', () =>
    withFolder(async (folder) => {
      await writeFile(path.join(folder, 'letter.txt'), 'dear');
      await assert.rejects(openStore(folder), corrupt(/letter\.txt/));
      assert.deepEqual(await readdir(folder), ['letter.txt']);
    }));

  test('refuses a file', () =>
    withFolder(async (folder) => {
      const file = path.join(folder, 'file');
      await writeFile(file, '');
      await assert.rejects(openStore(file), corrupt(/is not a folder/));
      await assert.rejects(openStore(path.join(file, 'below')), corrupt(/is not a folder/));
    }));

  test('refuses a path below a symbolic link to nowhere', () =>
    withFolder(async (folder) => {
      await symlink(path.join(folder, 'nowhere'), path.join(folder, 'link'));
      await assert.rejects(openStore(path.join(folder, 'link', 'store')), corrupt(/link/));
    }));

  test('goes on with a creation that was cut off', async () => {
    for (const left of [['tmp'], ['tmp', 'locks', 'blobs'], []]) {
      await withFolder(async (folder) => {
        for (const name of left) await mkdir(path.join(folder, name));
        assert.deepEqual(await (await openStore(folder)).entries(), []);
      });
    }
  });

  test('a missing oci-layout does not cost the entries', () =>
    withStore(async (store) => {
      await install(store, 'a', { a: 'a' });
      await rm(path.join(store.folder, 'oci-layout'));
      await assert.rejects(openStore(store.folder), corrupt(/oci-layout: is missing/));
      assert.equal((await store.entries()).length, 1);
    }));

  test('names path and reason of what is damaged', () =>
    withStore(async (store) => {
      const index = path.join(store.folder, 'index.json');
      const layout = path.join(store.folder, 'oci-layout');
      const good = await readFile(index);
      const damages: [string, string | Buffer, RegExp][] = [
        [layout, '{"imageLayoutVersion":"2.0.0"}', /oci-layout/],
        [layout, '{"imageLayoutVersion":"1.0.0","x":1}', /oci-layout/],
        [layout, 'x'.repeat(2000), /oci-layout: has 2000 bytes/],
        [index, '', /index\.json/],
        [index, '{}', /index\.json/],
        [index, good.toString().replace('"manifests":[]', '"manifests":[{}]'), /manifests\.0\.mediaType/],
        [index, good.toString().replace('"manifests"', '"more":1,"manifests"'), /more/],
        [index, good.toString().replace(/sha256:./, 'sha256:_'), /checksum/],
        [index, Buffer.concat([good, Buffer.from('\n')]), /checksum/],
        [index, Buffer.alloc(17 << 20), /index\.json: has/],
      ];
      for (const [file, bytes, reason] of damages) {
        const before = await readFile(file);
        await writeFile(file, bytes);
        await assert.rejects(openStore(store.folder), corrupt(reason));
        await writeFile(file, before);
      }
      await rm(index);
      await assert.rejects(openStore(store.folder), corrupt(/index\.json: is missing/));
      await symlink('/etc/hostname', index);
      await assert.rejects(openStore(store.folder), corrupt(/index\.json: is a symbolic link/));
    }));

  test('opening and reading an existing store writes nothing', () =>
    withStore(async (store) => {
      const { layers } = await install(store, 'a', { a: 'a' });
      for (const name of ['tmp', 'locks']) await rm(path.join(store.folder, name), { recursive: true });
      const again = await openStore(store.folder);
      await again.blobs.readAll(layers[0] ?? assert.fail(), 10);
      assert.deepEqual((await readdir(store.folder)).sort(), ['blobs', 'index.json', 'oci-layout']);
    }));
});

describe('entries', () => {
  test('are kept with their annotations', () =>
    withStore(async (store) => {
      const made = await writePackage(store, 'acme/triage:1.0.0-q4_0', { card: 'read me' });
      const entry = { ...made.entry, artifactType: MEDIA_TYPE.modelManifest };
      await store.updateEntries(() => [entry]);
      assert.deepEqual(await (await openStore(store.folder)).entries(), [entry]);
    }));

  test('an entry that lacks something is refused by name, and nothing changes', () =>
    withStore(async (store) => {
      const made = await writePackage(store, 'acme/triage', { 'card.md': 'card', 'weights.gguf': 'weights' });
      await rm(blobFile(store, made.layers[1] ?? assert.fail()));
      const update = store.updateEntries((entries) => [...entries, made.entry]);
      await assert.rejects(update, withMessage('NOT_FOUND', /acme\/triage: weights\.gguf/));
      assert.deepEqual(await store.entries(), []);
    }));

  test('an entry whose manifest lies about a size is refused', () =>
    withStore(async (store) => {
      const made = await writePackage(store, 'a', { file: 'text' });
      const bytes = await store.blobs.readAll(made.manifest, 10_000);
      const lying = Buffer.from(bytes.toString().replace('"size":4', '"size":5'));
      const { digest, sizeBytes } = await store.blobs.write(lying);
      const entry = { mediaType: MEDIA_TYPE.manifest, digest, size: sizeBytes };
      await assert.rejects(
        store.updateEntries(() => [entry]),
        withMessage('SIZE_MISMATCH', /file has 4 bytes instead of 5/),
      );
    }));

  test('a manifest that is not one is refused', () =>
    withStore(async (store) => {
      for (const text of ['[]', '{"layers":[{"digest":"../../etc/passwd","mediaType":"x","size":1}]}', '{']) {
        const { digest, sizeBytes } = await store.blobs.write(Buffer.from(text));
        const entry = { mediaType: MEDIA_TYPE.manifest, digest, size: sizeBytes };
        await assert.rejects(
          store.updateEntries(() => [entry]),
          withMessage('MANIFEST_INVALID', /sha256:/),
        );
      }
    }));

  test('entries that could not be read again are never written', () =>
    withStore(async (store) => {
      const { entry } = await install(store, 'a', { a: 'a' });
      const bad = [
        { ...entry, annotations: { half: '\ud800' } },
        { ...entry, annotations: { large: 'x'.repeat(17 << 20) } },
        { ...entry, size: -1 },
        { ...entry, more: 'x' },
      ];
      for (const each of bad) {
        await assert.rejects(
          store.updateEntries(() => [each]),
          withMessage('MANIFEST_INVALID', /cannot be kept/),
        );
      }
      const tooMany = Array.from({ length: 10_001 }, () => entry);
      await assert.rejects(
        store.updateEntries(() => tooMany),
        withMessage('MANIFEST_INVALID', /cannot be kept/),
      );
      assert.deepEqual(await (await openStore(store.folder)).entries(), [entry]);
    }));

  test('a change that throws changes nothing and frees the lock', () =>
    withStore(async (store) => {
      await install(store, 'a', { a: 'a' });
      const failing = store.updateEntries(() => {
        throw new Error('on purpose');
      });
      await assert.rejects(failing, /on purpose/);
      assert.equal((await store.updateEntries((entries) => entries)).length, 1);
    }));

  test('concurrent updates in one process are all kept', () =>
    withStore(async (store) => {
      const names = Array.from({ length: 12 }, (_, number) => `m${number}`);
      await Promise.all(names.map((name) => install(store, name, { name })));
      const found = (await store.entries()).map((entry) => entry.annotations?.[ANNOTATION.refName]);
      assert.deepEqual(found.sort(), names.sort());
    }));

  test('removing one of two keeps the other', () =>
    withStore(async (store) => {
      await install(store, 'a', { a: 'a' });
      await install(store, 'b', { b: 'b' });
      const left = await store.updateEntries((entries) => withoutEntry(entries, 'a'));
      assert.deepEqual(
        left.map((entry) => entry.annotations?.[ANNOTATION.refName]),
        ['b'],
      );
    }));
});

describe('blobs on disk', () => {
  test('nobody may write into them', () =>
    withStore(async (store) => {
      const { digest } = await store.blobs.write(Buffer.from('x'));
      const { mode } = await stat(blobFile(store, digest));
      assert.equal(mode & 0o777, 0o444);
    }));

  test('storing again repairs a damaged blob and leaves a sound one alone', () =>
    withStore(async (store) => {
      const { digest } = await store.blobs.write(Buffer.from('weights'));
      const file = blobFile(store, digest);
      const inode = async () => (await stat(file)).ino;
      const before = await inode();
      await store.blobs.write(Buffer.from('weights'));
      assert.equal(await inode(), before);
      for (const damage of ['WEIGHTS', 'short', '']) {
        await chmod(file, 0o644);
        await writeFile(file, damage);
        await store.blobs.write(Buffer.from('weights'));
        assert.equal((await store.blobs.readAll(digest, 100)).toString(), 'weights');
      }
    }));

  test('a symbolic link in the place of a blob is refused, and replaced by storing again', () =>
    withStore(async (store) => {
      const bytes = Buffer.from('secret');
      const digest = Digest.of(bytes);
      const outside = path.join(store.folder, '..', 'outside');
      await writeFile(outside, bytes);
      await symlink(outside, blobFile(store, digest));
      assert.equal(await store.blobs.has(digest), false);
      await assert.rejects(store.blobs.readAll(digest, 100), corrupt(/is a symbolic link/));
      await assert.rejects(store.blobs.open(digest), corrupt(/is a symbolic link/));
      await assert.rejects(store.blobs.info(digest), corrupt(/is not a plain file/));
      await store.blobs.write(bytes);
      assert.deepEqual(await store.blobs.readAll(digest, 100), bytes);
      assert.equal(await readFile(outside, 'utf8'), 'secret');
    }));

  test('a damaged document is never returned', () =>
    withStore(async (store) => {
      const { digest } = await store.blobs.write(Buffer.from('document'));
      await chmod(blobFile(store, digest), 0o644);
      await writeFile(blobFile(store, digest), 'Document');
      await assert.rejects(store.blobs.readAll(digest, 100), withMessage('DIGEST_MISMATCH', /damaged/));
    }));

  test('a string is no digest: the compiler refuses it, so no path can be made of one', () =>
    withStore(async (store) => {
      // @ts-expect-error a plain string is not a Digest
      const never = () => store.blobs.has('sha256:../../../etc/passwd');
      assert.equal(typeof never, 'function');
    }));

  test('failed writes leave no temporary file', () =>
    withStore(async (store) => {
      await assert.rejects(store.blobs.write(Buffer.from('x'), { digest: Digest.of('y') }));
      await assert.rejects(store.blobs.write(Buffer.from('x'), { sizeBytes: 2 }));
      assert.deepEqual(await readdir(path.join(store.folder, 'tmp')), []);
      assert.deepEqual(await readdir(path.join(store.folder, 'blobs', 'sha256')), []);
    }));
});

function corrupt(reason: RegExp) {
  return withMessage('STORE_CORRUPT', reason);
}

function withMessage(code: string, message: RegExp) {
  return (thrown: unknown) =>
    thrown instanceof FreeholdError && thrown.code === code && message.test(thrown.message);
}
