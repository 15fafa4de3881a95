import type { Clock } from '../../core/base/clock.ts';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import type { Log } from '../../core/base/log.ts';

/** After a failed load: it hashes and maps gigabytes, and its cause seldom goes away sooner. */
const RETRY_MS = 30_000;

export interface PinnedModelsOptions {
  readonly clock: Pick<Clock, 'sleep'>;
  readonly log: Log;
  /** Loads the model with this name, or finds it loaded. */
  load(name: string): Promise<unknown>;
}

/** Models that are to be loaded from the start on. What fails is tried again. */
export class PinnedModels {
  readonly #options: PinnedModelsOptions;
  /** Not loaded yet, with the reason once there is one. */
  readonly #missing: Map<string, FreeholdError | undefined>;
  readonly #stopped = new AbortController();
  #isStarted = false;

  constructor(names: readonly string[], options: PinnedModelsOptions) {
    this.#options = options;
    this.#missing = new Map(names.map((name) => [name, undefined]));
  }

  /** Begins to load them, one after the other; returns at once. */
  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    void this.#loadAll();
  }

  stop(): void {
    this.#stopped.abort();
  }

  /** @throws BUSY while the first load lasts, or what the last one failed with, naming the model */
  requireLoaded(): void {
    const [first] = this.#missing;
    if (first === undefined) return;
    const [name, reason] = first;
    if (reason === undefined) throw new FreeholdError('BUSY', `the pinned model ${name} is not loaded yet`);
    throw new FreeholdError(reason.code, `the pinned model ${name} could not be loaded: ${reason.message}`, {
      hint: reason.hint,
      detail: reason.detail,
      cause: reason,
    });
  }

  async #loadAll(): Promise<void> {
    const { signal } = this.#stopped;
    while (this.#missing.size > 0 && !signal.aborted) {
      for (const name of [...this.#missing.keys()]) {
        if (!signal.aborted) await this.#load(name);
      }
      if (this.#missing.size > 0) await this.#options.clock.sleep(RETRY_MS, signal).catch(() => {});
    }
  }

  async #load(name: string): Promise<void> {
    const { log, load } = this.#options;
    try {
      await load(name);
      this.#missing.delete(name);
      log({ level: 'info', event: 'pinned-model-loaded', fields: { model: name } });
    } catch (thrown) {
      const error = toFreeholdError(thrown);
      if (this.#stopped.signal.aborted) return;
      this.#missing.set(name, error);
      const fields = { model: name, code: error.code, message: error.message, hint: error.hint };
      log({ level: 'error', event: 'pinned-model-failed', fields });
    }
  }
}
