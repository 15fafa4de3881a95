import type { Readable } from 'node:stream';
import { unlessAborted } from '../../core/base/abort.ts';
import { collectBytes } from '../../core/base/byte-source.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { isLoopbackHost } from '../../core/base/loopback.ts';
import { requestDirect } from './direct-request.ts';
import { type FetchLimits, REDIRECTS_MAX } from './fetch-limits.ts';
import type { Connections } from './http-connections.ts';
import { bodyFault, requestFault, TransferError } from './http-failures.ts';

export type HttpMethod = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** One request, without what follows from its answer. */
export interface PlainRequest {
  readonly method: HttpMethod;
  readonly headers: Readonly<Record<string, string>>;
  /** With a `content-length` among the headers. Every piece that the connection takes starts the deadline anew. */
  readonly body?: Uint8Array | AsyncIterable<Uint8Array> | undefined;
  readonly limits: FetchLimits;
  /** For the headers of the answer, in the place of the limit: a registry that commits a blob may read it whole. */
  readonly answerTimeoutMs?: number | undefined;
  readonly signal: AbortSignal;
}

/** A request without a body, along redirects. */
export interface FileRequest {
  readonly url: URL;
  /** Default: GET. */
  readonly method?: 'GET' | 'HEAD';
  readonly allowHttp: boolean;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent to the origin of `url` only, never along a redirect to another. */
  readonly bearerToken?: string | undefined;
  /** A whole Authorization header, in the place of `bearerToken`; for the origin of `url` only. */
  readonly authorization?: string | undefined;
  /** How long the body will probably be. */
  readonly bodyBytes?: number | undefined;
  readonly limits: FetchLimits;
  readonly signal: AbortSignal;
}

const COMMON_HEADERS = {
  accept: '*/*',
  // A coded body has another length, and its parts cannot be resumed.
  'accept-encoding': 'identity',
  'user-agent': 'freehold',
};

export interface FileResponse {
  readonly status: number;
  /** Who answered: after redirects another than was asked. */
  readonly url: URL;
  header(name: string): string | undefined;
  /** Each piece is valid until the next one is asked for. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Drops the rest of the body and its connection. */
  abandon(): void;
}

/**
 * Sends a GET or HEAD and follows redirects by hand, since each hop is checked: https stays https, credentials stay
 * behind.
 * @throws ConnectError, TransferError, NETWORK for redirects that are not followed; the signal's reason
 */
export async function requestFile(connections: Connections, request: FileRequest): Promise<FileResponse> {
  const { method = 'GET', bearerToken } = request;
  const authorization =
    request.authorization ?? (bearerToken === undefined ? undefined : `Bearer ${bearerToken}`);
  let url = request.url;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
    requireAllowedUrl(url, request);
    const isOrigin = url.origin === request.url.origin;
    const headers =
      authorization !== undefined && isOrigin ? { ...request.headers, authorization } : request.headers;
    const response = await requestHop(connections, url, { ...request, method, headers });
    if (![301, 302, 303, 307, 308].includes(response.status)) return response;
    const location = response.header('location');
    response.abandon();
    url = redirectTarget(url, location);
  }
  throw new FreeholdError('NETWORK', `more than ${REDIRECTS_MAX} redirects`);
}

/** A body that is worth a connection of its own. */
const DIRECT_BODY_BYTES_MIN = 1 << 20;

async function requestHop(
  connections: Connections,
  url: URL,
  request: FileRequest & { readonly method: 'GET' | 'HEAD' },
): Promise<FileResponse> {
  const { limits, signal, bodyBytes = 0 } = request;
  if (request.method === 'GET' && connections.direct !== undefined && bodyBytes >= DIRECT_BODY_BYTES_MIN) {
    const headers = { ...COMMON_HEADERS, ...request.headers };
    const response = await requestDirect(connections.direct, url, { headers, limits, signal });
    if (response !== undefined) return response;
  }
  const { method, headers } = request;
  return requestOnce(connections, url, { method, headers, limits, signal });
}

function requireAllowedUrl(url: URL, request: FileRequest): void {
  const mayBePlain = request.url.protocol === 'http:' && (request.allowHttp || isLoopbackHost(url.hostname));
  if (url.protocol === 'https:' || (url.protocol === 'http:' && mayBePlain)) return;
  throw new FreeholdError(
    'NETWORK',
    `will not fetch from ${quoted(`${url.protocol}//${url.host}`)}: not https`,
  );
}

