import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { BlobStore } from '../../src/core/base/blob-store.ts';
import { Digest } from '../../src/core/base/digest.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';

/** A fresh, empty adapter for one test, and how to take it down. */
export interface BlobStoreUnderTest {
  readonly store: BlobStore;
  dispose(): Promise<void>;
}

const HELLO = Buffer.from('hello, blob');
const ABSENT = Digest.of('never stored');
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** The one suite that every BlobStore adapter passes. */
export function blobStoreSuite(name: string, create: () => Promise<BlobStoreUnderTest>): void {
  const withStore = (work: (store: BlobStore) => Promise<void>) => async () => {
    const { store, dispose } = await create();
    try {
      await work(store);
    } finally {
      await dispose();
    }
  };

  describe(`BlobStore: ${name}`, () => {
    describe('reading and writing', () => roundTripTests(withStore));
    describe('what is refused', () => refusalTests(withStore));
    describe('several at once', () => concurrencyTests(withStore));
  });
}

type WithStore = (work: (store: BlobStore) => Promise<void>) => () => Promise<void>;

function roundTripTests(withStore: WithStore): void {
  test(
    'what was written is there, with size and digest',
    withStore(async (store) => {
      const info = await store.write(HELLO);
      assert.deepEqual(info, { digest: Digest.of(HELLO), sizeBytes: HELLO.byteLength });
      assert.equal(await store.has(info.digest), true);
      assert.deepEqual(await store.info(info.digest), info);
      assert.deepEqual(await store.readAll(info.digest, NO_LIMIT), HELLO);
    }),
  );

  test(
    'an empty blob is a blob',
    withStore(async (store) => {
      const { digest } = await store.write(Buffer.alloc(0), { sizeBytes: 0 });
      assert.equal((await store.readAll(digest, 0)).byteLength, 0);
    }),
  );

  test(
    'any bytes in any pieces come back, whole and by range',
    withStore(async (store) => {
      const pieces = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
      await fc.assert(
        fc.asyncProperty(pieces, fc.nat(), fc.nat(), async (parts, first, second) => {
          const whole = Buffer.concat(parts);
          const { digest } = await store.write(streamOf(parts), {
            digest: Digest.of(whole),
            sizeBytes: whole.byteLength,
          });
          assert.deepEqual(await store.readAll(digest, whole.byteLength), whole);
          const offset = first % (whole.byteLength + 1);
          const length = second % (whole.byteLength - offset + 1);
          const source = await store.open(digest);
          assert.equal(source.sizeBytes, whole.byteLength);
          assert.deepEqual(
            Buffer.from(await source.read(offset, length)),
            whole.subarray(offset, offset + length),
          );
          await source.close();
        }),
        { numRuns: 40 },
      );
    }),
  );

  test(
    'storing twice is no error',
    withStore(async (store) => {
      const [first, second] = [await store.write(HELLO), await store.write(streamOf([HELLO]))];
      assert.deepEqual(first, second);
      assert.deepEqual(await store.readAll(first.digest, NO_LIMIT), HELLO);
    }),
  );

  test(
    'later changes to memory that was written or read do not reach the blob',
    withStore(async (store) => {
      const bytes = Buffer.from('mine');
      const { digest } = await store.write(bytes);
      bytes.fill(0);
      (await store.readAll(digest, NO_LIMIT)).fill(0);
      assert.equal((await store.readAll(digest, NO_LIMIT)).toString(), 'mine');
    }),
  );

  test(
    'a blob is reported as it was stored, not as something else',
    withStore(async (store) => {
      await store.write(HELLO);
      assert.equal(await store.has(ABSENT), false);
    }),
  );
}

