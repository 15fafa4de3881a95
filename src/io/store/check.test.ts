import assert from 'node:assert/strict';
import { chmod, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { blobFile, install, withStore, writePackage } from '../../../tests/conformance/store-fixture.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { CheckFindingKind, CheckReport } from './check.ts';
import type { Store } from './store.ts';

describe('check', () => {
  test('finds nothing in a sound store, and reports progress to the end', () =>
    withStore(async (store) => {
      const { entry } = await install(store, 'a', { a: 'aaa', b: 'bbb' });
      await writePackage(store, 'bundle', { sig: 'signature' }, entry);
      let last: number[] = [];
      const report = await store.check({
        onBytes: (done, total) => {
          last = [done, total];
        },
      });
      assert.deepEqual(report.findings, []);
      // Two manifests, one config between them, three layers.
      assert.equal(report.blobs, 6);
      assert.deepEqual(last, [report.hashedBytes, report.hashedBytes]);
    }));

  test('says whose file is damaged, truncated or missing', () =>
    withStore(async (store) => {
      const made = await install(store, 'acme/triage:1.0.0-q4', {
        'w.gguf': 'weights',
        card: 'card',
        c: 'chat',
      });
      const [weights, card, chat] = made.layers.map((digest) => blobFile(store, digest));
      assert.ok(weights !== undefined && card !== undefined && chat !== undefined);
      for (const file of [weights, card]) await chmod(file, 0o644);
      await writeFile(weights, 'WEIGHTS');
      await truncate(card, 2);
      await rm(chat);
      const { findings } = await store.check();
      const owner = (file: string) => [{ entry: 'acme/triage:1.0.0-q4', manifest: made.manifest, file }];
      assert.deepEqual(
        new Set(findings.map(({ kind, isDamage, owners }) => ({ kind, isDamage, owners }))),
        new Set([
          { kind: 'damaged', isDamage: true, owners: owner('w.gguf') },
          { kind: 'truncated', isDamage: true, owners: owner('card') },
          { kind: 'missing', isDamage: true, owners: owner('c') },
        ]),
      );
    }));

  test('finds two blobs that were swapped', () =>
    withStore(async (store) => {
      const { layers } = await install(store, 'a', { a: 'one', b: 'two' });
      const [one, two] = layers.map((digest) => blobFile(store, digest));
      assert.ok(one !== undefined && two !== undefined);
      await rename(one, `${one}x`);
      await rename(two, one);
      await rename(`${one}x`, two);
      assert.deepEqual(kindsOf(await store.check()), ['damaged', 'damaged']);
    }));

  test('tells leftovers from damage', () =>
    withStore(async (store) => {
      await install(store, 'a', { a: 'a' });
      await store.blobs.write(Buffer.from('unreferenced'));
      await writeFile(path.join(store.folder, 'tmp', '17-dead'), 'half');
      const folder = path.join(store.folder, 'blobs', 'sha256');
      await writeFile(path.join(folder, 'README'), '');
      await writeFile(path.join(folder, 'A'.repeat(64)), '');
      const report = await store.check();
      assert.deepEqual(kindsOf(report), ['leftover-temporary', 'unreferenced', 'wrong-name', 'wrong-name']);
      assert.ok(report.findings.every(({ isDamage }) => !isDamage));
    }));

  test('reports a symbolic link and does not hash what it points to', () =>
    withStore(async (store) => {
      const made = await install(store, 'a', { a: 'text' });
      const file = blobFile(store, made.layers[0] ?? assert.fail());
      await rm(file);
      await writeFile(path.join(store.folder, '..', 'outside'), 'text');
      await symlink('../../../outside', file);
      assert.deepEqual(kindsOf(await store.check()), ['unreadable']);
    }));

  test('changes nothing', () =>
    withStore(async (store) => {
      await install(store, 'a', { a: 'a' });
      await store.blobs.write(Buffer.from('unreferenced'));
      await writeFile(path.join(store.folder, 'tmp', '17-dead'), 'half');
      const before = await contentsOf(store.folder);
      await store.check();
      assert.deepEqual(await contentsOf(store.folder), before);
    }));

  test('can be cancelled', () =>
    withStore(async (store) => {
      await install(store, 'a', { a: 'a' });
      await assert.rejects(
        store.check({ signal: AbortSignal.abort() }),
        (thrown) => thrown instanceof FreeholdError && thrown.code === 'CANCELLED',
      );
    }));

  test('hashes the blobs also when the index cannot be read', () =>
    withStore(async (store) => {
      const { layers } = await install(store, 'a', { a: 'text' });
      await flipByte(blobFile(store, layers[0] ?? assert.fail()), 1);
      await writeFile(path.join(store.folder, 'index.json'), '{');
      assert.deepEqual(kindsOf(await store.check()), ['damaged', 'index-invalid']);
    }));

  test('finds any flipped byte of any file of the store', { timeout: 60_000 }, () =>
    withStore(async (store) => {
      const made = await install(store, 'acme/triage:1.0.0', { 'w.gguf': 'some weights', card: 'a card' });
      const blobs = [made.manifest, made.config, ...made.layers].map((digest) => blobFile(store, digest));
      const others = ['index.json', 'oci-layout'].map((name) => path.join(store.folder, name));
      let flips = 0;
      for (const file of [...others, ...blobs]) {
        const { byteLength } = await readFile(file);
        // A blob is covered by its hash, every byte alike; in the other two each byte means something else.
        const step = blobs.includes(file) ? 5 : 1;
        for (let offset = 0; offset < byteLength; offset += step) {
          await flipByte(file, offset);
          const { findings } = await store.check();
          assert.ok(
            findings.some(({ isDamage, path: found }) => isDamage && file.endsWith(found)),
            `byte ${offset} of ${file}: ${JSON.stringify(findings)}`,
          );
          await flipByte(file, offset);
          flips++;
        }
      }
      assert.ok(flips > 500);
      assert.deepEqual((await store.check()).findings, []);
    }),
  );
});

/** Another bit for each offset, so that the sweep meets them all. */
async function flipByte(file: string, offset: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[offset] = (bytes[offset] ?? 0) ^ (1 << (offset % 8));
  await chmod(file, 0o644);
  await writeFile(file, bytes);
}

function kindsOf(report: CheckReport): CheckFindingKind[] {
  return report.findings.map(({ kind }) => kind).sort();
}

async function contentsOf(folder: string): Promise<Record<string, Digest>> {
  const contents: Record<string, Digest> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) contents[file] = Digest.of(await readFile(file));
  }
  return contents;
}

test('a flipped byte of a document hides nothing of another package', () =>
  withStore(async (store: Store) => {
    const first = await install(store, 'first', { a: 'a' });
    const second = await install(store, 'second', { b: 'b' });
    await flipByte(blobFile(store, first.manifest), 5);
    await flipByte(blobFile(store, second.layers[0] ?? assert.fail()), 0);
    const { findings } = await store.check();
    const entries = findings.filter(({ isDamage }) => isDamage).map(({ owners }) => owners[0]?.entry);
    assert.deepEqual(entries.sort(), ['first', 'second']);
  }));
