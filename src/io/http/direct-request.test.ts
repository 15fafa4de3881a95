import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { collectBytes } from '../../core/base/byte-source.ts';
import { type DirectRequest, requestDirect } from './direct-request.ts';
import { FETCH_LIMITS } from './fetch-limits.ts';
import { openConnections } from './http-connections.ts';
import { ConnectError, TransferError } from './http-failures.ts';
import { requestFile } from './http-request.ts';

const LIMITS = { ...FETCH_LIMITS, connectTimeoutMs: 1000, headersTimeoutMs: 300, idleTimeoutMs: 200 };
const BODY_BYTES = 5_000_000;
const BODY = Buffer.from(Uint32Array.from({ length: BODY_BYTES / 4 }, (_, index) => index).buffer);
const OK_HEAD = `HTTP/1.1 200 OK\r\nContent-Length: ${BODY_BYTES}\r\n\r\n`;

const request = (changes: Partial<DirectRequest> = {}): DirectRequest => ({
  headers: {},
  limits: LIMITS,
  signal: new AbortController().signal,
  ...changes,
});

async function listen(context: TestContext, server: Server, host = '127.0.0.1'): Promise<URL> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket.on('error', () => {}));
  });
  await once(server.listen(0, host), 'listening');
  context.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/blob?a=b`);
}

/** A server that does what its test says with the request, of which the whole text came. */
function serve(context: TestContext, answer: (socket: Socket, text: string) => unknown): Promise<URL> {
  const server = createServer((socket) => {
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      if (text.endsWith('\r\n\r\n')) answer(socket, text);
    });
  });
  return listen(context, server);
}

async function bodyOf(url: URL, changes: Partial<DirectRequest> = {}): Promise<Buffer> {
  const response = await requestDirect({}, url, request(changes));
  assert.ok(response !== undefined);
  return collectBytes(response.body, BODY_BYTES);
}

test('the request is plain, and the body comes whole, in whatever pieces it was sent', async (context) => {
  const seen: string[] = [];
  const url = await serve(context, async (socket, text) => {
    seen.push(text);
    for (const byte of OK_HEAD) socket.write(byte);
    for (let start = 0; start < BODY_BYTES; start += 333_333) {
      socket.write(BODY.subarray(start, start + 333_333));
      if (start % 2 === 0) await sleep(1);
    }
  });
  assert.ok((await bodyOf(url, { headers: { range: 'bytes=0-' } })).equals(BODY));
  assert.equal(
    seen[0],
    `GET /blob?a=b HTTP/1.1\r\nhost: ${url.host}\r\nrange: bytes=0-\r\nconnection: close\r\n\r\n`,
  );
});

test('a slow reader gets everything, from memory that is used again', async (context) => {
  const url = await serve(context, (socket) => void socket.end(Buffer.concat([Buffer.from(OK_HEAD), BODY])));
  const response = await requestDirect({}, url, request());
  const memories = new Set<ArrayBufferLike>();
  const parts: Buffer[] = [];
  for await (const piece of response?.body ?? []) {
    // Longer than the limit of silence, once: it is the reader who takes its time.
    await sleep(parts.length === 3 ? LIMITS.idleTimeoutMs * 2 : 3);
    memories.add(piece.buffer);
    parts.push(Buffer.from(piece));
  }
  assert.ok(Buffer.concat(parts).equals(BODY));
  assert.ok(memories.size <= 5, `${memories.size} blocks`);
});

test('attack: more bytes than announced are not read', async (context) => {
  const url = await serve(context, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\nmore');
  });
  assert.equal((await bodyOf(url)).toString(), 'abc');
});

test('attack: a header that would end and begin another is not sent', async (context) => {
  let asked = 0;
  const url = await serve(context, () => void asked++);
  for (const headers of [
    { range: 'a\r\nx: y' },
    { 'x\r\ny': 'z' },
    { 'x y': 'z' },
    { x: '\0' },
    { x: 'ü€' },
  ]) {
    assert.equal(await requestDirect({}, url, request({ headers })), undefined);
  }
  assert.equal(asked, 0);
});

test('a connection that breaks, closes or falls silent is a TransferError; one that is never answered is not', async (context) => {
  const part = Buffer.from(`${OK_HEAD}abc`);
  const breaks: [string, (socket: Socket) => unknown, RegExp][] = [
    ['closed in the body', (socket) => socket.end(part), /the connection broke/],
    [
      'reset in the body',
      (socket) => socket.write(part, () => setTimeout(() => socket.resetAndDestroy(), 20)),
      /broke/,
    ],
    ['silent in the body', (socket) => socket.write(part), /fell silent/],
    ['closed before the answer', (socket) => socket.end(), /closed/],
    ['closed in the head', (socket) => socket.end('HTTP/1.1 200'), /closed/],
  ];
  for (const [name, answer, reason] of breaks) {
    const url = await serve(context, answer);
    await assert.rejects(
      bodyOf(url),
      (error) => error instanceof TransferError && reason.test(error.message),
      name,
    );
  }
  const silent = await serve(context, () => {});
  await assert.rejects(
    bodyOf(silent),
    (error) => error instanceof ConnectError && /no answer/.test(error.message),
  );
  const nobody = new URL('http://127.0.0.1:1/');
  await assert.rejects(
    bodyOf(nobody),
    (error) => error instanceof ConnectError && /refused/.test(error.message),
  );
});

test('who cancels gets its reason, before the answer and inside the body', async (context) => {
  for (const sent of ['', `${OK_HEAD}abc`]) {
    const url = await serve(context, (socket) => socket.write(sent));
    const reason = new Error('enough');
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 50);
    await assert.rejects(bodyOf(url, { signal: controller.signal }), (error) => error === reason);
    await assert.rejects(bodyOf(url, { signal: controller.signal }), (error) => error === reason);
  }
});

test('a name with several addresses is reached at the one that answers', async (context) => {
  const url = await serve(context, (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
  url.hostname = 'localhost';
  assert.equal((await bodyOf(url)).toString(), 'ok');
});

test('an answer of another kind is asked for again in the general way', async (context) => {
  const connections: (string | undefined)[] = [];
  const server = createHttpServer((asked, response) => {
    connections.push(asked.headers.connection);
    // Without a length: in chunks.
    response.write('abc');
    response.end('def');
  });
  const url = await listen(context, server);
  const pool = openConnections({}, LIMITS);
  context.after(() => pool.destroy());
  const response = await requestFile(pool, {
    url,
    allowHttp: false,
    headers: {},
    bodyBytes: BODY_BYTES,
    limits: LIMITS,
    signal: new AbortController().signal,
  });
  assert.equal((await collectBytes(response.body, 10)).toString(), 'abcdef');
  assert.deepEqual(connections, ['close', 'keep-alive']);
});

test('where there is a proxy, nothing goes past it', async () => {
  const connections = openConnections({ http_proxy: 'http://127.0.0.1:1' }, LIMITS);
  assert.equal(connections.direct, undefined);
  await connections.destroy();
});
