import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unlessAborted } from './abort.ts';

const never = () => new Promise<never>(() => {});

test('gives what the work gives, and its error', async () => {
  const { signal } = new AbortController();
  assert.equal(await unlessAborted(Promise.resolve(7), undefined), 7);
  assert.equal(await unlessAborted(Promise.resolve(7), signal), 7);
  await assert.rejects(unlessAborted(Promise.reject(new Error('work')), signal), /work/);
});

test('an abort before or during the wait throws the reason, or what the caller makes of it', async () => {
  const reason = new Error('reason');
  await assert.rejects(unlessAborted(Promise.resolve(7), AbortSignal.abort(reason)), reason);
  const controller = new AbortController();
  const waiting = unlessAborted(never(), controller.signal, () => new Error('mine'));
  controller.abort(reason);
  await assert.rejects(waiting, /mine/);
});

test('work that fails after its caller has left is no unhandled rejection', async (context) => {
  const unhandled = context.mock.fn();
  process.on('unhandledRejection', unhandled);
  context.after(() => process.off('unhandledRejection', unhandled));
  const work = Promise.withResolvers<never>();
  await assert.rejects(unlessAborted(work.promise, AbortSignal.abort(new Error('left'))), /left/);
  work.reject(new Error('late'));
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(unhandled.mock.callCount(), 0);
});
