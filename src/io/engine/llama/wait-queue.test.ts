import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../../../core/base/errors.ts';
import { CRASH_PAUSE_MS, CRASH_WINDOW_MS, CrashGuard } from './crash-guard.ts';
import { WaitQueue } from './wait-queue.ts';

test('one at a time, first come first served', async () => {
  const queue = new WaitQueue('m', { slots: 1, waitingMax: 10 });
  const order: string[] = [];
  const work = async (name: string) => {
    const leave = await queue.enter();
    order.push(`${name} in`);
    await new Promise((resolve) => setImmediate(resolve));
    order.push(`${name} out`);
    leave();
    leave();
  };
  await Promise.all(['a', 'b', 'c'].map(work));
  assert.deepEqual(order, ['a in', 'a out', 'b in', 'b out', 'c in', 'c out']);
});

test('several slots', async () => {
  const queue = new WaitQueue('m', { slots: 2, waitingMax: 10 });
  const [first] = [await queue.enter(), await queue.enter()];
  let isIn = false;
  const third = queue.enter().then(() => {
    isIn = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isIn, false);
  first?.();
  await third;
});

test('the queue is bounded; who gives up leaves it at once', async () => {
  const queue = new WaitQueue('m', { slots: 1, waitingMax: 2 });
  const leave = await queue.enter();
  const abort = new AbortController();
  const second = queue.enter(abort.signal);
  const third = queue.enter();
  await assert.rejects(queue.enter(), { code: 'BUSY', detail: { waiting: 2, waitingMax: 2 } });
  abort.abort(new Error('bored'));
  await assert.rejects(second, { code: 'CANCELLED' });
  assert.equal(queue.waitingCount, 1);
  leave();
  (await third)();
  await assert.rejects(queue.enter(AbortSignal.abort()), { code: 'CANCELLED' });
  (await queue.enter())();
});

test('a closed queue fails those who wait and those who come', async () => {
  const queue = new WaitQueue('m', { slots: 1, waitingMax: 2 });
  await queue.enter();
  const second = queue.enter();
  queue.close(new FreeholdError('CANCELLED', 'closed'));
  await assert.rejects(second, { message: 'closed' });
  await assert.rejects(queue.enter(), { message: 'closed' });
});

test('three deaths within a minute pause the model for half a minute', () => {
  let nowMs = 0;
  const guard = new CrashGuard('m', { monotonicMs: () => nowMs });
  for (let death = 0; death < 3; death++) {
    guard.requireStartAllowed();
    guard.recordDeath();
    nowMs += 1000;
  }
  assert.throws(() => guard.requireStartAllowed(), {
    code: 'ENGINE_FAILED',
    detail: { deaths: 3, waitSeconds: 29 },
  });
  nowMs += CRASH_PAUSE_MS;
  guard.requireStartAllowed();
  guard.recordDeath();
  assert.throws(() => guard.requireStartAllowed(), { code: 'ENGINE_FAILED' });
});

test('deaths far apart pause nothing', () => {
  let nowMs = 0;
  const guard = new CrashGuard('m', { monotonicMs: () => nowMs });
  for (let death = 0; death < 10; death++) {
    guard.requireStartAllowed();
    guard.recordDeath();
    nowMs += CRASH_WINDOW_MS;
  }
});

test('who asks much waits for himself: a free slot goes to whoever has the fewest at work', async () => {
  const queue = new WaitQueue('m', { slots: 2, waitingMax: 10 });
  const served: string[] = [];
  const leaves: (() => void)[] = [];
  const ask = (requester: string) =>
    queue.enter(undefined, requester).then((leave) => {
      served.push(requester);
      leaves.push(leave);
    });
  const asked = ['a', 'a', 'a', 'a', 'b', 'c'].map(ask);
  for (let turn = 0; turn < asked.length; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    leaves.shift()?.();
  }
  await Promise.all(asked);
  // When both of a's are done, a has as few as c and came before.
  assert.deepEqual(served, ['a', 'a', 'b', 'a', 'c', 'a']);
});

test('nobody waits longer than the limit', async () => {
  const queue = new WaitQueue('m', { slots: 1, waitingMax: 10, waitMsMax: 20 });
  const leave = await queue.enter();
  await assert.rejects(queue.enter(), { code: 'BUSY', detail: { waitedMs: 20, slots: 1, waiting: 1 } });
  leave();
  (await queue.enter())();
});
