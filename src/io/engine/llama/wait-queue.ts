import { FreeholdError } from '../../../core/base/errors.ts';

/** Held by whoever may work; idempotent. */
export type Leave = () => void;

export interface WaitQueueLimits {
  /** Work at once. */
  readonly slots: number;
  readonly waitingMax: number;
  /** Nobody waits longer; clients have given up by then. Absent: as long as it takes. */
  readonly waitMsMax?: number;
}

interface Waiting {
  readonly requester: string;
  readonly enter: () => void;
  readonly fail: (error: FreeholdError) => void;
}

/**
 * At most `slots` work at once and `waitingMax` wait. A free slot goes to whoever has the fewest at work, and among those
 * to the one who came first: with a single requester, first come, first served.
 */
export class WaitQueue {
  readonly #name: string;
  readonly #limits: WaitQueueLimits;
  #freeSlots: number;
  readonly #waiting = new Set<Waiting>();
  readonly #working = new Map<string, number>();
  #closedWith: FreeholdError | undefined;

  /** @param name of the model, for messages */
  constructor(name: string, limits: WaitQueueLimits) {
    this.#name = name;
    this.#limits = limits;
    this.#freeSlots = limits.slots;
  }

  get waitingCount(): number {
    return this.#waiting.size;
  }

  /**
   * Waits for a slot. Give it back with the function returned.
   * @param requester who asks; those who ask much wait for each other, not the others for them
   * @throws BUSY when too many wait or it waited too long, CANCELLED as soon as the signal aborts, whatever `close` was
   * called with
   */
  async enter(signal?: AbortSignal, requester = ''): Promise<Leave> {
    if (signal?.aborted === true) throw cancelled(signal);
    if (this.#closedWith !== undefined) throw this.#closedWith;
    if (this.#freeSlots > 0) {
      this.#freeSlots--;
      this.#count(requester, 1);
    } else {
      await this.#wait(signal, requester);
    }
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#count(requester, -1);
      this.#passOn();
    };
  }

  /** Everybody who waits, and who will come, fails with `error`. */
  close(error: FreeholdError): void {
    this.#closedWith ??= error;
    for (const waiting of [...this.#waiting]) waiting.fail(error);
  }

  #wait(signal: AbortSignal | undefined, requester: string): Promise<void> {
    const { waitingMax, waitMsMax } = this.#limits;
    if (this.#waiting.size >= waitingMax) {
      throw new FreeholdError('BUSY', `${this.#name}: ${this.#waiting.size} requests wait already`, {
        detail: { waiting: this.#waiting.size, waitingMax },
      });
    }
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#waiting.delete(waiting);
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiting: Waiting = {
        requester,
        enter: () => {
          settle();
          resolve();
        },
        fail: (error) => {
          settle();
          reject(error);
        },
      };
      const onAbort = (): void => waiting.fail(cancelled(signal));
      const timer =
        waitMsMax === undefined
          ? undefined
          : setTimeout(() => waiting.fail(this.#late(waitMsMax)), waitMsMax);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  #late(waitedMs: number): FreeholdError {
    const { slots } = this.#limits;
    return new FreeholdError(
      'BUSY',
      `${this.#name}: no turn within ${waitedMs / 1000} s, while ${slots} requests at a time are worked on and ${this.#waiting.size} wait`,
      { detail: { waitedMs, slots, waiting: this.#waiting.size } },
    );
  }

  #passOn(): void {
    const next = this.#next();
    if (next === undefined) {
      this.#freeSlots++;
      return;
    }
    this.#count(next.requester, 1);
    next.enter();
  }

  #next(): Waiting | undefined {
    let best: Waiting | undefined;
    for (const waiting of this.#waiting) {
      if (best === undefined || this.#workingFor(waiting) < this.#workingFor(best)) best = waiting;
    }
    return best;
  }

  #workingFor({ requester }: Waiting): number {
    return this.#working.get(requester) ?? 0;
  }

  #count(requester: string, change: number): void {
    const count = (this.#working.get(requester) ?? 0) + change;
    if (count === 0) this.#working.delete(requester);
    else this.#working.set(requester, count);
  }
}

/** What a caller gets whose signal aborted; its reason is the cause. */
export function cancelled(signal: AbortSignal | undefined): FreeholdError {
  return new FreeholdError('CANCELLED', 'the caller gave up', { cause: signal?.reason });
}
