import { unlessAborted } from '../../core/base/abort.ts';
import type { Digest } from '../../core/base/digest.ts';
import type { EmbedRequest, GenerateRequest, LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';

/** Loaded at once; a further one takes the place of the one that has been idle longest. While all work, it comes on top. */
export const RESIDENT_MODELS_MAX = 3;

interface Resident {
  readonly model: Promise<LoadedModel>;
  /** Counts up with every use: the smallest is the least recently used. */
  usedAt: number;
  /** Its load, while that lasts, and its requests. */
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
    // Others may wait for the same load.
    return unlessAborted(resident.model, signal);
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
        .then((model) => {
          resident.running--;
          return counted(resident, model);
        }),
      usedAt: 0,
      running: 1,
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
    // With the one for which room is made.
    const excess = this.#residents.size + 1 - RESIDENT_MODELS_MAX;
    for (const [key, resident] of idle.slice(0, Math.max(0, excess))) {
      this.#residents.delete(key);
      await closeModel(resident);
    }
  }
}

/** The model with its running requests counted, so that room is never made by closing a model at work. */
function counted(resident: Resident, model: LoadedModel): LoadedModel {
  return {
    info: model.info,
    async *generate(request: GenerateRequest, signal?: AbortSignal) {
      resident.running++;
      try {
        yield* model.generate(request, signal);
      } finally {
        resident.running--;
      }
    },
    async embed(request: EmbedRequest, signal?: AbortSignal) {
      resident.running++;
      try {
        return await model.embed(request, signal);
      } finally {
        resident.running--;
      }
    },
    close: () => model.close(),
  };
}

async function closeModel(resident: Resident): Promise<void> {
  const model = await resident.model.catch(() => undefined);
  await model?.close();
}
