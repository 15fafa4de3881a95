import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ByteSource, collectBytes, memoryByteSource, streamBytes } from './byte-source.ts';

const BYTES = Buffer.from(Uint32Array.from({ length: 800_000 }, (_, index) => index).buffer);
const anySignal = () => new AbortController().signal;

/** Reads into the memory that it is given, as a file does. */
function reusingSource(onRead: (offset: number) => unknown = () => {}): ByteSource {
  return {
    sizeBytes: BYTES.length,
    async read(offset, length, into) {
      assert.ok(into !== undefined && into.length >= length);
      into.fill(0);
      await sleep(1);
      await onRead(offset);
      into.set(BYTES.subarray(offset, offset + length));
      return into.subarray(0, length);
    },
  };
}

test('a stream gives exactly its range, in order, from two buffers; who keeps a piece copies it', async () => {
  for (const [start, end] of [
    [0, BYTES.length],
    [5, BYTES.length - 7],
    [1 << 20, 2 << 20],
    [7, 8],
    [9, 9],
  ] as const) {
    for (const source of [reusingSource(), memoryByteSource(BYTES)]) {
      const bytes = await collectBytes(streamBytes(source, start, end, anySignal()), BYTES.length);
      assert.ok(bytes.equals(BYTES.subarray(start, end)), `${start} to ${end}`);
    }
  }
  const memories = new Set<ArrayBufferLike>();
  for await (const piece of streamBytes(reusingSource(), 0, BYTES.length, anySignal())) {
    const copy = Buffer.from(piece);
    await sleep(5);
    assert.ok(copy.equals(piece), 'a piece stays as it was until the next one is asked for');
    memories.add(piece.buffer);
  }
  assert.equal(memories.size, 2);
});

test('a stream throws what its source throws, at its turn, and the reason of a signal', async () => {
  const failure = new Error('the disk broke');
  const failing = reusingSource((offset) => {
    if (offset >= 2 << 20) throw failure;
  });
  let doneBytes = 0;
  await assert.rejects(
    async () => {
      for await (const piece of streamBytes(failing, 0, BYTES.length, anySignal())) doneBytes += piece.length;
    },
    (error) => error === failure,
  );
  assert.equal(doneBytes, 2 << 20);
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const _ of streamBytes(reusingSource(), 0, BYTES.length, controller.signal)) {
      controller.abort(failure);
    }
  }, failure);
});

test('who stops early waits for the read ahead, so that the source can be closed', async () => {
  const plain = reusingSource(() => sleep(30));
  let open = 0;
  const source: ByteSource = {
    ...plain,
    async read(...place) {
      open++;
      const bytes = await plain.read(...place);
      open--;
      return bytes;
    },
  };
  for await (const _ of streamBytes(source, 0, BYTES.length, anySignal())) {
    assert.equal(open, 1, 'the next piece is read while this one is used');
    break;
  }
  assert.equal(open, 0);
});
