import type { Clock } from '../../../core/base/clock.ts';
import { FreeholdError } from '../../../core/base/errors.ts';

/** So many deaths … */
export const CRASHES_MAX = 3;
/** … within this time mean that the next start would only fail again. */
export const CRASH_WINDOW_MS = 60_000;
/** Then nothing is started for so long. */
export const CRASH_PAUSE_MS = 30_000;

/** Stops a model whose process keeps dying from being started for every request. */
export class CrashGuard {
  readonly #name: string;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #deathsMs: number[] = [];

  constructor(name: string, clock: Pick<Clock, 'monotonicMs'>) {
    this.#name = name;
    this.#clock = clock;
  }

  recordDeath(): void {
    this.#deathsMs = [...this.#deathsMs, this.#clock.monotonicMs()].slice(-CRASHES_MAX);
  }

  /** @throws ENGINE_FAILED while the pause lasts, with the remaining time */
  requireStartAllowed(): void {
    const [first] = this.#deathsMs;
    const last = this.#deathsMs.at(-1);
    if (first === undefined || last === undefined || this.#deathsMs.length < CRASHES_MAX) return;
    if (last - first > CRASH_WINDOW_MS) return;
    const waitMs = last + CRASH_PAUSE_MS - this.#clock.monotonicMs();
    if (waitMs <= 0) return;
    const waitSeconds = Math.ceil(waitMs / 1000);
    throw new FreeholdError(
      'ENGINE_FAILED',
      `the engine process of ${this.#name} ended ${CRASHES_MAX} times within ${CRASH_WINDOW_MS / 1000} s; the next start is in ${waitSeconds} s`,
      { detail: { deaths: CRASHES_MAX, waitSeconds } },
    );
  }
}
