import { FreeholdError } from '../../core/base/errors.ts';

/** One item of one of several streams. */
export interface IndexedItem<Item> {
  readonly index: number;
  readonly item: Item;
}

export interface MergeOptions {
  /** Streams that run at once; each that ends makes room for the next. */
  readonly concurrentMax: number;
  readonly signal: AbortSignal;
}

type Step<Item> = { readonly index: number } & (
  | { readonly kind: 'item'; readonly item: Item }
  | { readonly kind: 'ended' }
  | { readonly kind: 'failed'; readonly thrown: unknown }
);

/**
 * Runs several streams at once and yields their items in the order in which they come. Of each stream one item is asked
 * for ahead, and the next only after the last was taken: whoever takes slowly slows them all. If one throws, or the
 * caller leaves, the signal of the others is aborted and they are waited for: none runs on behind this one's end.
 * @param begin each starts one stream, which must heed the signal that it is given
 * @throws what the first stream that fails has thrown
 */
export async function* mergeStreams<Item>(
  begin: readonly ((signal: AbortSignal) => AsyncIterable<Item>)[],
  { concurrentMax, signal }: MergeOptions,
): AsyncGenerator<IndexedItem<Item>, void, undefined> {
  const leaving = new AbortController();
  const either = AbortSignal.any([signal, leaving.signal]);
  const running = new Map<number, AsyncIterator<Item>>();
  const steps = new StepQueue<Step<Item>>();
  let begun = 0;

  function advance(index: number, iterator: AsyncIterator<Item>): void {
    iterator.next().then(
      (result) =>
        steps.push(
          result.done === true ? { index, kind: 'ended' } : { index, kind: 'item', item: result.value },
        ),
      (thrown: unknown) => steps.push({ index, kind: 'failed', thrown }),
    );
  }

  function beginNext(): void {
    const start = begin[begun];
    if (start === undefined) return;
    const iterator = start(either)[Symbol.asyncIterator]();
    running.set(begun, iterator);
    advance(begun, iterator);
    begun += 1;
  }

  try {
    for (let count = 0; count < Math.max(1, concurrentMax); count++) beginNext();
    while (running.size > 0) {
      const step = await steps.take();
      if (step.kind === 'item') {
        yield { index: step.index, item: step.item };
        const iterator = running.get(step.index);
        if (iterator !== undefined) advance(step.index, iterator);
        continue;
      }
      running.delete(step.index);
      if (step.kind === 'failed') throw step.thrown;
      beginNext();
    }
  } finally {
    leaving.abort(new FreeholdError('CANCELLED', 'the other choices of the request have ended'));
    await Promise.allSettled(Array.from(running.values(), (iterator) => iterator.return?.()));
  }
}

/** First in, first out, so that no stream waits behind a faster one; racing promises would prefer the first of them. */
class StepQueue<Step> {
  readonly #steps: Step[] = [];
  #waiting: ((step: Step) => void) | undefined;

  push(step: Step): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#steps.push(step);
    else waiting(step);
  }

  /** One caller at a time. */
  async take(): Promise<Step> {
    const step = this.#steps.shift();
    if (step !== undefined) return step;
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }
}
