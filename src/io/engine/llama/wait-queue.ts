import { FreeholdError } from '../../../core/base/errors.ts';

/** Held by whoever may work; idempotent. */
export type Leave = () => void;

interface Waiting {
  readonly enter: () => void;
  readonly fail: (error: FreeholdError) => void;
}

/** First come, first served: at most `slots` work at once and `waitingMax` wait. */
export class WaitQueue {
  readonly #name: string;
  readonly #waitingMax: number;
  #freeSlots: number;
  readonly #waiting = new Set<Waiting>();
  #closedWith: FreeholdError | undefined;

  /** @param name of the model, for messages */
  constructor(name: string, slots: number, waitingMax: number) {
    this.#name = name;
    this.#freeSlots = slots;
    this.#waitingMax = waitingMax;
  }

  get waitingCount(): number {
    return this.#waiting.size;
  }

  /**
   * Waits for a slot. Give it back with the function returned.
   * @throws BUSY when too many wait, CANCELLED as soon as the signal aborts, whatever `close` was called with
   */
  async enter(signal?: AbortSignal): Promise<Leave> {
    if (signal?.aborted === true) throw cancelled(signal);
    if (this.#closedWith !== undefined) throw this.#closedWith;
    if (this.#freeSlots > 0) this.#freeSlots--;
    else await this.#wait(signal);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#passOn();
    };
  }

  /** Everybody who waits, and who will come, fails with `error`. */
  close(error: FreeholdError): void {
    this.#closedWith ??= error;
    for (const waiting of [...this.#waiting]) waiting.fail(error);
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.size >= this.#waitingMax) {
      throw new FreeholdError('BUSY', `${this.#name}: ${this.#waiting.size} requests wait already`, {
        detail: { waiting: this.#waiting.size, waitingMax: this.#waitingMax },
      });
    }
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#waiting.delete(waiting);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiting: Waiting = {
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
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  #passOn(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#freeSlots++;
    else next.enter();
  }
}

/** What a caller gets whose signal aborted; its reason is the cause. */
export function cancelled(signal: AbortSignal | undefined): FreeholdError {
  return new FreeholdError('CANCELLED', 'the caller gave up', { cause: signal?.reason });
}
