import type { Clock } from '../../core/base/clock.ts';

/** Shares so many bytes per second among all who take. */
export interface RateLimit {
  /** Waits until `bytes` more may move. @throws the signal's reason */
  take(bytes: number, signal: AbortSignal): Promise<void>;
}

/** What may move at once after a rest: smooth enough for a line that others use too. */
const BURST_SECONDS = 0.25;

/**
 * A bucket of tokens that may go into debt: who takes more than there is waits until it is paid, and so does everybody
 * after. Thus any piece may be larger than the bucket.
 */
export function rateLimit(bytesPerSecond: number, clock: Clock): RateLimit {
  const burstBytes = bytesPerSecond * BURST_SECONDS;
  let availableBytes = burstBytes;
  let filledMs = clock.monotonicMs();
  return {
    async take(bytes, signal) {
      const nowMs = clock.monotonicMs();
      const refilled = availableBytes + ((nowMs - filledMs) / 1000) * bytesPerSecond;
      availableBytes = Math.min(burstBytes, refilled) - bytes;
      filledMs = nowMs;
      if (availableBytes < 0) await clock.sleep((-availableBytes / bytesPerSecond) * 1000, signal);
    },
  };
}
