import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../../tests/fixtures/manual-clock.ts';
import { rateLimit } from './rate-limit.ts';

test('all takers together stay below the rate, however large their pieces', async () => {
  const clock = new ManualClock();
  const rate = rateLimit(1000, clock);
  const { signal } = new AbortController();
  let taken = 0;
  const take = async () => {
    for (let count = 0; count < 10; count++) {
      await rate.take(500, signal);
      taken += 500;
    }
  };
  const takers = [take(), take()];
  for (let stepMs = 0; stepMs < 12_000; stepMs += 100) {
    assert.ok(taken <= 250 + stepMs + 2 * 500, `${taken} bytes after ${stepMs} ms`);
    await clock.advance(100);
  }
  await Promise.all(takers);
  assert.equal(taken, 10_000);
});

test('a rest saves up no more than a quarter of a second, and who waits can be cancelled', async () => {
  const clock = new ManualClock();
  const rate = rateLimit(1000, clock);
  await clock.advance(60_000);
  const controller = new AbortController();
  await rate.take(250, controller.signal);
  const waiting = rate.take(1, controller.signal);
  assert.equal(clock.sleeperCount, 1);
  controller.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
});
