import type { Digest } from '../../core/base/digest.ts';
import type { EmbedRequest, GenerateRequest, LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';

/** Loaded at once; a further one takes the place of the one that has been idle longest. */
export const RESIDENT_MODELS_MAX = 3;

interface Resident {
  readonly model: Promise<LoadedModel>;
  /** Counts up with every use: the smallest is the least recently used. */
  usedAt: number;
  running: number;
}

/** Models that are loaded, by the digest of their manifest. Concurrent callers share one load. */
export class ResidentModels {
  readonly #residents = new Map<Digest, Resident>();
  #uses = 0;
  #isClosed = false;

  /** @throws whatever `load` throws; the next call tries again. CANCELLED when the signal aborts while it loads */
  async use(key: Digest, load: () => Promise<LoadedModel>, signal?: AbortSignal): Promise<LoadedModel> {
    if (this.#isClosed) throw new FreeholdError('CANCELLED', 'the model host is closed');
    signal?.throwIfAborted();
    const resident = this.#residents.get(key) ?? this.#begin(key, load);
    resident.usedAt = ++this.#uses;
    return abortable(resident.model, signal);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const residents = [...this.#residents.values()];
    this.#residents.clear();
    await Promise.all(residents.map((resident) => closeModel(resident)));
  }

  #begin(key: Digest, load: () => Promise<LoadedModel>): Resident {
    const resident: Resident = {
      model: this.#makeRoom()
        .then(load)
        .then((model) => this.#counted(key, model)),
      usedAt: 0,
      running: 0,
    };
    this.#residents.set(key, resident);
    resident.model.catch(() => {
      // A failed load is not kept: the cause may be gone at the next try.
      if (this.#residents.get(key) === resident) this.#residents.delete(key);
    });
    return resident;
  }

  async #makeRoom(): Promise<void> {
    const idle = [...this.#residents.entries()]
      .filter(([, resident]) => resident.running === 0)
      .sort(([, left], [, right]) => left.usedAt - right.usedAt);
    const excess = this.#residents.size - RESIDENT_MODELS_MAX;
    for (const [key, resident] of idle.slice(0, Math.max(0, excess))) {
      this.#residents.delete(key);
      await closeModel(resident);
    }
  }

  /** The model with its running requests counted, so that room is never made by closing a model at work. */
  #counted(key: Digest, model: LoadedModel): LoadedModel {
    const count = (change: 1 | -1) => {
      const resident = this.#residents.get(key);
      if (resident !== undefined) resident.running += change;
    };
    return {
      info: model.info,
      async *generate(request: GenerateRequest, signal?: AbortSignal) {
        count(1);
        try {
          yield* model.generate(request, signal);
        } finally {
          count(-1);
        }
      },
      async embed(request: EmbedRequest, signal?: AbortSignal) {
        count(1);
        try {
          return await model.embed(request, signal);
        } finally {
          count(-1);
        }
      },
      close: () => model.close(),
    };
  }
}

async function closeModel(resident: Resident): Promise<void> {
  const model = await resident.model.catch(() => undefined);
  await model?.close();
}

/** Waits for a shared load without cancelling it for the others. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
