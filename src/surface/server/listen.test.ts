import assert from 'node:assert/strict';
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { createTestApp, eventsOf, type TestApp } from '../../../tests/fixtures/http-app.ts';
import { BODY_BYTES_MAX } from './json-body.ts';
import { type RunningServer, startServer } from './listen.ts';

/** Short enough for a test, long enough for a busy machine. */
const LIMITS = { headersTimeoutMs: 300, requestTimeoutMs: 1500, connectionsMax: 8, checkIntervalMs: 50 };
const CHAT = { model: 'scripted', messages: [{ role: 'user', content: 'hi' }] };
const CHAT_PATH = '/v1/chat/completions';

let tested: TestApp;
let server: RunningServer;

before(async () => {
  tested = createTestApp();
  server = await startServer({ app: tested.app, listen: '127.0.0.1:0', limits: LIMITS });
});
after(() => server.close({ graceMs: 0 }));

/** Everything that a raw connection gets until its end. */
function talk(port: number, write: (socket: Socket) => void): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes;
  });
  socket.on('error', () => {});
  socket.on('close', () => resolve(text));
  socket.on('connect', () => write(socket));
  return promise;
}

function postChat(port: number, body: object, agent?: Agent): ClientRequest {
  const headers = { 'content-type': 'application/json' };
  const options = { host: '127.0.0.1', port, path: CHAT_PATH, method: 'POST', headers };
  const request = httpRequest(agent === undefined ? options : { ...options, agent });
  request.end(JSON.stringify(body));
  return request;
}

function responseOf(request: ClientRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  request.on('response', resolve);
  request.on('error', reject);
  return promise;
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const bytes of response) text += bytes;
  return text;
}

async function until(condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + 2000;
  while (!condition()) {
    assert.ok(performance.now() < untilMs, 'waited in vain');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('raw requests with a wrong Host or target are refused in the shape of an error', async () => {
  const cases: readonly [string, number, string][] = [
    ['GET /healthz HTTP/1.1\r\nHost: localhost\r\n', 200, '"ok"'],
    ['GET /healthz HTTP/1.0\r\n', 403, 'host_refused'],
    ['GET /healthz HTTP/1.1\r\nHost: evil.example\r\n', 403, 'host_refused'],
    ['GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n', 403, 'host_refused'],
    ['GET /healthz HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n', 403, 'host_refused'],
    ['GET /healthz HTTP/1.1\r\nHost: local host\r\n', 403, 'host_refused'],
    ['GET /healthz HTTP/1.1\r\nHost: localhost/x\r\n', 403, 'host_refused'],
    ['GET /healthz HTTP/1.1\r\nHost: evil@localhost\r\n', 403, 'host_refused'],
    ['GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n', 403, 'host_refused'],
    ['GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n', 403, 'host_refused'],
    ['OPTIONS * HTTP/1.1\r\nHost: localhost\r\n', 400, 'request_invalid'],
    ['GET /a\\b HTTP/1.1\r\nHost: localhost\r\n', 400, 'request_invalid'],
    ['GET /v1/models/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n', 404, 'route_not_found'],
    ['TRACE /healthz HTTP/1.1\r\nHost: localhost\r\n', 405, 'method_not_allowed'],
    ['PROPFIND /v1/models HTTP/1.1\r\nHost: localhost\r\n', 405, 'method_not_allowed'],
    [
      'GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n',
      200,
      '"ok"',
    ],
  ];
  for (const [head, status, content] of cases) {
    const close = head.includes('Connection:') ? '' : 'Connection: close\r\n';
    const answer = await talk(server.port, (socket) => {
      socket.write(`${head}${close}\r\n`);
      if (close === '') setTimeout(() => socket.destroy(), 200);
    });
    assert.match(answer, new RegExp(`^HTTP/1\\.[01] ${status} `), head);
    assert.ok(answer.includes(content), `${head}\n${answer}`);
    assert.match(answer, /\r\nx-request-id: req_/i, head);
  }
});

test('what is no HTTP is answered with 400 or cut off', async () => {
  const garbage = [
    '\0\0\0\0',
    'GET /\r\n\r\n',
    'hello\r\n\r\n',
    `GET / HTTP/1.1\r\nHost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
  ];
  for (const text of garbage) {
    const answer = await talk(server.port, (socket) => socket.write(text));
    assert.match(answer, /^(?:HTTP\/1\.1 4\d\d |$)/);
  }
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
});

test('slow senders are cut off, and others are served meanwhile', async () => {
  const startMs = performance.now();
  const slowHead = talk(server.port, (socket) => {
    socket.write('POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n');
    const timer = setInterval(() => socket.write('x-a: b\r\n'), 50);
    socket.on('close', () => clearInterval(timer));
  });
  const headEnded = slowHead.then(() => performance.now() - startMs);
  const slowBody = talk(server.port, (socket) => {
    const head = 'POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';
    socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
    const timer = setInterval(() => socket.write('1\r\n \r\n'), 50);
    socket.on('close', () => clearInterval(timer));
  });
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
  for (const answer of await Promise.all([slowHead, slowBody]))
    assert.match(answer, /^(?:HTTP\/1\.1 408 |$)/);
  assert.ok((await headEnded) < LIMITS.requestTimeoutMs, 'headers have a shorter limit of their own');
  assert.ok(performance.now() - startMs < 5000);
});

test('a body over the limit is refused, declared or not', async () => {
  const declared = await talk(server.port, (socket) => {
    const head = `POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;
    socket.write(`${head}Content-Length: ${BODY_BYTES_MAX + 1}\r\n\r\n`);
  });
  assert.match(declared, /^HTTP\/1\.1 413 [\s\S]*"body_too_large"/);
  const chunked = await talk(server.port, (socket) => {
    const head = `POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;
    socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
    const chunk = `100000\r\n${' '.repeat(0x100000)}\r\n`;
    for (let sent = 0; sent <= BODY_BYTES_MAX; sent += 0x100000) socket.write(chunk);
  });
  assert.match(chunked, /^HTTP\/1\.1 413 [\s\S]*"body_too_large"/);
});

test('a chunked body within the limit is read', async () => {
  const answer = await talk(server.port, (socket) => {
    const text = JSON.stringify(CHAT);
    const head = `POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n`;
    const chunks = [...text].map((character) => `1\r\n${character}\r\n`).join('');
    socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`);
  });
  assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*Hello there\./);
});

