import { FreeholdError } from '../../core/base/errors.ts';
import type { BlobRange, BlobReference } from '../../core/format/artifact-place.ts';
import { ATTEMPT_PROGRESS_BYTES } from '../http/fetch-limits.ts';
import { TransferError } from '../http/http-failures.ts';
import { parseContentLength, parseContentRange, parseUnsatisfiedRange } from '../http/http-headers.ts';
import type { FileResponse } from '../http/http-request.ts';
import { isTemporaryStatus, pauseBeforeRetry, temporaryFault } from '../http/retry.ts';
import type { RateLimit } from './rate-limit.ts';
import { registryFault } from './registry-fault.ts';
import type { RepositoryContext } from './repository-context.ts';

export interface DownloadOrder extends RepositoryContext {
  /** `/v2/acme/triage/blobs/sha256:…` */
  readonly path: string;
  readonly scopes: readonly string[];
  readonly blob: BlobReference;
  readonly range: BlobRange;
  readonly rate: RateLimit | undefined;
  readonly signal: AbortSignal;
}

/**
 * The bytes of a range of a blob. A connection that breaks is taken up where it broke; no byte comes twice or at another
 * place than its own, whatever ranges the server answers with.
 * @throws NOT_FOUND, SIZE_MISMATCH, NETWORK, AUTHENTICATION_FAILED, the signal's reason
 */
export async function* downloadBlob(order: DownloadOrder): AsyncGenerator<Uint8Array> {
  const { connection, blob, range, signal, rate } = order;
  const endBytes = range.endBytes ?? blob.sizeBytes;
  if (range.startBytes < 0 || range.startBytes > endBytes || endBytes > blob.sizeBytes) {
    throw new RangeError(`${range.startBytes} to ${endBytes} of ${blob.sizeBytes} bytes`);
  }
  let position = range.startBytes;
  let failures = 0;
  let mayAskForRange = true;
  signal.throwIfAborted();
  while (position < endBytes) {
    const attemptStart = position;
    try {
      for await (const bytes of readOnce(order, position, endBytes, mayAskForRange)) {
        if (rate !== undefined) await rate.take(bytes.byteLength, signal);
        position += bytes.byteLength;
        yield bytes;
      }
      // A server may send less of a range than it was asked for.
      if (position === attemptStart) throw new TransferError('the answer was empty');
    } catch (error) {
      if (error instanceof WrongRange) mayAskForRange = false;
      if (position - attemptStart >= ATTEMPT_PROGRESS_BYTES) failures = 0;
      failures++;
      const mayRepeat = connection.mayRepeat(error) && failures < connection.limits.attemptsMax;
      if (signal.aborted) throw signal.reason;
      if (!mayRepeat) throw named(error, order, position);
      await pauseBeforeRetry(error, failures, connection.limits, signal);
    }
  }
}

/** The server answers ranges with others than it was asked for: it is asked for the whole blob instead. */
class WrongRange extends TransferError {}

function named(error: unknown, { label, blob }: DownloadOrder, position: number): unknown {
  if (!(error instanceof TransferError)) return error;
  return new TransferError(
    `${label}: ${blob.digest}, at byte ${position} of ${blob.sizeBytes}: ${error.message}`,
    {
      cause: error,
      hint: error.hint,
    },
  );
}

/** What one answer brings, from `position` on. @throws TransferError when it broke */
async function* readOnce(
  order: DownloadOrder,
  position: number,
  endBytes: number,
  mayAskForRange: boolean,
): AsyncGenerator<Uint8Array> {
  const { connection, path, scopes, blob, signal } = order;
  const isWhole = position === 0 && endBytes === blob.sizeBytes;
  const wantsRange = !isWhole && mayAskForRange;
  const headers = wantsRange ? { range: `bytes=${position}-${endBytes - 1}` } : {};
  const response = await connection.send({
    method: 'GET',
    target: path,
    scopes,
    headers,
    bodyBytes: endBytes - position,
    signal,
    attemptsMax: 1,
  });
  try {
    const start = await startOf(response, order, position, wantsRange);
    yield* slice(response, start.skipBytes, endBytes - position, start.announcedBytes, blob);
  } finally {
    response.abandon();
  }
}

