import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  blobFile,
  install,
  type SmallPackage,
  withoutEntry,
  withStore,
  writePackage,
  writeVersion,
} from '../../../tests/conformance/store-fixture.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { ANNOTATION, encodeJson, MEDIA_TYPE } from '../../core/format/oci.ts';
import { readClosure } from './closure.ts';
import { openStore, type Store } from './store.ts';

describe('gc', () => {
  test('keeps what entries need and removes the rest', () =>
    withStore(async (store) => {
      const kept = await install(store, 'kept', { shared: 'shared', own: 'own' });
      const gone = await install(store, 'gone', { shared: 'shared', other: 'other' });
      await store.updateEntries((entries) => withoutEntry(entries, 'gone'));
      const dry = await store.gc({ dryRun: true });
      assert.equal(await store.blobs.has(gone.manifest), true, 'a dry run removes nothing');
      const report = await store.gc();
      assert.deepEqual(report, dry);
      const other = Digest.of('other');
      assert.deepEqual(report.removed, [gone.manifest, other], 'the document first');
      await requirePresent(store, [kept.manifest, kept.config, ...kept.layers]);
      assert.equal(await store.blobs.has(other), false);
      assert.deepEqual((await store.gc()).removed, []);
    }));

  test('counts what it frees', () =>
    withStore(async (store) => {
      await store.blobs.write(Buffer.alloc(1234));
      await mkdir(path.join(store.folder, 'tmp'), { recursive: true });
      await writeFile(path.join(store.folder, 'tmp', '1-dead'), Buffer.alloc(1000));
      const report = await store.gc();
      assert.equal(report.freedBytes, 2234);
      assert.equal(report.removedTempFiles, 1);
      assert.deepEqual(await readdir(path.join(store.folder, 'tmp')), []);
    }));

  test('removes the scratch folder of a killed process, with what is in it', () =>
    withStore(async (store) => {
      const scratch = path.join(store.folder, 'tmp', '1-dead');
      await mkdir(path.join(scratch, 'below'), { recursive: true });
      await writeFile(path.join(scratch, 'half.gguf'), Buffer.alloc(1000));
      await writeFile(path.join(scratch, 'below', 'other'), Buffer.alloc(10));
      const dry = await store.gc({ dryRun: true });
      assert.deepEqual(await store.gc(), dry);
      assert.equal(dry.freedBytes, 1010);
      assert.deepEqual(await readdir(path.join(store.folder, 'tmp')), []);
    }));

  test('leaves the scratch folder of a process that works', () =>
    withStore(async (store) => {
      let scratch = '';
      await store.withScratchFolder(async (folder) => {
        scratch = folder;
        await writeFile(path.join(folder, 'half.gguf'), 'half');
        const impatient = await openStore(store.folder, { lockTimeoutMs: 50 });
        await assert.rejects(impatient.gc(), { code: 'BUSY' });
      });
      assert.deepEqual(await readdir(path.dirname(scratch)), []);
    }));

  test('follows an image index to its manifests and their layers', () =>
    withStore(async (store) => {
      const variants = [
        await writePackage(store, 'q4', { w: '4' }),
        await writePackage(store, 'q8', { w: '8' }),
      ];
      const version = await writeVersion(store, 'acme/triage:1.0.0', variants);
      await store.updateEntries(() => [version]);
      assert.deepEqual((await store.gc()).removed, []);
    }));

  test('keeps referrers of what it keeps, theirs too, and no others', () =>
    withStore(async (store) => {
      const kept = await install(store, 'kept', { w: 'kept' });
      const bundle = await writePackage(store, 'bundle', { sig: 'signature' }, kept.entry);
      const onBundle = await writePackage(store, 'note', { note: 'on the bundle' }, bundle.entry);
      const gone = await writePackage(store, 'gone', { w: 'gone' });
      const stray = await writePackage(store, 'stray', { sig: 'of gone' }, gone.entry);
      await store.gc();
      await requirePresent(store, [bundle.manifest, ...bundle.layers, onBundle.manifest, ...onBundle.layers]);
      for (const digest of [gone.manifest, ...gone.layers, stray.manifest, ...stray.layers]) {
        assert.equal(await store.blobs.has(digest), false);
      }
    }));

  test('a referrer alone does not keep its subject', () =>
    withStore(async (store) => {
      const subject = await writePackage(store, 'subject', { w: 'subject' });
      const referrer = await writePackage(store, 'referrer', { w: 'referrer' }, subject.entry);
      await store.updateEntries(() => [referrer.entry]);
      await store.gc();
      assert.equal(await store.blobs.has(subject.manifest), false);
      await requirePresent(store, [referrer.manifest, ...referrer.layers]);
    }));

  test('removes nothing while a document cannot be followed, and says which entry', () =>
    withStore(async (store) => {
      const { manifest } = await install(store, 'acme/broken', { w: 'w' });
      const { digest } = await store.blobs.write(Buffer.from('garbage'));
      await chmod(blobFile(store, manifest), 0o644);
      await writeFile(blobFile(store, manifest), '{}');
      await assert.rejects(store.gc(), storeCorrupt(/acme\/broken/));
      await rm(blobFile(store, manifest));
      await assert.rejects(store.gc(), storeCorrupt(/acme\/broken/));
      assert.equal(await store.blobs.has(digest), true);
      await store.updateEntries((entries) => withoutEntry(entries, 'acme/broken'));
      await store.gc();
      assert.equal(await store.blobs.has(digest), false);
    }));

  test('is stopped by a chain of documents deeper than any package has', () =>
    withStore(async (store) => {
      let child = await writePackage(store, 'leaf', { w: 'w' });
      for (let depth = 0; depth < 12; depth++) {
        const entry = await writeVersion(store, `depth ${depth}`, [child]);
        child = { ...child, entry };
      }
      await assert.rejects(
        store.updateEntries(() => [child.entry]),
        (thrown) => thrown instanceof FreeholdError && /more than 8 deep/.test(thrown.message),
      );
    }));

  test('does not follow a planted symbolic link, and leaves names alone that are none of ours', () =>
    withStore(async (store) => {
      const outside = path.join(store.folder, '..', 'outside');
      await writeFile(outside, '{}');
      await symlink(outside, blobFile(store, Digest.of('planted')));
      await writeFile(path.join(store.folder, 'blobs', 'sha256', 'README'), 'mine');
      assert.deepEqual((await store.gc()).removed, [Digest.of('planted')]);
      assert.deepEqual(await readdir(path.join(store.folder, 'blobs', 'sha256')), ['README']);
      assert.ok((await readdir(path.dirname(outside))).includes('outside'));
    }));

  test('waits for a lease and gives up with the name of the lock', () =>
    withStore(async (store) => {
      const impatient = await openStore(store.folder, { lockTimeoutMs: 50 });
      await store.withLease(async () => {
        await assert.rejects(
          impatient.gc(),
          (thrown) =>
            thrown instanceof FreeholdError &&
            thrown.code === 'BUSY' &&
            thrown.message.includes(`lease.lock is locked by process ${process.pid}`),
        );
      });
      await impatient.gc();
    }));

  test('a write that is under way keeps it off, without a lease of its own', () =>
    withStore(async (store) => {
      const impatient = await openStore(store.folder, { lockTimeoutMs: 50 });
      async function* slow() {
        yield Buffer.from('half ');
        await assert.rejects(
          impatient.gc(),
          (thrown) => thrown instanceof FreeholdError && thrown.code === 'BUSY',
        );
        yield Buffer.from('whole');
      }
      const { digest } = await store.blobs.write(slow());
      assert.equal((await store.blobs.readAll(digest, 100)).toString(), 'half whole');
    }));

  test('what is written within a lease is safe until its entry is there', () =>
    withStore(async (store) => {
      let collecting: Promise<unknown> | undefined;
      const made = await store.withLease(async () => {
        const { entry, layers } = await writePackage(store, 'new', { w: 'new' });
        collecting = store.gc();
        await new Promise((resolve) => setTimeout(resolve, 50));
        await requirePresent(store, layers);
        await store.updateEntries((entries) => [...entries, entry]);
        return layers;
      });
      await collecting;
      await requirePresent(store, made);
    }));
});

