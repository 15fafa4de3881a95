import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../core/base/clock.ts';

/** The machine's clock, for waiting in the background: a process that has nothing else to do ends all the same. */
export const backgroundClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (durationMs, signal) =>
    sleep(durationMs, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) }),
};

/** The same, for waiting on which work depends: the process stays. */
export const systemClock: Clock = {
  ...backgroundClock,
  sleep: (durationMs, signal) => sleep(durationMs, undefined, signal === undefined ? {} : { signal }),
};
