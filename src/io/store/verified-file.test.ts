import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import {
  chmod,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { blobFile, withStore } from '../../../tests/conformance/store-fixture.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { hashOpenFile } from '../files/file-hash.ts';
import { openStore, type Store } from './store.ts';

const WEIGHTS = Buffer.from('the weights of a model');
const NAME = 'weights/model.gguf';

/** Long enough after the last change for a record to be trusted; the store wants two seconds. */
const SETTLED_MS = 2_100;
const settle = () => new Promise((resolve) => setTimeout(resolve, SETTLED_MS));

describe('openVerified', () => {
  test('hands over a descriptor of the verified bytes', () =>
    withStore(async (store) => {
      const digest = await writeWeights(store);
      const file = await store.openVerified(digest, {
        mode: 'full',
        name: NAME,
        sizeBytes: WEIGHTS.byteLength,
      });
      const buffer = Buffer.alloc(100);
      const length = readSync(file.fd, buffer, 0, 100, 0);
      assert.deepEqual(buffer.subarray(0, length), WEIGHTS);
      assert.deepEqual([file.digest, file.sizeBytes], [digest, WEIGHTS.byteLength]);
      await file.requireUnchanged();
      await file.close();
      await file.close();
    }));

  test('names the file of the package, with expected and actual', () =>
    withStore(async (store) => {
      const digest = await writeWeights(store);
      const open = (sizeBytes?: number) =>
        store.openVerified(digest, {
          mode: 'full',
          name: NAME,
          ...(sizeBytes === undefined ? {} : { sizeBytes }),
        });
      await assert.rejects(open(5), refusal('SIZE_MISMATCH', { expected: 5, actual: WEIGHTS.byteLength }));
      await damage(store, digest, 'THE WEIGHTS OF A MODEL');
      const actual = Digest.of('THE WEIGHTS OF A MODEL');
      await assert.rejects(open(), refusal('DIGEST_MISMATCH', { expected: digest, actual }));
      await rm(blobFile(store, digest));
      await assert.rejects(open(), refusal('FILE_MISSING', {}));
      await symlink('/etc/hostname', blobFile(store, digest));
      await assert.rejects(open(), refusal('STORE_CORRUPT', {}));
      await rm(blobFile(store, digest));
      await mkdir(blobFile(store, digest));
      await assert.rejects(open(), refusal('STORE_CORRUPT', {}));
    }));

  test('refuses a named pipe without waiting for a writer', { timeout: 5_000 }, () =>
    withStore(async (store) => {
      const digest = Digest.of('pipe');
      assert.equal(spawnSync('mkfifo', [blobFile(store, digest)]).status, 0);
      await assert.rejects(
        store.openVerified(digest, { mode: 'full', name: NAME }),
        refusal('STORE_CORRUPT', {}),
      );
    }),
  );

  test('notices every change between hashing and use', () =>
    withStore(async (store) => {
      const changes: ((file: string) => Promise<unknown>)[] = [
        (file) => chmod(file, 0o644).then(() => writeFile(file, 'The weights of a model')),
        (file) => chmod(file, 0o644).then(() => writeFile(file, WEIGHTS.subarray(1))),
        (file) => rm(file),
        (file) => writeFile(`${file}.new`, WEIGHTS).then(() => rename(`${file}.new`, file)),
        // Written, and the time of the write set back: the change time cannot be set.
        async (file) => {
          const { atime, mtime } = await stat(file);
          await chmod(file, 0o644);
          await writeFile(file, 'tHe weights of a model');
          await utimes(file, atime, mtime);
        },
      ];
      for (const change of changes) {
        const digest = await writeWeights(store);
        const file = await store.openVerified(digest, { mode: 'full', name: NAME });
        await new Promise((resolve) => setTimeout(resolve, 20));
        await change(blobFile(store, digest));
        await assert.rejects(file.requireUnchanged(), refusal('DIGEST_MISMATCH', {}));
        await file.close();
      }
    }));

  test('a write while it is being hashed is noticed', () =>
    withStore(async (store) => {
      const bytes = Buffer.alloc(4 << 20, 1);
      const { digest } = await store.blobs.write(bytes);
      await chmod(blobFile(store, digest), 0o644);
      await new Promise((resolve) => setTimeout(resolve, 20));
      let wasChanged = false;
      const opening = store.openVerified(digest, {
        mode: 'full',
        name: NAME,
        onBytes: () => {
          // The first mebibyte is hashed already, so the digest alone would not tell.
          if (!wasChanged) changeFirstByte(blobFile(store, digest));
          wasChanged = true;
        },
      });
      await assert.rejects(opening, refusal('DIGEST_MISMATCH', { expected: digest, actual: null }));
      assert.equal(wasChanged, true);
    }));

  test('can be cancelled, and leaves no descriptor open', () =>
    withStore(async (store) => {
      const { digest } = await store.blobs.write(Buffer.alloc(4 << 20));
      const abort = new AbortController();
      const before = await openDescriptors();
      await assert.rejects(
        store.openVerified(digest, {
          mode: 'full',
          name: NAME,
          signal: abort.signal,
          onBytes: () => abort.abort(),
        }),
        (thrown) => thrown instanceof FreeholdError && thrown.code === 'CANCELLED',
      );
      assert.equal(await openDescriptors(), before);
    }));

  test('reports progress up to the size', () =>
    withStore(async (store) => {
      const { digest, sizeBytes } = await store.blobs.write(Buffer.alloc((3 << 20) + 17));
      const seen: number[] = [];
      const file = await store.openVerified(digest, {
        mode: 'full',
        name: NAME,
        onBytes: (done) => seen.push(done),
      });
      await file.close();
      assert.equal(seen.at(-1), sizeBytes);
      assert.ok(seen.length >= 4);
    }));
});

describe('the warm record', { concurrency: true }, () => {
  test('is written after a full hash and trusted only while nothing changed', async () => {
    await withStore(async (store) => {
      const digest = await writeWeights(store);
      await settle();
      assert.equal(await hashes(store, digest, 'warm'), true, 'no record yet');
      assert.equal(await hashes(store, digest, 'warm'), false);
      assert.equal(await hashes(store, digest, 'full'), true, 'full never trusts it');
      const { mode } = await stat(recordFile(store, digest));
      assert.equal(mode & 0o777, 0o600);
    });
  });

  test('is void after any change of the file, of its mode or of its names', () =>
    withStore(async (store) => {
      const changes = [
        (file: string) => chmod(file, 0o400),
        (file: string) => link(file, `${file}x`),
        (file: string) => rename(file, `${file}y`).then(() => rename(`${file}y`, file)),
        (file: string) => rm(file).then(() => writeFile(file, 'blob 3')),
      ];
      const digests: Digest[] = [];
      for (const index of changes.keys()) {
        digests.push((await store.blobs.write(Buffer.from(`blob ${index}`))).digest);
      }
      await settle();
      for (const [index, change] of changes.entries()) {
        const digest = digests[index] ?? assert.fail();
        await hashes(store, digest, 'full');
        assert.equal(await hashes(store, digest, 'warm'), false);
        await change(blobFile(store, digest));
        assert.equal(await hashes(store, digest, 'warm'), true, `change ${index}`);
      }
    }));

  test('never hides a changed byte, with the time of the write set back', () =>
    withStore(async (store) => {
      const digest = await writeWeights(store);
      await settle();
      await hashes(store, digest, 'full');
      const { atime, mtime } = await stat(blobFile(store, digest));
      await damage(store, digest, 'tHe weights of a model');
      await utimes(blobFile(store, digest), atime, mtime);
      await assert.rejects(hashes(store, digest, 'warm'), refusal('DIGEST_MISMATCH', {}));
    }));

  test('is not kept for a file that changed just now', () =>
    withStore(async (store) => {
      const digest = await writeWeights(store);
      await hashes(store, digest, 'full');
      assert.equal(await hashes(store, digest, 'warm'), true);
      assert.deepEqual(await readdir(path.join(store.folder, 'tmp')), []);
    }));

  test('is not kept for damaged bytes, and any damage to it means hashing', async () => {
    await withStore(async (store) => {
      const [digest, other] = [
        await writeWeights(store),
        (await store.blobs.write(Buffer.from('other'))).digest,
      ];
      await settle();
      for (const each of [digest, other]) await hashes(store, each, 'full');
      const good = await readFile(recordFile(store, digest));
      const json = JSON.parse(good.toString());
      const records = [
        await readFile(recordFile(store, other)),
        Buffer.from(''),
        Buffer.alloc(10_000, ' '),
        ...Object.keys(json).map((key) => Buffer.from(JSON.stringify({ ...json, [key]: '1' }))),
        Buffer.from(JSON.stringify({ ...json, more: '1' })),
      ];
      for (const record of records) {
        await writeFile(recordFile(store, digest), record);
        // Cancelled as soon as it hashes, so that it does not write the good record again.
        assert.equal(await hashes(store, digest, 'warm', true), true, record.toString());
      }
      await writeFile(recordFile(store, digest), good);
      assert.equal(await hashes(store, digest, 'warm'), false);
    });
  });

  test('goes with its blob at gc', async () => {
    await withStore(async (store) => {
      const digest = await writeWeights(store);
      await settle();
      await hashes(store, digest, 'full');
      assert.equal((await readdir(path.join(store.folder, 'verified'))).length, 1);
      await store.gc();
      assert.deepEqual(await readdir(path.join(store.folder, 'verified')), []);
    });
  });

  test('a store that cannot keep one works without', () =>
    withStore(async (store) => {
      const digest = await writeWeights(store);
      await rm(path.join(store.folder, 'tmp'), { recursive: true });
      await writeFile(path.join(store.folder, 'tmp'), 'in the way');
      const file = await (await openStore(store.folder)).openVerified(digest, { mode: 'warm', name: NAME });
      await file.close();
    }));
});

test('hashing leaves the event loop its turn', () =>
  withStore(async (store) => {
    const { digest } = await store.blobs.write(Buffer.alloc(64 << 20));
    let turns = 0;
    const counting = setInterval(() => turns++, 1);
    const file = await store.openVerified(digest, { mode: 'full', name: NAME });
    clearInterval(counting);
    await file.close();
    assert.ok(turns >= 10, `${turns} turns while 64 MiB were hashed`);
  }));

test('a file that is cut off while being hashed ends the hash, not the process', () =>
  withStore(async (store) => {
    const { digest } = await store.blobs.write(Buffer.alloc(8 << 20));
    await chmod(blobFile(store, digest), 0o644);
    const handle = await open(blobFile(store, digest), 'r+');
    const hashed = await hashOpenFile(handle, { onBytes: () => void handle.truncate(0) });
    assert.ok(hashed.sizeBytes < 8 << 20);
    await handle.close();
  }));

async function writeWeights(store: Store): Promise<Digest> {
  return (await store.blobs.write(WEIGHTS)).digest;
}

/** @returns whether the content was read, rather than the record trusted */
async function hashes(store: Store, digest: Digest, mode: 'full' | 'warm', cancel = false): Promise<boolean> {
  let read = false;
  const abort = new AbortController();
  if (cancel) abort.abort();
  try {
    const onBytes = () => {
      read = true;
    };
    const file = await store.openVerified(digest, { mode, name: NAME, onBytes, signal: abort.signal });
    await file.close();
  } catch (thrown) {
    if (thrown instanceof FreeholdError && thrown.code === 'CANCELLED') return true;
    throw thrown;
  }
  return read;
}

async function damage(store: Store, digest: Digest, text: string): Promise<void> {
  await chmod(blobFile(store, digest), 0o644);
  await writeFile(blobFile(store, digest), text);
}

/** In place and at once, before the next piece is read. */
function changeFirstByte(file: string): void {
  const descriptor = openSync(file, 'r+');
  writeSync(descriptor, Buffer.from([2]), 0, 1, 0);
  closeSync(descriptor);
}

async function openDescriptors(): Promise<number> {
  return (await readdir('/proc/self/fd')).length;
}

function recordFile(store: Store, digest: Digest): string {
  return path.join(store.folder, 'verified', `${Digest.hex(digest)}.json`);
}

function refusal(code: string, detail: Readonly<Record<string, unknown>>) {
  return (thrown: unknown) => {
    assert.ok(thrown instanceof FreeholdError, String(thrown));
    assert.equal(thrown.code, code);
    assert.ok(thrown.message.startsWith(`${NAME}: `), thrown.message);
    assert.equal(thrown.detail.file, NAME);
    for (const [key, value] of Object.entries(detail)) assert.equal(thrown.detail[key], value);
    return true;
  };
}