type Step =
  | { readonly kind: 'write' | 'install' | 'remove'; readonly package: number }
  | { readonly kind: 'version' }
  | { readonly kind: 'gc' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom('write', 'install', 'remove'), package: fc.nat(3) }),
  fc.constant<Step>({ kind: 'version' }),
  fc.constant<Step>({ kind: 'gc' }),
);

/** Two of the packages share a layer. */
const FILES = [{ a: 'a', s: 'shared' }, { b: 'b', s: 'shared' }, { c: 'c' }, { d: 'd', e: 'e' }] as const;

test('whatever is written, entered, removed and collected: every entry is whole, and gc leaves nothing else', () =>
  withStore(async (store) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 15 }), async (steps) => {
        await store.updateEntries(() => []);
        for (const each of steps) await play(store, each);
        await requireWhole(store);
        await store.gc();
        const closure = await requireWhole(store);
        const names = await readdir(path.join(store.folder, 'blobs', 'sha256'));
        assert.deepEqual(names.sort(), [...closure].map(Digest.hex).sort());
        assert.deepEqual((await store.check()).findings, []);
      }),
      { numRuns: 25 },
    );
  }));

async function play(store: Store, each: Step): Promise<void> {
  if (each.kind === 'gc') await store.gc();
  else if (each.kind === 'version') await installVersion(store);
  else if (each.kind === 'write') await writePackage(store, `p${each.package}`, FILES[each.package] ?? {});
  else if (each.kind === 'install') await install(store, `p${each.package}`, FILES[each.package] ?? {});
  else await store.updateEntries((entries) => withoutEntry(entries, `p${each.package}`));
}

