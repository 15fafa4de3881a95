import net from 'node:net';
import tls from 'node:tls';
import { FreeholdError } from '../../core/base/errors.ts';
import { BlockReader } from './block-reader.ts';
import type { FetchLimits } from './fetch-limits.ts';
import { bodyFault, requestFault, TransferError } from './http-failures.ts';
import type { FileResponse } from './http-request.ts';
import { parseResponseHead, type ResponseHead } from './response-head.ts';

/** Whom to trust where no proxy stands between. */
export interface DirectLine {
  /** PEM texts, in the place of the system's authorities. */
  readonly ca?: readonly string[];
}

export interface DirectRequest {
  readonly headers: Readonly<Record<string, string>>;
  readonly limits: FetchLimits;
  readonly signal: AbortSignal;
}

const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Nothing that could end a header and begin another one. */
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;

/**
 * Sends one GET over a connection of its own: for a body of many megabytes, which so costs a third of the processor time
 * and no garbage. The pieces of the body are valid until the next one is asked for.
 * @returns undefined when the answer is not of the plain kind that is read here: the caller asks in the general way
 * @throws ConnectError, TransferError; what the body throws; the signal's reason
 */
export async function requestDirect(
  line: DirectLine,
  url: URL,
  request: DirectRequest,
): Promise<FileResponse | undefined> {
  const text = requestText(url, request.headers);
  if (text === undefined) return undefined;
  const socket = new DirectSocket(line, url, text, request);
  try {
    const answer = await readHead(socket);
    if (answer === undefined) {
      socket.close();
      return undefined;
    }
    const { head, rest } = answer;
    return {
      status: head.status,
      url,
      header: (name) => head.headers.get(name),
      body: readBody(socket, head.bodyBytes, rest),
      abandon: () => socket.close(),
    };
  } catch (error) {
    socket.close();
    if (request.signal.aborted) throw request.signal.reason;
    throw error instanceof TransferError ? error : requestFault(error, url);
  }
}

/** Undefined when something in it would not be a header. */
function requestText(url: URL, headers: DirectRequest['headers']): string | undefined {
  const all = Object.entries({ host: url.host, ...headers, connection: 'close' });
  if (!all.every(([name, value]) => HEADER_NAME.test(name) && HEADER_VALUE.test(value))) return undefined;
  const lines = all.map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

async function readHead(
  socket: DirectSocket,
): Promise<{ readonly head: ResponseHead; readonly rest: Uint8Array } | undefined> {
  let bytes: Uint8Array = new Uint8Array(0);
  for (;;) {
    const piece = await socket.read();
    if (piece === undefined) throw new TransferError(`${socket.host}: the connection was closed`);
    bytes = bytes.byteLength === 0 ? piece : Buffer.concat([bytes, piece]);
    const head = parseResponseHead(bytes);
    if (head === 'unusable') return undefined;
    if (head !== 'incomplete') {
      socket.expectBody();
      return { head, rest: bytes.subarray(head.headBytes) };
    }
    // The next piece may lie where this one is.
    bytes = Uint8Array.from(bytes);
  }
}

async function* readBody(
  socket: DirectSocket,
  bodyBytes: number,
  rest: Uint8Array,
): AsyncGenerator<Uint8Array> {
  let leftBytes = bodyBytes;
  let piece: Uint8Array | undefined = rest;
  try {
    while (leftBytes > 0) {
      // More than was announced is nobody's: the connection ends here.
      const part = piece.subarray(0, leftBytes);
      leftBytes -= part.byteLength;
      if (part.byteLength > 0) yield part;
      if (leftBytes === 0) return;
      piece = await socket.read();
      if (piece === undefined) throw new TransferError('the connection broke (it was closed)');
    }
  } catch (error) {
    if (socket.signal.aborted) throw socket.signal.reason;
    throw error instanceof FreeholdError ? error : bodyFault(error);
  } finally {
    socket.close();
  }
}

/** One connection, one request, one answer. */
class DirectSocket {
  readonly host: string;
  readonly signal: AbortSignal;
  readonly #limits: FetchLimits;
  readonly #socket: net.Socket;
  readonly #reader = new BlockReader(() => this.#socket.resume());
  /** What the other side is waited for. */
  #patience: NodeJS.Timeout;
  readonly #onAbort = () => this.#fail(this.signal.reason);
  #isBody = false;

  constructor(line: DirectLine, url: URL, text: string, { limits, signal }: DirectRequest) {
    signal.throwIfAborted();
    this.host = url.host;
    this.signal = signal;
    this.#limits = limits;
    const isTls = url.protocol === 'https:';
    this.#socket = isTls ? connectTls(line, url, this.#reader) : connectPlain(url, this.#reader);
    // With TLS not before the certificate was found right: what is sent may hold credentials.
    this.#socket.once(isTls ? 'secureConnect' : 'connect', () => {
      this.#expect(limits.headersTimeoutMs, `no answer within ${limits.headersTimeoutMs} ms`);
      this.#socket.write(text, 'latin1');
    });
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('end', () => this.#reader.end());
    this.#socket.on('close', () => this.#reader.end());
    this.#patience = this.#timer(limits.connectTimeoutMs, 'no connection in time');
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** As `BlockReader.read`; a silence of the other side is no end. */
  read(): Promise<Uint8Array | undefined> {
    if (this.#isBody) this.#patience.refresh();
    return this.#reader.read();
  }

  /** From here on silence is what is limited. */
  expectBody(): void {
    this.#isBody = true;
    clearTimeout(this.#patience);
    const { idleTimeoutMs } = this.#limits;
    this.#patience = setTimeout(() => {
      // Who reads may take its time.
      if (this.#reader.isWaiting) this.#fail(new TransferError('the server fell silent'));
    }, idleTimeoutMs);
  }

  close(): void {
    // Or a read that is left over would begin the time anew.
    this.#isBody = false;
    clearTimeout(this.#patience);
    this.signal.removeEventListener('abort', this.#onAbort);
    this.#reader.end();
    this.#socket.destroy();
  }

  #expect(timeoutMs: number, message: string): void {
    clearTimeout(this.#patience);
    this.#patience = this.#timer(timeoutMs, message);
  }

  #timer(timeoutMs: number, message: string): NodeJS.Timeout {
    return setTimeout(() => this.#fail(new FreeholdError('TIMEOUT', message)), timeoutMs);
  }

  #fail(error: unknown): void {
    this.#reader.end(error);
    this.#socket.destroy();
  }
}

function connectPlain(url: URL, { onread }: BlockReader): net.Socket {
  return net.connect({ host: hostOf(url), port: portOf(url, 80), onread });
}

function connectTls({ ca }: DirectLine, url: URL, { onread }: BlockReader): net.Socket {
  const host = hostOf(url);
  // Its types do not name what it hands on to the socket.
  const options: tls.ConnectionOptions & { readonly onread: net.OnReadOpts } = {
    host,
    port: portOf(url, 443),
    ALPNProtocols: ['http/1.1'],
    ...(net.isIP(host) === 0 ? { servername: host } : {}),
    ...(ca === undefined ? {} : { ca: [...ca] }),
    onread,
  };
  return tls.connect(options);
}

/** An IPv6 address stands in brackets in a URL only. */
const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[(.*)\]$/, '$1');
const portOf = ({ port }: URL, standard: number): number => (port === '' ? standard : Number(port));
