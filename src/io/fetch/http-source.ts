import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { PartialFile } from '../files/partial-file.ts';
import { ATTEMPT_PROGRESS_BYTES, type FetchLimits } from '../http/fetch-limits.ts';
import { openConnections } from '../http/http-connections.ts';
import { ConnectError, TransferError } from '../http/http-failures.ts';
import {
  parseContentLength,
  parseContentRange,
  parseLastModified,
  parseUnsatisfiedRange,
  strongEtag,
} from '../http/http-headers.ts';
import { type FileResponse, requestFile } from '../http/http-request.ts';
import { isTemporaryStatus, pauseBeforeRetry, temporaryFault } from '../http/retry.ts';
import type { SourceRun } from './source-run.ts';

export interface HttpPlace {
  readonly url: string;
  readonly allowHttp: boolean;
  readonly bearerToken?: string | undefined;
}

/**
 * Fills the partial file from a URL: continues what an earlier run or attempt got, and repeats attempts that broke.
 * @throws NETWORK, SIZE_MISMATCH, DISK_FULL, PERMISSION_DENIED, the signal's reason
 */
export async function fetchFromUrl(place: HttpPlace, run: SourceRun): Promise<void> {
  const { partial, limits, signal, meter } = run;
  const source = Digest.of(`url\0${place.url}`);
  await partial.resume(source, undefined, signal);
  meter.begin(partial.sizeBytes);
  const connections = openConnections(run.environment, limits);
  try {
    let failures = 0;
    let hasAnswered = false;
    while (partial.sizeBytes < partial.expected.sizeBytes) {
      const beforeBytes = partial.sizeBytes;
      try {
        const headers = rangeHeaders(partial);
        const url = new URL(place.url);
        const response = await requestFile(connections, { ...place, url, headers, limits, signal });
        hasAnswered = true;
        await takeResponse(response, source, run);
      } catch (error) {
        if (partial.sizeBytes - beforeBytes >= ATTEMPT_PROGRESS_BYTES) failures = 0;
        await pauseOrGiveUp(error, ++failures, hasAnswered, limits, signal);
      }
    }
  } finally {
    await connections.destroy();
  }
}

function rangeHeaders(partial: PartialFile): Record<string, string> {
  if (partial.sizeBytes === 0) return {};
  // Without a validator the digest alone notices a changed file; the fetch then begins anew.
  const validator = partial.sidecar?.etag ?? partial.sidecar?.lastModified;
  return {
    range: `bytes=${partial.sizeBytes}-`,
    ...(validator === undefined ? {} : { 'if-range': validator }),
  };
}

/** Appends what the answer brings. @throws TransferError when the body ends too early, and what `requireUsable` throws */
async function takeResponse(response: FileResponse, source: string, run: SourceRun): Promise<void> {
  const { partial, meter } = run;
  try {
    requireUsable(response, partial);
    if (response.status === 200) {
      partial.restart();
      meter.begin(0);
    }
    const etag = strongEtag(response.header('etag'));
    const lastModified = parseLastModified(response.header('last-modified'));
    await partial.describe({ source, etag, lastModified }, response.status === 206);
    for await (const bytes of response.body) {
      await partial.append(bytes);
      meter.report(partial.sizeBytes);
    }
    const { sizeBytes, expected } = partial;
    if (sizeBytes < expected.sizeBytes) {
      throw new TransferError(`the body ended after ${sizeBytes} of ${expected.sizeBytes} bytes`);
    }
  } finally {
    response.abandon();
  }
}

/** @throws NETWORK, TransferError (try again), SIZE_MISMATCH unless the body is the file or the rest of it */
function requireUsable(response: FileResponse, partial: PartialFile): void {
  const { status } = response;
  const coding = response.header('content-encoding') ?? 'identity';
  if (coding !== 'identity') throw new FreeholdError('NETWORK', `the body is coded (${coding.slice(0, 40)})`);
  if (status === 200) {
    requireSize(parseContentLength(response.header('content-length')), partial);
    return;
  }
  if (status === 206 && partial.sizeBytes > 0) {
    const range = parseContentRange(response.header('content-range'));
    if (range?.totalBytes !== undefined) requireSize(range.totalBytes, partial);
    if (range?.startBytes === partial.sizeBytes) return;
    // A range that was not asked for would put right bytes at the wrong place.
    partial.restart();
    throw new TransferError('the server answered with another range than it was asked for');
  }
  if (status === 416 && partial.sizeBytes > 0) {
    const totalBytes = parseUnsatisfiedRange(response.header('content-range'));
    partial.restart();
    requireSize(totalBytes, partial);
    throw new TransferError('the server refused to continue');
  }
  throw statusFault(response);
}

function requireSize(sizeBytes: number | undefined, partial: PartialFile): void {
  if (sizeBytes === undefined || sizeBytes === partial.expected.sizeBytes) return;
  throw new FreeholdError(
    'SIZE_MISMATCH',
    `the file has ${sizeBytes} bytes, not ${partial.expected.sizeBytes}`,
  );
}

/** An answer that is no file: a TransferError when another attempt may help, else NETWORK. */
export function statusFault(response: FileResponse): FreeholdError {
  const { status } = response;
  if (isTemporaryStatus(status)) return temporaryFault(response, `HTTP status ${status}`);
  const isLogin = status === 401 || status === 403 || status === 407;
  return new FreeholdError('NETWORK', `HTTP status ${status}`, {
    detail: { status },
    ...(isLogin ? { hint: 'the server wants a login; for Hugging Face set HF_TOKEN' } : {}),
  });
}

/** Waits before the next attempt, or throws the error on when another attempt would not help. */
export async function pauseOrGiveUp(
  error: unknown,
  failures: number,
  hasAnswered: boolean,
  limits: FetchLimits,
  signal: AbortSignal,
): Promise<void> {
  const mayRepeat = error instanceof TransferError || (error instanceof ConnectError && hasAnswered);
  if (signal.aborted || !mayRepeat || failures >= limits.attemptsMax) throw error;
  await pauseBeforeRetry(error, failures, limits, signal);
}