interface AnswerStart {
  /** A server that sends the whole blob sends also what is here already. */
  readonly skipBytes: number;
  /** Of the body; undefined when the server does not say. */
  readonly announcedBytes: number | undefined;
}

/** @throws unless the body is the blob, or the part of it that was asked for */
async function startOf(
  response: FileResponse,
  order: DownloadOrder,
  position: number,
  wantsRange: boolean,
): Promise<AnswerStart> {
  const { blob, label } = order;
  const { status } = response;
  const coding = response.header('content-encoding') ?? 'identity';
  if (coding !== 'identity') {
    throw new FreeholdError('NETWORK', `${label}: a blob comes in another coding (${coding.slice(0, 40)})`);
  }
  if (status === 200) {
    const announcedBytes = parseContentLength(response.header('content-length'));
    requireSize(announcedBytes, order);
    return { skipBytes: position, announcedBytes: blob.sizeBytes };
  }
  if (status === 206) {
    const range = parseContentRange(response.header('content-range'));
    requireSize(range?.totalBytes, order);
    if (!wantsRange || range?.startBytes !== position) {
      throw new WrongRange('the server answers with another range than it was asked for');
    }
    return { skipBytes: 0, announcedBytes: range.endBytes - range.startBytes + 1 };
  }
  if (status === 416) requireSize(parseUnsatisfiedRange(response.header('content-range')), order);
  if (status === 404) {
    response.abandon();
    throw new FreeholdError('NOT_FOUND', `${label} has no blob ${blob.digest}`, {
      detail: { digest: blob.digest },
    });
  }
  // An address that a registry gave for a while, and that ran out: asked again, it gives another.
  const isStorage = response.url.origin !== order.connection.origin.origin;
  if (isStorage || isTemporaryStatus(status)) {
    response.abandon();
    throw temporaryFault(response, `${response.url.host}: HTTP status ${status}`);
  }
  throw await registryFault(response, label, `read the blob ${blob.digest}`);
}

function requireSize(sizeBytes: number | undefined, { blob, label }: DownloadOrder): void {
  if (sizeBytes === undefined || sizeBytes === blob.sizeBytes) return;
  throw new FreeholdError(
    'SIZE_MISMATCH',
    `${label}: ${blob.digest} has ${sizeBytes} bytes there, not ${blob.sizeBytes}`,
    { detail: { digest: blob.digest, expected: blob.sizeBytes, actual: sizeBytes } },
  );
}

/** Leaves out what is here, stops at what is wanted. @throws SIZE_MISMATCH for more bytes than announced */
async function* slice(
  response: FileResponse,
  skipBytes: number,
  wantedBytes: number,
  announcedBytes: number | undefined,
  blob: BlobReference,
): AsyncGenerator<Uint8Array> {
  let receivedBytes = 0;
  let leftBytes = Math.min(wantedBytes, (announcedBytes ?? blob.sizeBytes) - skipBytes);
  for await (const bytes of response.body) {
    const from = Math.max(0, skipBytes - receivedBytes);
    receivedBytes += bytes.byteLength;
    if (announcedBytes !== undefined && receivedBytes > announcedBytes) {
      throw new FreeholdError(
        'SIZE_MISMATCH',
        `${response.url.host} sends more than the ${announcedBytes} bytes that it announced`,
      );
    }
    if (from >= bytes.byteLength) continue;
    const part = from === 0 && bytes.byteLength <= leftBytes ? bytes : bytes.subarray(from, from + leftBytes);
    leftBytes -= part.byteLength;
    yield part;
    if (leftBytes === 0 && wantedBytes + skipBytes < (announcedBytes ?? 0)) return;
  }
  if (leftBytes > 0) throw new TransferError(`the body ended ${leftBytes} bytes too early`);
}
