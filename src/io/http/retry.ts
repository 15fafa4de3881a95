import { setTimeout as sleep } from 'node:timers/promises';
import { FreeholdError } from '../../core/base/errors.ts';
import type { FetchLimits } from './fetch-limits.ts';
import { TransferError } from './http-failures.ts';
import { parseRetryAfterMs } from './http-headers.ts';
import type { FileResponse } from './http-request.ts';

/** The server may answer otherwise in a moment. */
export function isTemporaryStatus(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500;
}

/** The failure that a temporary status stands for, with what the server asks for. */
export function temporaryFault(response: FileResponse, message: string): TransferError {
  return new TransferError(message, {
    retryAfterMs: parseRetryAfterMs(response.header('retry-after'), Date.now()),
  });
}

/**
 * Waits before the next attempt: as long as the server asked, else ever longer.
 * @param failures attempts in a row that failed, from 1
 * @throws NETWORK when the server asks for more patience than there is; the signal's reason
 */
export async function pauseBeforeRetry(
  error: FreeholdError,
  failures: number,
  limits: FetchLimits,
  signal: AbortSignal,
): Promise<void> {
  const askedMs = error instanceof TransferError ? error.retryAfterMs : undefined;
  if (askedMs !== undefined && askedMs > limits.retryAfterMsMax) {
    throw new FreeholdError('NETWORK', `${error.message}; asks to wait ${Math.ceil(askedMs / 1000)} s`, {
      cause: error,
    });
  }
  const ceilingMs = Math.min(limits.retryDelayMsMax, limits.retryDelayMs * 2 ** (failures - 1));
  // Half fixed, half random: clients that failed together do not come back together.
  const delayMs = askedMs ?? ceilingMs * (0.5 + Math.random() / 2);
  try {
    await sleep(delayMs, undefined, { signal });
  } catch {
    throw signal.reason;
  }
}
