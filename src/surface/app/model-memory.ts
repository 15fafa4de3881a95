import type { LoadedModel } from '../../core/base/engine-port.ts';
import { readGguf } from '../../core/format/gguf/gguf-reader.ts';
import type { GgufFile } from '../../core/format/gguf/gguf-types.ts';
import {
  CELLS_STEP,
  defaultContextTokens,
  estimateMemory,
  type MemoryEstimate,
  type MemoryFacts,
  memoryFacts,
  PARALLEL_REQUESTS_DEFAULT,
} from '../../core/format/gguf/memory-estimate.ts';
import type { PackageFile } from '../../core/format/package-descriptor.ts';
import type { Store } from '../../io/store/store.ts';
import type { MemoryReading } from './machine-memory.ts';
import { memoryRefusal } from './memory-refusal.ts';
import type { PreparedModel } from './resident-models.ts';

/** Of the memory that this process may use, what models take together: the rest is for everything else that runs. */
export const MEMORY_SHARE = 0.7;
/** What models may take together when nobody says how much. */
export function defaultBudget({ limitBytes }: Pick<MemoryReading, 'limitBytes'>): number {
  return Math.floor(limitBytes * MEMORY_SHARE);
}

/** Models of one home whose facts are kept; a header is read in 10 to 40 ms. */
const KEPT_FACTS_MAX = 64;
/** No question fits into less. */
const FITTING_CONTEXT_TOKENS_MIN = 512;

/** What decides about the memory of weights in the store, read from their headers and kept by digest. */
export class StoredModelFacts {
  readonly #blobs: Store['blobs'];
  readonly #kept = new Map<string, Promise<MemoryFacts>>();

  constructor(blobs: Store['blobs']) {
    this.#blobs = blobs;
  }

  /**
   * The bytes are not verified: whoever refuses or loads a model because of this verifies them first.
   * @throws GGUF_INVALID, GGUF_LIMIT, NOT_FOUND
   */
  read(weights: readonly PackageFile[]): Promise<MemoryFacts> {
    const key = keyOf(weights);
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const reading = this.#readHeaders(weights);
    this.#kept.set(key, reading);
    reading.catch(() => this.#kept.delete(key));
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_FACTS_MAX && oldest !== undefined) this.#kept.delete(oldest);
    return reading;
  }

  /** The bytes turned out to be others than they should be. */
  forget(weights: readonly PackageFile[]): void {
    this.#kept.delete(keyOf(weights));
  }

  async #readHeaders(weights: readonly PackageFile[]): Promise<MemoryFacts> {
    const headers: GgufFile[] = [];
    for (const { digest, path } of weights) {
      const blob = await this.#blobs.open(digest);
      try {
        headers.push(await readGguf(blob, path));
      } finally {
        await blob.close();
      }
    }
    return memoryFacts(headers);
  }
}

const keyOf = (weights: readonly PackageFile[]) => weights.map(({ digest }) => digest).join(' ');

/** What a model is to be loaded with, and what is known of it. */
export interface LoadWish {
  readonly name: string;
  readonly facts: MemoryFacts;
  readonly weightsBytes: number;
  readonly adapterBytes: number;
  /** Absent: the model's own, at most the default. */
  readonly contextTokens?: number | undefined;
  /** Absent: the default, or fewer where that does not fit. */
  readonly parallelRequests?: number | undefined;
  readonly smallerVariant?: string | undefined;
  /** Before a refusal, since the facts were read from bytes that nobody had verified. @throws DIGEST_MISMATCH, … */
  verify(): Promise<void>;
  load(shape: { readonly contextTokens: number; readonly parallelRequests: number }): Promise<LoadedModel>;
}

/** A load with its memory estimated: how many requests at once it may be loaded for, and the refusal when it may not. */
export function prepareModel(wish: LoadWish): PreparedModel {
  const contextTokens = contextOf(wish);
  const parallelChoices = parallelChoicesOf(wish);
  const least = Math.min(...parallelChoices);
  return {
    parallelChoices,
    neededBytes: (parallelRequests) => estimateWish(wish, contextTokens, parallelRequests).totalBytes,
    load: (parallelRequests) => wish.load({ contextTokens, parallelRequests }),
    async refuse(shortage) {
      await wish.verify();
      const heldBytes = shortage.holders.reduce((sum, { bytes }) => sum + bytes, 0);
      const roomBytes =
        shortage.kind === 'machine' ? shortage.availableBytes : shortage.budgetBytes - heldBytes;
      return memoryRefusal(
        {
          name: wish.name,
          estimate: estimateWish(wish, contextTokens, least),
          contextTokens,
          parallelRequests: least,
          fittingContextTokens: fittingContext(wish, contextTokens, least, roomBytes),
          smallerVariant: wish.smallerVariant,
        },
        shortage,
      );
    },
  };
}

function contextOf({ facts, contextTokens }: LoadWish): number {
  if (contextTokens === undefined) return defaultContextTokens(facts);
  return Math.min(contextTokens, facts.contextTokens ?? contextTokens);
}

/** Embedding models work on one input at a time. */
function parallelChoicesOf({ facts, parallelRequests }: LoadWish): number[] {
  if (facts.purpose === 'embed') return [1];
  if (parallelRequests !== undefined) return [parallelRequests];
  return Array.from({ length: PARALLEL_REQUESTS_DEFAULT }, (_, index) => PARALLEL_REQUESTS_DEFAULT - index);
}

function estimateWish(wish: LoadWish, contextTokens: number, parallelRequests: number): MemoryEstimate {
  const { facts, weightsBytes, adapterBytes } = wish;
  return estimateMemory(facts, { weightsBytes, adapterBytes, contextTokens, parallelRequests });
}

/** The longest context that fits, in round numbers; undefined when none does that is worth having. */
function fittingContext(
  wish: LoadWish,
  contextTokens: number,
  parallelRequests: number,
  roomBytes: number,
): number | undefined {
  let fitting = 0;
  for (let low = 0, high = Math.floor(contextTokens / CELLS_STEP); low <= high; ) {
    const middle = Math.floor((low + high) / 2);
    const tokens = middle * CELLS_STEP;
    if (estimateWish(wish, tokens, parallelRequests).totalBytes <= roomBytes) {
      fitting = tokens;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  const round = fitting >= 2048 ? 1024 : CELLS_STEP;
  const rounded = Math.floor(fitting / round) * round;
  return rounded >= FITTING_CONTEXT_TOKENS_MIN ? rounded : undefined;
}
