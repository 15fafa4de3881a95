import { collectBytes } from '../../core/base/byte-source.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { FETCH_LIMITS, type FetchLimits } from '../http/fetch-limits.ts';
import { type Environment, openConnections } from '../http/http-connections.ts';
import { ConnectError } from '../http/http-failures.ts';
import { requestFile } from '../http/http-request.ts';
import { isTemporaryStatus } from '../http/retry.ts';
import { type HttpPlace, pauseOrGiveUp, statusFault } from './http-source.ts';

/** Longest time for a whole document: one that comes a byte at a time never falls silent. */
const DOCUMENT_TIMEOUT_MS = 120_000;

export interface DocumentOptions {
  /** Held in memory; whatever is longer is refused while it arrives. */
  readonly bytesMax: number;
  readonly environment: Environment;
  readonly signal: AbortSignal;
  readonly limits?: Partial<FetchLimits>;
  readonly timeoutMs?: number;
}

/** A small file from a server, or the server's refusal. */
export interface HttpDocument {
  readonly status: number;
  /** Empty unless the status is 200. */
  readonly bytes: Buffer;
  header(name: string): string | undefined;
}

/**
 * Gets a document of a few kilobytes into memory. Attempts that break, and answers that ask for patience, are repeated;
 * other refusals (401, 404) are returned.
 * @throws NETWORK, SIZE_MISMATCH when it is longer than `bytesMax`, TIMEOUT, the signal's reason
 */
export async function fetchDocument(place: HttpPlace, options: DocumentOptions): Promise<HttpDocument> {
  const { timeoutMs = DOCUMENT_TIMEOUT_MS } = options;
  const limits = { ...FETCH_LIMITS, ...options.limits };
  const overdue = new AbortController();
  const timer = setTimeout(
    () => overdue.abort(new FreeholdError('TIMEOUT', `${hostOf(place)}: not complete after ${timeoutMs} ms`)),
    timeoutMs,
  );
  const signal = AbortSignal.any([options.signal, overdue.signal]);
  const connections = openConnections(options.environment, limits);
  try {
    for (let failures = 0; ; ) {
      try {
        const url = new URL(place.url);
        const response = await requestFile(connections, { ...place, url, headers: {}, limits, signal });
        try {
          const { status } = response;
          if (isTemporaryStatus(status)) throw statusFault(response);
          const bytes =
            status === 200 ? await collectBytes(response.body, options.bytesMax) : Buffer.alloc(0);
          return { status, bytes, header: (name) => response.header(name) };
        } finally {
          response.abandon();
        }
      } catch (error) {
        await pauseOrGiveUp(error, ++failures, !(error instanceof ConnectError), limits, signal);
      }
    }
  } finally {
    clearTimeout(timer);
    await connections.destroy();
  }
}

function hostOf(place: HttpPlace): string {
  return new URL(place.url).host;
}
