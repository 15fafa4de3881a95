import { randomUUID } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getRequestListener } from '@hono/node-server';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { encodeOpenAiError } from '../../core/wire/openai-errors.ts';
import type { App } from './app-environment.ts';

/** Bounds on what a client may hold. All have defaults; tests shorten them. */
export interface ConnectionLimits {
  /** A client that sends its headers byte by byte (slowloris) is cut off. */
  readonly headersTimeoutMs: number;
  /** Headers and body; 16 MiB in a minute is 2.2 Mbit/s. */
  readonly requestTimeoutMs: number;
  /** Longer than clients keep their idle connections, so that they close first and never write into a closed one. */
  readonly keepAliveTimeoutMs: number;
  /** Each takes a descriptor; a process has 1024 by default. */
  readonly connectionsMax: number;
  /** How often the two timeouts are looked at. */
  readonly checkIntervalMs: number;
}

export const CONNECTION_LIMITS: ConnectionLimits = {
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
  connectionsMax: 256,
  checkIntervalMs: 2_000,
};

/** Method, path and headers. Node's own default, named because the parser answers 431 beyond it. */
const HEADER_BYTES_MAX = 16 << 10;
/** Running answers may end in this time after a stop; service managers kill after 10 s or more. */
const GRACE_MS = 5_000;
/** For the last event of streams that were ended by a stop. */
const LAST_WORDS_MS = 500;
/** Idle connections are looked for so often while the server stops. */
const IDLE_CHECK_MS = 20;

export interface ServerOptions {
  readonly app: App;
  /** `127.0.0.1:8484`, `localhost:0`, `[::1]:8484`; port 0 takes a free one. */
  readonly listen: string;
  readonly limits?: Partial<ConnectionLimits>;
}

export interface RunningServer {
  /** `http://127.0.0.1:8484`, without a slash at the end. */
  readonly url: string;
  readonly port: number;
  /** Takes no new work, lets running answers end for `graceMs` (5 s), then cancels them. Idempotent. */
  close(options?: { readonly graceMs?: number }): Promise<void>;
}

/**
 * Listens on a loopback address.
 * @throws CONFIG_INVALID, NOT_SUPPORTED for any other address, PORT_IN_USE, PERMISSION_DENIED
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { host, port } = parseListen(options.listen);
  const draining = new AbortController();
  const stopping = new AbortController();
  const listener = getRequestListener(
    (request, env) =>
      options.app.fetch(request, { ...env, draining: draining.signal, stopping: stopping.signal }),
    { overrideGlobalObjects: false, hostname: NO_HOST, errorHandler: answerUnreadable },
  );
  const server = createLimitedServer({ ...CONNECTION_LIMITS, ...options.limits }, (incoming, outgoing) => {
    void listener(incoming, outgoing);
  });
  const closeUnused = unusedConnections(server);
  await listen(server, host, port, options.listen);
  const { port: boundPort } = server.address() as AddressInfo;
  let closed: Promise<void> | undefined;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${boundPort}`,
    port: boundPort,
    close({ graceMs = GRACE_MS } = {}) {
      closed ??= closeGracefully(server, closeUnused, draining, stopping, graceMs);
      return closed;
    },
  };
}

/** Stands in for a missing Host header (HTTP/1.0), which the app then refuses in its own words. RFC 2606 §2. */
const NO_HOST = 'host.invalid';

function createLimitedServer(limits: ConnectionLimits, listener: Parameters<typeof createServer>[1]): Server {
  const server = createServer(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: limits.checkIntervalMs,
      maxHeaderSize: HEADER_BYTES_MAX,
      noDelay: true,
    },
    listener,
  );
  server.maxConnections = limits.connectionsMax;
  // By default Node drops headers beyond 2000 in silence; the limit in bytes is enough.
  server.maxHeadersCount = 0;
  return server;
}

/**
 * A request that has no URL (its Host or its target cannot be read) never reaches the app.
 */