function refusalTests(withStore: WithStore): void {
  test(
    'an absent blob is NOT_FOUND',
    withStore(async (store) => {
      await assert.rejects(store.info(ABSENT), withCode('NOT_FOUND'));
      await assert.rejects(store.open(ABSENT), withCode('NOT_FOUND'));
      await assert.rejects(store.readAll(ABSENT, NO_LIMIT), withCode('NOT_FOUND'));
    }),
  );

  test(
    'a wrong digest is DIGEST_MISMATCH and leaves neither blob',
    withStore(async (store) => {
      await assert.rejects(store.write(HELLO, { digest: ABSENT }), withCode('DIGEST_MISMATCH'));
      assert.equal(await store.has(ABSENT), false);
      assert.equal(await store.has(Digest.of(HELLO)), false);
    }),
  );

  test(
    'a wrong digest is refused also when a blob of that digest is there',
    withStore(async (store) => {
      const { digest } = await store.write(HELLO);
      await assert.rejects(store.write(Buffer.from('other'), { digest }), withCode('DIGEST_MISMATCH'));
      assert.deepEqual(await store.readAll(digest, NO_LIMIT), HELLO);
    }),
  );

  test(
    'fewer or more bytes than declared are SIZE_MISMATCH',
    withStore(async (store) => {
      for (const sizeBytes of [HELLO.byteLength - 1, HELLO.byteLength + 1, 0]) {
        await assert.rejects(store.write(streamOf([HELLO]), { sizeBytes }), withCode('SIZE_MISMATCH'));
      }
      assert.equal(await store.has(Digest.of(HELLO)), false);
    }),
  );

  test(
    'a stream without end is cut off at the declared size',
    withStore(async (store) => {
      let pieces = 0;
      async function* endless() {
        for (;;) {
          pieces++;
          yield Buffer.alloc(1000);
        }
      }
      await assert.rejects(store.write(endless(), { sizeBytes: 5000 }), withCode('SIZE_MISMATCH'));
      assert.ok(pieces <= 7, `${pieces} pieces were taken`);
    }),
  );

  test(
    'an error of the stream passes through and leaves no blob',
    withStore(async (store) => {
      const failure = new FreeholdError('NETWORK', 'the line broke');
      async function* breaking() {
        yield HELLO;
        throw failure;
      }
      await assert.rejects(store.write(breaking()), (thrown) => thrown === failure);
      assert.equal(await store.has(Digest.of(HELLO)), false);
    }),
  );

  test(
    'readAll keeps its cap',
    withStore(async (store) => {
      const { digest } = await store.write(HELLO);
      await assert.rejects(store.readAll(digest, HELLO.byteLength - 1), withCode('SIZE_MISMATCH'));
    }),
  );

  test(
    'a range outside of the blob is a RangeError',
    withStore(async (store) => {
      const source = await store.open((await store.write(HELLO)).digest);
      const outside = [
        [0, HELLO.byteLength + 1],
        [-1, 1],
        [HELLO.byteLength + 1, 0],
        [0.5, 1],
        [Number.NaN, 1],
        [0, Number.MAX_SAFE_INTEGER],
      ] as const;
      for (const [offset, length] of outside) await assert.rejects(source.read(offset, length), RangeError);
      await source.close();
    }),
  );
}

function concurrencyTests(withStore: WithStore): void {
  test(
    'many writers of one blob all succeed',
    withStore(async (store) => {
      const parts = Array.from({ length: 20 }, (_, index) => Buffer.alloc(5000, index));
      const infos = await Promise.all(Array.from({ length: 8 }, () => store.write(streamOf(parts))));
      for (const info of infos) assert.deepEqual(info, infos[0]);
      assert.deepEqual(await store.readAll(Digest.of(Buffer.concat(parts)), NO_LIMIT), Buffer.concat(parts));
    }),
  );

  test(
    'a failing writer does not disturb one that succeeds',
    withStore(async (store) => {
      const [good, bad] = await Promise.allSettled([
        store.write(streamOf([HELLO])),
        store.write(streamOf([HELLO]), { digest: ABSENT }),
      ]);
      assert.equal(good.status, 'fulfilled');
      assert.equal(bad.status, 'rejected');
      assert.deepEqual(await store.readAll(Digest.of(HELLO), NO_LIMIT), HELLO);
    }),
  );

  test(
    'a blob is invisible until its stream has ended',
    withStore(async (store) => {
      let finish = () => {};
      const gate = new Promise<void>((resolve) => {
        finish = resolve;
      });
      async function* slow() {
        yield HELLO;
        await gate;
      }
      const writing = store.write(slow(), { digest: Digest.of(HELLO), sizeBytes: HELLO.byteLength });
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(await store.has(Digest.of(HELLO)), false);
      finish();
      await writing;
      assert.equal(await store.has(Digest.of(HELLO)), true);
    }),
  );
}

async function* streamOf(parts: readonly Uint8Array[]): AsyncIterable<Uint8Array> {
  for (const part of parts) {
    await new Promise((resolve) => setImmediate(resolve));
    yield part;
  }
}

function withCode(code: string) {
  return (thrown: unknown) => thrown instanceof FreeholdError && thrown.code === code;
}
