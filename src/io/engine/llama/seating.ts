import type { NativeContext } from './native-context.ts';
import { commonPrefix, SequenceMemory } from './sequence-memory.ts';

/**
 * Copying the memory of a sequence moves the whole of it, however little it holds: about as much time as reading so many
 * tokens takes.
 */
const COPY_TOKENS_MIN = 128;
/** Waiting for another request that reads the same beginning pays from here on. */
const SHARE_TOKENS_MIN = 64;

/** What seating must know of a request. */
export interface Guest {
  readonly prompt: readonly number[];
  readonly adapter: number | undefined;
  readonly isReproducible: boolean;
}

export interface Seat {
  readonly memory: SequenceMemory;
  /** Leading tokens of the prompt that are there already. */
  readonly reused: number;
}

/** Gives each request the sequence of the context from which it can use most, without spoiling what others may need. */
export class Seating {
  readonly #context: SeatingContext;
  readonly #memories: SequenceMemory[] = [];
  readonly #usedAt = new Map<SequenceMemory, number>();

  constructor(context: SeatingContext) {
    this.#context = context;
    this.#extend();
  }

  /**
   * @param taken sequences of running requests
   * @param reading requests whose prompts are being read
   * @param now counts up with every step: the smallest is the least recently used
   * @returns undefined when it must wait: for a free sequence, or for one of `reading` that begins as it does
   * @throws what `NativeContext.grow` throws
   */
  find(
    guest: Guest,
    taken: readonly SequenceMemory[],
    reading: readonly Guest[],
    now: number,
  ): Seat | undefined {
    const best = mostOf(this.#memories, (memory) =>
      memory.reusable(guest.prompt, guest.adapter, guest.isReproducible),
    );
    const soon = Math.max(0, ...reading.map((other) => sharedTokens(guest, other)));
    if (soon >= best.count + SHARE_TOKENS_MIN) return undefined;
    const memory = this.#choose(best, taken);
    if (memory === undefined) return undefined;
    const isCopied = memory !== best.memory && best.count >= COPY_TOKENS_MIN;
    if (isCopied) memory.copyFrom(best.memory);
    this.#usedAt.set(memory, now);
    const reusable = memory.reusable(guest.prompt, guest.adapter, guest.isReproducible);
    return { memory, reused: memory.keep(reusable, guest.adapter) };
  }

  /** Nothing is remembered any more. */
  forget(): void {
    for (const memory of this.#memories) memory.keep(0, undefined);
  }

  /** The sequence to be used; the context grows rather than that something worth keeping is lost. */
  #choose(
    best: { readonly memory: SequenceMemory; readonly count: number },
    taken: readonly SequenceMemory[],
  ): SequenceMemory | undefined {
    // A long conversation is not cut down to a beginning that happens to be the same.
    if (!taken.includes(best.memory) && 2 * best.count >= best.memory.tokenCount) return best.memory;
    const oldest = this.#leastRecentlyUsed(taken);
    if (oldest !== undefined && oldest.tokenCount < COPY_TOKENS_MIN) return oldest;
    if (this.#context.sequences === this.#context.sequencesMax) return oldest;
    this.#context.grow();
    this.#extend();
    return this.#leastRecentlyUsed(taken);
  }

  #leastRecentlyUsed(taken: readonly SequenceMemory[]): SequenceMemory | undefined {
    let oldest: SequenceMemory | undefined;
    for (const memory of this.#memories) {
      if (taken.includes(memory)) continue;
      if (oldest === undefined || this.#age(memory) < this.#age(oldest)) oldest = memory;
    }
    return oldest;
  }

  #extend(): void {
    while (this.#memories.length < this.#context.sequences) {
      this.#memories.push(new SequenceMemory(this.#context, this.#memories.length));
    }
  }

  /** Sequences that were never used come first. */
  #age(memory: SequenceMemory): number {
    return this.#usedAt.get(memory) ?? -1;
  }
}

type SeatingContext = Pick<NativeContext, 'sequences' | 'sequencesMax' | 'grow' | 'trim' | 'copy'>;

function mostOf(
  memories: readonly SequenceMemory[],
  count: (memory: SequenceMemory) => number,
): { readonly memory: SequenceMemory; readonly count: number } {
  const counted = memories.map((memory) => ({ memory, count: count(memory) }));
  return counted.reduce((best, next) => (next.count > best.count ? next : best));
}

/** What the one can use of what the other reads. */
function sharedTokens(guest: Guest, other: Guest): number {
  if (guest.adapter !== other.adapter) return 0;
  return commonPrefix(guest.prompt, other.prompt, Math.min(guest.prompt.length - 2, other.prompt.length));
}