function answerUnreadable(thrown: unknown): Response {
  const error = isAboutHost(thrown)
    ? new FreeholdError('HOST_REFUSED', 'a request with an unreadable Host header is refused')
    : new FreeholdError('REQUEST_INVALID', 'the target of the request cannot be read', {
        hint: 'it begins with a slash',
      });
  const { status, headers, body } = encodeOpenAiError(error);
  return Response.json(body, { status, headers: { ...headers, 'x-request-id': `req_${randomUUID()}` } });
}

/** The adapter says "Invalid host header", or wraps the URL parser, which accepts any path that begins with a slash. */
function isAboutHost(thrown: unknown): boolean {
  return thrown instanceof Error && (/host/i.test(thrown.message) || thrown.cause !== undefined);
}

/** @throws CONFIG_INVALID, NOT_SUPPORTED */
function parseListen(text: string): { readonly host: string; readonly port: number } {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) {
    throw new FreeholdError('CONFIG_INVALID', `not an address to listen on: ${quoted(text)}`, {
      hint: 'for example 127.0.0.1:8484',
    });
  }
  switch (match[1].toLowerCase()) {
    case '127.0.0.1':
    case 'localhost':
      return { host: '127.0.0.1', port };
    case '[::1]':
      return { host: '::1', port };
    default:
      throw new FreeholdError(
        'NOT_SUPPORTED',
        `listening on ${quoted(match[1])}, beyond this machine, is refused`,
        {
          hint: 'there are no API keys yet; listen on 127.0.0.1 and put an authenticating proxy or an SSH tunnel before it',
        },
      );
  }
}

async function listen(server: Server, host: string, port: number, shown: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('listening', resolve);
  server.once('error', reject);
  server.listen({ host, port });
  try {
    await promise;
  } catch (cause) {
    switch (systemErrorCode(cause)) {
      case 'EADDRINUSE':
        throw new FreeholdError('PORT_IN_USE', `another program listens on ${shown}`, { cause });
      case 'EACCES':
        throw new FreeholdError('PERMISSION_DENIED', `not allowed to listen on ${shown}`, {
          cause,
          hint: 'ports below 1024 are for root; take another',
        });
      default:
        throw new FreeholdError('PLATFORM_UNSUPPORTED', `cannot listen on ${shown}`, { cause });
    }
  } finally {
    server.removeAllListeners('error');
  }
  // After this, errors of accepting (no descriptors left) must not end the process.
  server.on('error', () => {});
}

/**
 * Clients open connections ahead of their next request. Node counts one on which nothing was sent yet as busy, so that
 * it would hold up a stop.
 */
function unusedConnections(server: Server): () => void {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return () => {
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  };
}

async function closeGracefully(
  server: Server,
  closeUnused: () => void,
  draining: AbortController,
  stopping: AbortController,
  graceMs: number,
): Promise<void> {
  draining.abort();
  const { promise: ended, resolve } = Promise.withResolvers<'ended'>();
  server.close(() => resolve('ended'));
  // A kept-alive connection that becomes idle after close() would otherwise wait for its timeout.
  const idle = setInterval(() => {
    server.closeIdleConnections();
    closeUnused();
  }, IDLE_CHECK_MS);
  try {
    if ((await within(ended, graceMs)) === 'ended') return;
    stopping.abort(new FreeholdError('BUSY', 'the server stopped before the answer was complete'));
    if ((await within(ended, LAST_WORDS_MS)) === 'ended') return;
    server.closeAllConnections();
    await ended;
  } finally {
    clearInterval(idle);
  }
}

async function within<Result>(promise: Promise<Result>, limitMs: number): Promise<Result | 'late'> {
  const timer = new AbortController();
  try {
    return await Promise.race([promise, sleep(limitMs, 'late' as const, { signal: timer.signal })]);
  } finally {
    timer.abort();
  }
}