test('connections beyond the limit are closed, and there is room again afterwards', async () => {
  const sockets = await Promise.all(
    Array.from({ length: LIMITS.connectionsMax + 4 }, async () => {
      const socket = connect(server.port, '127.0.0.1');
      socket.on('error', () => {});
      await new Promise((resolve) => socket.once('connect', resolve));
      return socket;
    }),
  );
  await until(() => sockets.filter((socket) => socket.readyState === 'closed').length >= 4);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
});

test('each event is sent when it happens, and the connection survives the end of the stream', async () => {
  const gate = Promise.withResolvers<void>();
  tested.model.script = { gate: { at: 2, opened: gate.promise } };
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const first = await responseOf(postChat(server.port, { ...CHAT, stream: true }, agent));
    const { socket } = first;
    let text = '';
    for await (const bytes of first) {
      text += bytes;
      // The gate opens only because these two came through on their own.
      if (eventsOf(text).length === 2) gate.resolve();
    }
    assert.equal(eventsOf(text).at(-1), '[DONE]');
    const second = await responseOf(postChat(server.port, CHAT, agent));
    assert.equal(second.statusCode, 200);
    assert.equal(second.socket, socket, 'the same connection');
    await textOf(second);
  } finally {
    agent.destroy();
  }
});

test('a connection that is torn in mid-stream cancels the generation', async () => {
  // The gate never opens: only a cancellation can end it.
  tested.model.script = { gate: { at: 2, opened: new Promise(() => {}) } };
  const response = await responseOf(postChat(server.port, { ...CHAT, stream: true }));
  response.on('error', () => {});
  await new Promise((resolve) => response.once('data', resolve));
  assert.equal(tested.model.runningCount, 1);
  response.socket.resetAndDestroy();
  await until(() => tested.model.runningCount === 0);
});

test('a stop lets running answers end, and does not wait for the connections that stay', async () => {
  const own = createTestApp();
  const running = await startServer({ app: own.app, listen: 'localhost:0' });
  const gate = Promise.withResolvers<void>();
  own.model.script = { gate: { at: 2, opened: gate.promise } };
  const agent = new Agent({ keepAlive: true });
  const response = await responseOf(postChat(running.port, { ...CHAT, stream: true }, agent));
  const closed = running.close();
  assert.equal(running.close(), closed, 'closing twice is closing once');
  await assert.rejects(fetch(`${running.url}/healthz`), 'nothing new is taken');
  gate.resolve();
  assert.equal(eventsOf(await textOf(response)).at(-1), '[DONE]');
  const startMs = performance.now();
  await closed;
  assert.ok(performance.now() - startMs < 2000);
  agent.destroy();
});

test('a stop cancels what does not end in time, and says so', async () => {
  const own = createTestApp();
  const running = await startServer({ app: own.app, listen: '127.0.0.1:0' });
  own.model.script = { gate: { at: 2, opened: new Promise(() => {}) } };
  const streamed = await responseOf(postChat(running.port, { ...CHAT, stream: true }));
  const whole = responseOf(postChat(running.port, CHAT));
  await until(() => own.model.runningCount === 2);
  const closed = running.close({ graceMs: 50 });
  const last = JSON.parse(eventsOf(await textOf(streamed)).at(-1) ?? '');
  assert.equal(last.error.code, 'busy');
  assert.equal((await whole).statusCode, 503);
  (await whole).resume();
  await closed;
  assert.equal(own.model.cancelledCount, 2);
});

test('addresses', async () => {
  const { app } = tested;
  const refuse = (listen: string, code: string) =>
    assert.rejects(startServer({ app, listen }), { code }, listen);
  for (const listen of ['0.0.0.0:0', '[::]:0', '192.168.1.5:0', 'models.example:0'])
    await refuse(listen, 'NOT_SUPPORTED');
  for (const listen of [
    '',
    '127.0.0.1',
    '127.0.0.1:',
    ':8484',
    '127.0.0.1:65536',
    '::1:5',
    'http://localhost:1',
  ]) {
    await refuse(listen, 'CONFIG_INVALID');
  }
  await refuse(`127.0.0.1:${server.port}`, 'PORT_IN_USE');
});
