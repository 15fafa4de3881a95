import { FreeholdError } from '../../core/base/errors.ts';
import type { Connections } from '../http/http-connections.ts';
import { ConnectError, TransferError } from '../http/http-failures.ts';
import { type FileResponse, type HttpMethod, requestFile, requestOnce } from '../http/http-request.ts';
import { isTemporaryStatus, pauseBeforeRetry, temporaryFault } from '../http/retry.ts';
import type { Authentication } from './authentication.ts';
import { harmless } from './registry-fault.ts';
import type { RegistryLimits } from './registry-limits.ts';

export interface RegistryRequest {
  readonly method: HttpMethod;
  /** Path with query below the registry's origin, or a whole URL on it. */
  readonly target: string | URL;
  /** What the token must allow: `repository:acme/triage:pull`. */
  readonly scopes: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  /** Opened anew for every attempt. */
  readonly body?: (() => Uint8Array | AsyncIterable<Uint8Array>) | undefined;
  readonly answerTimeoutMs?: number;
  /** Of the answer, as far as it can be known before. */
  readonly bodyBytes?: number;
  /** Attempts that may fail; 1 leaves repeating to the caller. Default: the limits'. */
  readonly attemptsMax?: number;
  readonly signal: AbortSignal;
}

/** Requests to one registry, with proof of who asks, along redirects (without that proof), repeated when it may help. */
export class RegistryConnection {
  readonly origin: URL;
  readonly limits: RegistryLimits;
  readonly #connections: Connections;
  readonly #authentication: Authentication;
  readonly #allowHttp: boolean;
  #hasAnswered = false;

  constructor(options: {
    readonly origin: URL;
    readonly limits: RegistryLimits;
    readonly connections: Connections;
    readonly authentication: Authentication;
    readonly allowHttp: boolean;
  }) {
    this.origin = options.origin;
    this.limits = options.limits;
    this.#connections = options.connections;
    this.#authentication = options.authentication;
    this.#allowHttp = options.allowHttp;
  }

  /**
   * The answer, whatever its status, but for 401 (which is answered once with credentials) and temporary ones.
   * @throws AUTHENTICATION_FAILED; NETWORK after the last attempt; the signal's reason
   */
  async send(request: RegistryRequest): Promise<FileResponse> {
    const attemptsMax = request.attemptsMax ?? this.limits.attemptsMax;
    for (let failures = 1; ; failures++) {
      try {
        const response = await this.#sendAuthenticated(request);
        this.#hasAnswered = true;
        if (!isTemporaryStatus(response.status)) return response;
        response.abandon();
        throw temporaryFault(response, `${response.url.host}: HTTP status ${response.status}`);
      } catch (error) {
        if (request.signal.aborted || !this.mayRepeat(error)) throw error;
        if (failures >= attemptsMax) throw attemptsMax === 1 ? error : exhausted(error, failures);
        await pauseBeforeRetry(error, failures, this.limits, request.signal);
      }
    }
  }

  /** Whether another attempt may go better. A server that never answered is left for the next source at once. */
  mayRepeat(error: unknown): error is FreeholdError {
    return error instanceof TransferError || (error instanceof ConnectError && this.#hasAnswered);
  }

  /**
   * Where a Location of this registry leads: always on its own origin.
   * @throws NETWORK when it is absent, or on another host: what follows carries credentials and the publisher's bytes
   */
  ownLocation(text: string | undefined, current: URL): URL {
    const url = text === undefined || text === '' ? null : URL.parse(text, current.href);
    if (url === null) throw new FreeholdError('NETWORK', `${this.origin.host} answers without a Location`);
    // A registry behind a proxy that ends TLS believes itself to be plain http, sometimes on another port.
    if (url.hostname === this.origin.hostname) {
      url.protocol = this.origin.protocol;
      url.host = this.origin.host;
      url.port = this.origin.port;
    }
    if (url.origin !== this.origin.origin || url.username !== '' || url.password !== '') {
      throw new FreeholdError(
        'NETWORK',
        `${this.origin.host} sends an upload to another host, ${harmless(url.host)}: nothing was sent there`,
      );
    }
    url.hash = '';
    return url;
  }

  async #sendAuthenticated(request: RegistryRequest): Promise<FileResponse> {
    const known = this.#authentication.authorization(request.scopes);
    const response = await this.#sendOnce(request, known);
    if (response.status !== 401 || response.url.origin !== this.origin.origin) return response;
    const { scopes, signal } = request;
    const renewed = await this.#authentication.answer(response, scopes, known, signal);
    return this.#sendOnce(request, renewed);
  }

  #sendOnce(request: RegistryRequest, authorization: string | undefined): Promise<FileResponse> {
    const { method, headers = {}, signal, body, bodyBytes, answerTimeoutMs } = request;
    const { limits } = this;
    const url = new URL(request.target, this.origin);
    if (method === 'GET' || method === 'HEAD') {
      const allowHttp = this.#allowHttp;
      return requestFile(this.#connections, {
        url,
        method,
        headers,
        authorization,
        bodyBytes,
        allowHttp,
        limits,
        signal,
      });
    }
    const allHeaders = authorization === undefined ? headers : { ...headers, authorization };
    const content = body?.();
    const plain = { method, headers: allHeaders, body: content, limits, answerTimeoutMs, signal };
    return requestOnce(this.#connections, url, plain);
  }
}

function exhausted(error: FreeholdError, attempts: number): FreeholdError {
  return new TransferError(`${error.message} (${attempts} attempts)`, { cause: error, hint: hintOf(error) });
}

const hintOf = ({ message, hint }: FreeholdError) =>
  message.includes('HTTP status 429')
    ? 'the registry limits how often it may be asked: try again later, or log in'
    : hint;