async function installVersion(store: Store): Promise<void> {
  await store.withLease(async () => {
    const variants: SmallPackage[] = [];
    for (const files of FILES.slice(0, 2)) variants.push(await writePackage(store, 'variant', files));
    const entry = await writeVersion(store, 'version', variants);
    await store.updateEntries((entries) => [...withoutEntry(entries, 'version'), entry]);
  });
}

/** @returns the closure of all entries, every blob of it read and hashed */
async function requireWhole(store: Store): Promise<Set<Digest>> {
  const closure = await readClosure(store.blobs, await store.entries());
  assert.deepEqual(closure.problems, []);
  await requirePresent(store, closure.members.keys());
  return new Set(closure.members.keys());
}

async function requirePresent(store: Store, digests: Iterable<Digest>): Promise<void> {
  for (const digest of digests) await store.blobs.readAll(digest, 1 << 20);
}

test('the closure says for whom a blob is there', () =>
  withStore(async (store) => {
    const variant = await writePackage(store, 'q4', { 'weights.gguf': 'w' });
    const version = await writeVersion(store, 'acme/triage:1.0.0', [variant]);
    const { members } = await readClosure(store.blobs, [version]);
    assert.deepEqual(members.get(Digest.of('w')), {
      digest: Digest.of('w'),
      sizeBytes: 1,
      owners: [{ entry: 'acme/triage:1.0.0', manifest: variant.manifest, file: 'weights.gguf' }],
    });
  }));

test('the closure takes fields that it does not know, and refuses a document that is too large', () =>
  withStore(async (store) => {
    const foreign = {
      schemaVersion: 2,
      platform: { os: 'linux' },
      layers: [],
      annotations: { [ANNOTATION.name]: 'x' },
    };
    for (const [bytes, problems] of [
      [encodeJson(foreign), 0],
      [Buffer.alloc((4 << 20) + 1, ' '), 1],
    ] as const) {
      const { digest, sizeBytes } = await store.blobs.write(bytes);
      const closure = await readClosure(store.blobs, [
        { mediaType: MEDIA_TYPE.manifest, digest, size: sizeBytes },
      ]);
      assert.equal(closure.problems.length, problems);
    }
  }));

function storeCorrupt(message: RegExp) {
  return (thrown: unknown) =>
    thrown instanceof FreeholdError && thrown.code === 'STORE_CORRUPT' && message.test(thrown.message);
}
