import type { Clock } from '../../core/base/clock.ts';
import { FreeholdError } from '../../core/base/errors.ts';

/** Proxies and clients give up on silence after 30 to 60 s; a long prompt can take longer to evaluate. */
export const PING_INTERVAL_MS = 15_000;
/** A client that takes nothing for so long holds an engine that others wait for. */
export const CLIENT_STALL_MS = 60_000;

export interface EventStreamOptions {
  /** Complete `data: …` events. An empty string sends nothing, but shows that the work has begun. */
  readonly frames: AsyncIterable<string>;
  /** The event that tells the client of a failure after the headers were sent. */
  readonly encodeFailure: (thrown: unknown) => string;
  readonly clock: Clock;
  /** Ends the work behind `frames`: the client is gone or takes nothing. */
  readonly abandon: (reason: FreeholdError) => void;
}

/** One server-sent event with a JSON payload. */
export function encodeEvent(payload: object): string {
  return `data: ${JSON.stringify(payload)}\n\n`;
}

type Outcome =
  | { readonly kind: 'frame'; readonly text: string }
  | { readonly kind: 'ended' }
  | { readonly kind: 'failed'; readonly thrown: unknown };

/**
 * A body of server-sent events: one chunk for each event, a comment where nothing is sent for 15 seconds.
 *
 * Waits for the first frame, so that a failure before it is thrown here and becomes an HTTP status.
 */
export async function openEventStream(options: EventStreamOptions): Promise<ReadableStream<Uint8Array>> {
  const { clock, abandon, encodeFailure } = options;
  const iterator = options.frames[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const first = await iterator.next();
  let next: Promise<Outcome> | undefined = Promise.resolve(toOutcome(first));
  let stall = new AbortController();
  let isCancelled = false;

  /** The text to send, and whether it is the last. */
  async function advance(): Promise<{ text: string; isLast: boolean }> {
    for (;;) {
      next ??= iterator.next().then(toOutcome, (thrown: unknown) => ({ kind: 'failed', thrown }));
      const outcome = await orPing(next, clock);
      if (outcome === 'ping') return { text: ': ping\n\n', isLast: false };
      if (outcome.kind === 'failed') return { text: encodeFailure(outcome.thrown), isLast: true };
      if (outcome.kind === 'ended') return { text: '', isLast: true };
      next = undefined;
      if (outcome.text !== '') return { text: outcome.text, isLast: false };
    }
  }

  function watchForStall(): void {
    stall = new AbortController();
    clock.sleep(CLIENT_STALL_MS, stall.signal).then(
      () => abandon(new FreeholdError('CANCELLED', `the client took nothing for ${CLIENT_STALL_MS} ms`)),
      () => {},
    );
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        stall.abort();
        const { text, isLast } = await advance();
        if (isCancelled) return;
        if (text !== '') controller.enqueue(encoder.encode(text));
        if (isLast) controller.close();
        else watchForStall();
      },
      cancel() {
        isCancelled = true;
        stall.abort();
        abandon(new FreeholdError('CANCELLED', 'the client hung up'));
        // Not awaited: a generator that is inside an await returns only after it.
        iterator.return?.().then(undefined, () => {});
      },
    },
    { highWaterMark: 0 },
  );
}

function toOutcome(result: IteratorResult<string>): Outcome {
  return result.done === true ? { kind: 'ended' } : { kind: 'frame', text: result.value };
}

async function orPing(next: Promise<Outcome>, clock: Clock): Promise<Outcome | 'ping'> {
  const timer = new AbortController();
  const ping = clock.sleep(PING_INTERVAL_MS, timer.signal).then(
    () => 'ping' as const,
    // Aborted below, when nobody looks at it any more.
    () => 'ping' as const,
  );
  try {
    return await Promise.race([next, ping]);
  } finally {
    timer.abort();
  }
}
