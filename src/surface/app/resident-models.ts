import { unlessAborted } from '../../core/base/abort.ts';
import type { Clock } from '../../core/base/clock.ts';
import type { EmbedRequest, GenerateRequest, LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import type { Log } from '../../core/base/log.ts';
import type { ReadMemory } from './machine-memory.ts';
import type { MemoryHolder, MemoryShortage } from './memory-refusal.ts';

/**
 * Who asks for a model uses it next; until then it is not unloaded. A server needs microseconds; whoever needs longer
 * finds the model loaded, or waits for it to be loaded again.
 */
const HANDOVER_MS = 1000;

export interface ResidencyOptions {
  /** What all loaded models may need together, by estimate. */
  readonly budgetBytes: () => Promise<number>;
  readonly readMemory: ReadMemory;
  /** How long a model stays without being used; infinite: until room is needed. */
  readonly keepAliveMs: number;
  readonly clock: Pick<Clock, 'sleep'>;
  readonly log: Log;
}

/** One model that may be asked for. */
export interface ModelOrder {
  /** What is the same model has the same key. */
  readonly key: string;
  readonly name: string;
  /** Everything before memory is taken: verification, and reading what decides about memory. */
  prepare(): Promise<PreparedModel>;
}

export interface PreparedModel {
  /** How many requests it could work on at once, the most wanted first; at least one. */
  readonly parallelChoices: readonly number[];
  neededBytes(parallelRequests: number): number;
  load(parallelRequests: number): Promise<LoadedModel>;
  /** The error to throw when there is no room. */
  refuse(shortage: MemoryShortage): Promise<unknown>;
}

interface Resident {
  readonly key: string;
  readonly name: string;
  model: Promise<LoadedModel>;
  isLoaded: boolean;
  /** Its part of the budget, from before its load until it is gone. */
  heldBytes: number;
  /** Requests that run or wait for it. */
  users: number;
  /** Counts up with every use: the smallest is the least recently used. */
  usedAt: number;
  /** Set once it is being closed: resolves when its memory is free. */
  gone: Promise<void> | undefined;
  idleTimer: AbortController | undefined;
}

/** A model for the length of one request; it is not unloaded before `release`. */
interface Lease {
  readonly model: LoadedModel;
  /** Idempotent. */
  release(): void;
}

/**
 * Models that are loaded, within a budget of memory. Concurrent callers share one load. Whoever needs room takes it
 * from models that are idle, the least recently used first; a model at work, and one that is pinned, is never closed.
 * A request that comes while its model is being closed waits and loads it again.
 */
export class ResidentModels {
  readonly #options: ResidencyOptions;
  readonly #residents = new Map<string, Resident>();
  #isClosed = false;
  #pinned: ReadonlySet<string> = new Set();
  #uses = 0;
  /** Room is made for one model after the other, so that no two count the same free memory. */
  #roomTurn: Promise<unknown> = Promise.resolve();

  constructor(options: ResidencyOptions) {
    this.#options = options;
  }

  /**
   * The model, loaded. What is returned stays usable: each request loads it again if it was unloaded since.
   * @throws what preparing and loading throw; the next call tries again. BUSY or OUT_OF_MEMORY when there is no
   *   room; CANCELLED when the signal aborts, and when closed
   */
  async use(order: ModelOrder, signal?: AbortSignal): Promise<LoadedModel> {
    const lease = await this.#lease(order, signal);
    const handover = new AbortController();
    this.#after(HANDOVER_MS, handover.signal, lease.release);
    return this.#view(order, lease.model, () => {
      handover.abort();
      lease.release();
    });
  }

  /** Keys of models that stay loaded once they are. */
  pin(keys: ReadonlySet<string>): void {
    const before = this.#pinned;
    this.#pinned = keys;
    for (const resident of this.#residents.values()) {
      // The time of others goes on: this is called often.
      if (before.has(resident.key) !== keys.has(resident.key)) this.#awaitIdleness(resident);
    }
  }

  /** Who holds how much of the budget. */
  holders(): MemoryHolder[] {
    return [...this.#residents.values()]
      .filter(({ heldBytes }) => heldBytes > 0)
      .map((resident) => ({
        name: resident.name,
        bytes: resident.heldBytes,
        state: this.#stateOf(resident),
      }));
  }

  /** Ends all models; running requests fail with CANCELLED. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#residents.values()].map((resident) => this.#remove(resident)));
  }

  async #lease(order: ModelOrder, signal: AbortSignal | undefined): Promise<Lease> {
    for (;;) {
      this.#requireOpen();
      if (signal?.aborted === true) throw cancelled(signal);
      const found = this.#residents.get(order.key);
      if (found?.gone !== undefined) {
        await unlessAborted(found.gone, signal, cancelled);
        continue;
      }
      const resident = found ?? this.#begin(order);
      // In the same step as the look at `gone`: from here on it is not closed.
      const release = this.#enter(resident);
      try {
        // Others may wait for the same load.
        return { model: await unlessAborted(resident.model, signal, cancelled), release };
      } catch (error) {
        release();
        throw error;
      }
    }
  }

  #enter(resident: Resident): () => void {
    resident.users++;
    resident.usedAt = ++this.#uses;
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      resident.users--;
      this.#awaitIdleness(resident);
    };
  }

  #view(order: ModelOrder, first: LoadedModel, onFirstRequest: () => void): LoadedModel {
    let current = first;
    const lease = async (signal: AbortSignal | undefined): Promise<Lease> => {
      try {
        const entered = await this.#lease(order, signal);
        current = entered.model;
        return entered;
      } finally {
        onFirstRequest();
      }
    };
    return {
      get info() {
        return current.info;
      },
      async *generate(request: GenerateRequest, signal?: AbortSignal) {
        const { model, release } = await lease(signal);
        try {
          yield* model.generate(request, signal);
        } finally {
          release();
        }
      },
      async embed(request: EmbedRequest, signal?: AbortSignal) {
        const { model, release } = await lease(signal);
        try {
          return await model.embed(request, signal);
        } finally {
          release();
        }
      },
      // The models are ours to close: others use them.
      close: async () => onFirstRequest(),
    };
  }

  #begin(order: ModelOrder): Resident {
    const resident: Resident = {
      key: order.key,
      name: order.name,
      model: Promise.reject(new Error('not begun')),
      isLoaded: false,
      heldBytes: 0,
      users: 0,
      usedAt: 0,
      gone: undefined,
      idleTimer: undefined,
    };
    resident.model.catch(() => {});
    resident.model = this.#load(resident, order);
    resident.model.catch(() => {});
    this.#residents.set(order.key, resident);
    return resident;
  }

  async #load(resident: Resident, order: ModelOrder): Promise<LoadedModel> {
    try {
      const prepared = await order.prepare();
      const parallelRequests = await this.#inTurn(() => this.#makeRoom(resident, prepared));
      const model = await prepared.load(parallelRequests);
      resident.isLoaded = true;
      // Everybody who asked for it may have left.
      this.#awaitIdleness(resident);
      return model;
    } catch (error) {
      // A failed load is not kept: the cause may be gone at the next try.
      this.#forget(resident);
      throw error;
    }
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new FreeholdError('CANCELLED', 'the model host is closed');
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#roomTurn.then(work);
    this.#roomTurn = turn.catch(() => {});
    return turn;
  }

  /**
   * Reserves memory for a model, after closing idle ones as far as necessary.
   * @returns the requests that it may work on at once: fewer than wanted rather than none
   */
  async #makeRoom(resident: Resident, prepared: PreparedModel): Promise<number> {
    for (;;) {
      // Before the wait: once closed, models that have still to be loaded are among those that go.
      this.#requireOpen();
      await Promise.all([...this.#residents.values()].map(({ gone }) => gone));
      this.#requireOpen();
      const { availableBytes } = await this.#options.readMemory();
      const budgetBytes = await this.#options.budgetBytes();
      const roomBytes = Math.min(
        budgetBytes - this.#held(() => true),
        // What is still being loaded is not missing from the machine yet.
        availableBytes - this.#held((other) => !other.isLoaded),
      );
      const idle = this.#idleOnes();
      const idleBytes = this.#held((other) => idle.includes(other));
      const wanted = prepared.parallelChoices[0] ?? 1;
      const chosen = prepared.parallelChoices.find(
        (parallel) => prepared.neededBytes(parallel) <= roomBytes + idleBytes,
      );
      if (chosen === undefined) {
        throw await prepared.refuse(this.#shortage(prepared, budgetBytes, availableBytes));
      }
      if (prepared.neededBytes(chosen) <= roomBytes) {
        resident.heldBytes = prepared.neededBytes(chosen);
        if (chosen < wanted) this.#logLowered(resident, wanted, chosen, budgetBytes);
        return chosen;
      }
      const [least] = idle;
      if (least !== undefined) await this.#unload(least, 'room');
    }
  }

  #shortage(prepared: PreparedModel, budgetBytes: number, availableBytes: number): MemoryShortage {
    const least = Math.min(...prepared.parallelChoices.map((parallel) => prepared.neededBytes(parallel)));
    const removable = (other: Resident) => !this.#pinned.has(other.key);
    const stays = this.#held((other) => !removable(other));
    const comes = this.#held(removable);
    const kind =
      least > budgetBytes - stays
        ? 'never'
        : comes > 0 && least <= availableBytes + comes
          ? 'held'
          : 'machine';
    const inTheWay = this.holders().filter(({ state }) => state === 'pinned' || kind !== 'never');
    return { kind, budgetBytes, availableBytes, holders: inTheWay.filter(({ state }) => state !== 'idle') };
  }

  #held(counts: (resident: Resident) => boolean): number {
    let bytes = 0;
    for (const resident of this.#residents.values()) if (counts(resident)) bytes += resident.heldBytes;
    return bytes;
  }

  /** Those that may be closed, the least recently used first. */
  #idleOnes(): Resident[] {
    return [...this.#residents.values()]
      .filter((resident) => this.#isIdle(resident))
      .sort((left, right) => left.usedAt - right.usedAt);
  }

  #isIdle(resident: Resident): boolean {
    const { isLoaded, users, gone, key } = resident;
    return isLoaded && users === 0 && gone === undefined && !this.#pinned.has(key);
  }

  #stateOf(resident: Resident): MemoryHolder['state'] {
    if (!resident.isLoaded) return 'loading';
    if (this.#pinned.has(resident.key)) return 'pinned';
    return resident.users > 0 ? 'at work' : 'idle';
  }

  #awaitIdleness(resident: Resident): void {
    resident.idleTimer?.abort();
    const { keepAliveMs } = this.#options;
    if (!this.#isIdle(resident) || keepAliveMs === Number.POSITIVE_INFINITY) return;
    resident.idleTimer = new AbortController();
    this.#after(keepAliveMs, resident.idleTimer.signal, () => {
      if (this.#isIdle(resident)) void this.#unload(resident, 'idle');
    });
  }

  #after(durationMs: number, signal: AbortSignal, act: () => void): void {
    this.#options.clock.sleep(durationMs, signal).then(act, () => {});
  }

  async #unload(resident: Resident, reason: 'idle' | 'room'): Promise<void> {
    const freedBytes = resident.heldBytes;
    await this.#remove(resident);
    this.#options.log({
      level: 'info',
      event: 'model-unloaded',
      fields: { model: resident.name, reason, freedBytes },
    });
  }

  /** Closes it, once its load has ended; whoever asks for it meanwhile waits for that. */
  #remove(resident: Resident): Promise<void> {
    resident.idleTimer?.abort();
    resident.gone ??= this.#closeModel(resident).then(() => this.#forget(resident));
    return resident.gone;
  }

  async #closeModel(resident: Resident): Promise<void> {
    const model = await resident.model.catch(() => undefined);
    await model?.close().catch((thrown: unknown) => {
      const { code, message } = toFreeholdError(thrown);
      const fields = { model: resident.name, code, message };
      this.#options.log({ level: 'error', event: 'model-close-failed', fields });
    });
  }

  #forget(resident: Resident): void {
    resident.heldBytes = 0;
    if (this.#residents.get(resident.key) === resident) this.#residents.delete(resident.key);
  }

  #logLowered(resident: Resident, wanted: number, parallelRequests: number, budgetBytes: number): void {
    this.#options.log({
      level: 'warning',
      event: 'parallel-requests-lowered',
      fields: {
        model: resident.name,
        wanted,
        parallelRequests,
        neededBytes: resident.heldBytes,
        budgetBytes,
      },
    });
  }
}

function cancelled({ reason }: AbortSignal): FreeholdError {
  if (reason instanceof FreeholdError) return reason;
  return new FreeholdError('CANCELLED', 'the request was cancelled', { cause: reason });
}