function redirectTarget(from: URL, location: string | undefined): URL {
  const target = location === undefined ? null : URL.parse(location, from.href);
  if (target === null) throw new FreeholdError('NETWORK', 'a redirect without a readable Location');
  if (target.username !== '' || target.password !== '') {
    throw new FreeholdError('NETWORK', 'a redirect with a user or password in it');
  }
  return target;
}

/**
 * Sends one request; a redirect is an answer like others.
 * @throws ConnectError, TransferError; what the body throws; the signal's reason
 */
export async function requestOnce(
  connections: Connections,
  url: URL,
  request: PlainRequest,
): Promise<FileResponse> {
  const { limits, signal } = request;
  const abandonment = new AbortController();
  // Of our own, since those of undici do not cover a proxy that accepts CONNECT and never answers.
  const deadlineMs = limits.connectTimeoutMs + (request.answerTimeoutMs ?? limits.headersTimeoutMs);
  const deadline = setTimeout(
    () => abandonment.abort(new FreeholdError('TIMEOUT', `no answer within ${deadlineMs} ms`)),
    deadlineMs,
  );
  const stop = AbortSignal.any([signal, abandonment.signal]);
  const watched: BodyWatch = { failure: undefined };
  let isAnswered = false;
  // Not after the answer: a timer that was cleared would begin anew.
  const onPiece = () => void (isAnswered || deadline.refresh());
  try {
    const sent = connections.pool.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: request.method,
      headers: { ...COMMON_HEADERS, ...request.headers },
      ...bodyOption(request.body, watched, onPiece),
      signal: stop,
    });
    // undici heeds an abort only once there is a connection; a person who cancels should not wait for that.
    const response = await unlessAborted(sent, stop);
    const { body } = response;
    return {
      status: response.statusCode,
      url,
      header: (name) => [response.headers[name] ?? []].flat()[0],
      body: readBody(body, signal),
      abandon: () => void body.on('error', () => {}).destroy(),
    };
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (watched.failure !== undefined) throw watched.failure.error;
    throw requestFault(error, url);
  } finally {
    isAnswered = true;
    clearTimeout(deadline);
  }
}

/** What the caller's own stream threw: no fault of the network. */
interface BodyWatch {
  failure: { readonly error: unknown } | undefined;
}

function bodyOption(body: PlainRequest['body'], watched: BodyWatch, onPiece: () => void) {
  if (body === undefined) return {};
  if (body instanceof Uint8Array) return { body };
  const pieces = async function* () {
    try {
      for await (const piece of body) {
        onPiece();
        yield piece;
      }
      onPiece();
    } catch (error) {
      watched.failure = { error };
      throw error;
    }
  };
  // undici sends any async iterable, which its types do not say.
  return { body: pieces() as unknown as Buffer };
}

/** What waits for the reader; more makes it no faster. */
const QUEUE_BYTES_MAX = 1 << 20;

/** By events: the iterator of a stream joins its pieces, which copies every byte once more and leaves more garbage. */
async function* readBody(body: Readable, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  let queue: Uint8Array[] = [];
  let queuedBytes = 0;
  let end: { readonly error?: unknown } | undefined;
  let wake = () => {};
  const finish = (error?: unknown) => {
    end ??= error === undefined ? {} : { error };
    wake();
  };
  body.on('data', (bytes: Uint8Array) => {
    queue.push(bytes);
    queuedBytes += bytes.byteLength;
    if (queuedBytes > QUEUE_BYTES_MAX) body.pause();
    wake();
  });
  body.on('end', () => finish());
  body.on('error', finish);
  body.on('close', () => finish(new TransferError('the connection was closed')));
  try {
    for (;;) {
      const pieces = queue;
      queue = [];
      queuedBytes = 0;
      if (body.isPaused()) body.resume();
      yield* pieces;
      if (queue.length > 0) continue;
      if (signal.aborted) throw signal.reason;
      if (end?.error !== undefined) throw bodyFault(end.error);
      if (end !== undefined) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    body.destroy();
  }
}

/**
 * The whole body of an answer, as long as it stays below a cap.
 * @throws TransferError when it breaks off; SIZE_MISMATCH beyond the cap (endless data)
 */
export async function readBytes(response: FileResponse, bytesMax: number): Promise<Buffer> {
  try {
    return await collectBytes(response.body, bytesMax);
  } finally {
    response.abandon();
  }
}
