import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { unlessAborted } from '../../core/base/abort.ts';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { isLoopbackHost } from '../../core/base/loopback.ts';
import { type FetchLimits, REDIRECTS_MAX } from './fetch-limits.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What a GET for a file may do. */
export interface FileRequest {
  readonly url: URL;
  readonly allowHttp: boolean;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent to the origin of `url` only, never along a redirect to another. */
  readonly bearerToken?: string | undefined;
  readonly limits: FetchLimits;
  readonly signal: AbortSignal;
}

export interface FileResponse {
  readonly status: number;
  header(name: string): string | undefined;
  readonly body: AsyncIterable<Uint8Array>;
  /** Drops the rest of the body and its connection. */
  abandon(): void;
}

/** No connection, or none that is answered: with nothing received yet, the next source is the better try. */
export class ConnectError extends FreeholdError {}
/** The connection broke, fell silent or asked for patience: worth another attempt. */
export class TransferError extends FreeholdError {
  /** What the server asked for. */
  readonly retryAfterMs: number | undefined;
  constructor(message: string, options: { cause?: unknown; retryAfterMs?: number | undefined } = {}) {
    super('NETWORK', message, { cause: options.cause });
    this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * One pool of connections for one fetch: proxies as the environment says (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, also in
 * lower case); further certificate authorities by NODE_EXTRA_CA_CERTS.
 * @throws CONFIG_INVALID when a proxy is not a URL
 */
export function openConnections(environment: Environment, limits: FetchLimits): Dispatcher {
  const httpProxy = environment.http_proxy ?? environment.HTTP_PROXY ?? '';
  const httpsProxy = environment.https_proxy ?? environment.HTTPS_PROXY ?? httpProxy;
  const noProxy = environment.no_proxy ?? environment.NO_PROXY ?? '';
  const timeout = { timeout: limits.connectTimeoutMs };
  const common = { connect: timeout, bodyTimeout: limits.idleTimeoutMs };
  if (httpProxy === '' && httpsProxy === '') return new Agent(common);
  // Plain http goes to the proxy as such: many allow CONNECT to port 443 only.
  const byProxy = { proxyTunnel: false, proxyTls: timeout, requestTls: timeout };
  try {
    return new EnvHttpProxyAgent({ ...common, ...byProxy, httpProxy, httpsProxy, noProxy });
  } catch (error) {
    throw new FreeholdError('CONFIG_INVALID', 'HTTP_PROXY or HTTPS_PROXY is not a URL', {
      cause: error,
      hint: 'for example http://proxy.acme.example:3128',
    });
  }
}

/**
 * Sends a GET and follows redirects by hand, since each hop is checked: https stays https, credentials stay behind.
 * @throws ConnectError, TransferError, NETWORK for redirects that are not followed; the signal's reason
 */
export async function requestFile(connections: Dispatcher, request: FileRequest): Promise<FileResponse> {
  let url = request.url;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
    requireAllowedUrl(url, request);
    const response = await requestOnce(connections, url, request);
    if (![301, 302, 303, 307, 308].includes(response.status)) return response;
    const location = response.header('location');
    response.abandon();
    url = redirectTarget(url, location);
  }
  throw new FreeholdError('NETWORK', `more than ${REDIRECTS_MAX} redirects`);
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

async function requestOnce(connections: Dispatcher, url: URL, request: FileRequest): Promise<FileResponse> {
  const { limits, signal } = request;
  const isOrigin = url.origin === request.url.origin;
  const abandonment = new AbortController();
  // Of our own, since those of undici do not cover a proxy that accepts CONNECT and never answers.
  const deadlineMs = limits.connectTimeoutMs + limits.headersTimeoutMs;
  const deadline = setTimeout(
    () => abandonment.abort(new FreeholdError('TIMEOUT', `no answer within ${deadlineMs} ms`)),
    deadlineMs,
  );
  const stop = AbortSignal.any([signal, abandonment.signal]);
  try {
    const sent = connections.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: 'GET',
      headers: {
        accept: '*/*',
        // A coded body has another length, and its parts cannot be resumed.
        'accept-encoding': 'identity',
        'user-agent': 'freehold',
        ...request.headers,
        ...(request.bearerToken !== undefined && isOrigin
          ? { authorization: `Bearer ${request.bearerToken}` }
          : {}),
      },
      signal: stop,
    });
    // undici heeds an abort only once there is a connection; a person who cancels should not wait for that.
    const response = await unlessAborted(sent, stop);
    const { body } = response;
    return {
      status: response.statusCode,
      header: (name) => [response.headers[name] ?? []].flat()[0],
      body: readBody(body, signal),
      abandon: () => void body.on('error', () => {}).destroy(),
    };
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw requestFault(error, url);
  } finally {
    clearTimeout(deadline);
  }
}

async function* readBody(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    const isSilent = systemErrorCode(error) === 'UND_ERR_BODY_TIMEOUT';
    const reason = isSilent ? 'the server fell silent' : `the connection broke (${faultText(error)})`;
    throw new TransferError(reason, { cause: error });
  }
}

/** Errors of TCP and of undici that mean: there was a connection, and it ended too soon. */
const BROKEN = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);

function requestFault(error: unknown, url: URL): FreeholdError {
  if (error instanceof FreeholdError) return new ConnectError('NETWORK', `${url.host}: ${error.message}`);
  const code = systemErrorCode(error) ?? '';
  if (BROKEN.has(code)) return new TransferError(`${url.host}: ${faultText(error)}`, { cause: error });
  const isCertificate = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code);
  return new ConnectError('NETWORK', `${url.host}: ${faultText(error)}`, {
    cause: error,
    ...(isCertificate
      ? { hint: 'for a certificate authority of your own set NODE_EXTRA_CA_CERTS=FILE.pem' }
      : {}),
  });
}

/** What went wrong in the words of the lowest layer that knows: undici wraps, and addresses come in groups. */
function faultText(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return faultText(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  const code = systemErrorCode(error);
  const known: Record<string, string> = {
    ENOTFOUND: 'the name is not known',
    EAI_AGAIN: 'the name cannot be looked up',
    ECONNREFUSED: 'connection refused',
    ENETUNREACH: 'no network',
    EHOSTUNREACH: 'no route',
    UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
  };
  return (code === undefined ? undefined : known[code]) ?? error.message;
}
