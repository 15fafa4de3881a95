import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import {
  cacheContent,
  outcomeOf,
  QUICK,
  someBytes,
  targetFor,
  temporaryFolder,
  urlSource,
} from '../../../tests/fixtures/fetching.ts';
import { type Answer, sendFile, startFileServer } from '../../../tests/fixtures/file-server.ts';

const BYTES = someBytes(3_000_000);
const MOST = 2_970_000;
const LARGE = someBytes(10_000_000);

/** Fetches them from a server that answers so, into a fresh cache folder. */
async function fetchFrom(context: TestContext, answer: Answer, bytes = BYTES) {
  const cacheFolder = temporaryFolder(context);
  const server = await startFileServer(answer);
  context.after(() => server.close());
  const target = targetFor(bytes, [urlSource(`${server.origin}/start`)]);
  const fetchAgain = (options = {}) => outcomeOf(target, { cacheFolder, ...options });
  return { ...(await fetchAgain()), server, cacheFolder, fetchAgain, target };
}

function assertRight(outcome: { file?: { path: string }; error?: unknown; cacheFolder: string }): void {
  assert.equal(outcome.error, undefined, String(outcome.error));
  assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES));
  assert.deepEqual(cacheContent(outcome.cacheFolder), ['']);
}

/** A broken connection may take what was still in buffers with it, hardly more than this. */
const BUFFERS = 200_000;

/** The first byte that a request asked for, `-1` when it asked for all. */
const rangeStart = (request: IncomingMessage | undefined) =>
  Number(/^bytes=(\d+)-$/.exec(request?.headers.range ?? '')?.[1] ?? -1);

function assertContinued(request: IncomingMessage | undefined, bytes: number): void {
  const start = rangeStart(request);
  assert.ok(start <= bytes && start > bytes - BUFFERS, `continued at ${start} instead of about ${bytes}`);
}

const ranges = (requests: readonly IncomingMessage[]) =>
  requests.map(({ headers }) => headers.range ?? 'all');

test('a plain answer is taken, with progress that counts every byte once', async (context) => {
  const outcome = await fetchFrom(context, (request, response) => sendFile(request, response, BYTES));
  assertRight(outcome);
  const moved = outcome.events.filter((event) => event.kind === 'bytes-moved');
  assert.ok(moved.length > 2);
  assert.deepEqual(
    moved,
    moved.toSorted((left, right) => left.doneBytes - right.doneBytes),
  );
  assert.deepEqual([moved.at(-1)?.doneBytes, moved.at(-1)?.resumedBytes], [BYTES.length, 0]);
  assert.equal(outcome.server.requests[0]?.headers['accept-encoding'], 'identity');
});

test('a connection cut at 99 % is continued there', async (context) => {
  const outcome = await fetchFrom(context, (request, response, index) =>
    sendFile(request, response, BYTES, { etag: '"1"', ...(index === 0 ? { cutAfter: MOST } : {}) }),
  );
  assertRight(outcome);
  assert.equal(outcome.server.requests.length, 2);
  assertContinued(outcome.server.requests[1], MOST);
  assert.equal(outcome.server.requests[1]?.headers['if-range'], '"1"');
});

test('a connection that is reset is continued where it broke', async (context) => {
  const outcome = await fetchFrom(context, (request, response, index) =>
    sendFile(request, response, BYTES, { etag: '"1"', ...(index === 0 ? { resetAfter: MOST } : {}) }),
  );
  assertRight(outcome);
  assert.equal(outcome.server.requests.length, 2);
});

test('Last-Modified stands in for an entity tag; a weak tag is never sent', async (context) => {
  const lastModified = 'Tue, 01 Apr 2025 10:00:00 GMT';
  const outcome = await fetchFrom(context, (request, response, index) =>
    sendFile(request, response, BYTES, {
      etag: 'W/"1"',
      lastModified,
      ...(index === 0 ? { cutAfter: MOST } : {}),
    }),
  );
  assertRight(outcome);
  assert.equal(outcome.server.requests[1]?.headers['if-range'], lastModified);
});

test('a file that changed between two parts is fetched anew', async (context) => {
  const other = someBytes(BYTES.length);
  const outcome = await fetchFrom(context, (request, response, index) =>
    index === 0
      ? sendFile(request, response, other, { etag: '"old"', cutAfter: MOST })
      : sendFile(request, response, BYTES, { etag: '"new"' }),
  );
  assertRight(outcome);
  assert.equal(outcome.server.requests.length, 2);
});

test('pieces that do not belong together are noticed by the digest, and fetched anew', async (context) => {
  const other = someBytes(BYTES.length);
  const outcome = await fetchFrom(context, (request, response, index) =>
    index === 0 ? sendFile(request, response, other, { cutAfter: MOST }) : sendFile(request, response, BYTES),
  );
  assertRight(outcome);
  assertContinued(outcome.server.requests[1], MOST);
  assert.deepEqual(ranges(outcome.server.requests.slice(2)), ['all']);
});

test('a server that ignores Range begins at the beginning', async (context) => {
  const outcome = await fetchFrom(context, (request, response, index) =>
    sendFile(request, response, BYTES, { ignoreRange: true, ...(index === 0 ? { cutAfter: MOST } : {}) }),
  );
  assertRight(outcome);
});

test('bytes of another range are not put in place of those asked for', async (context) => {
  for (const contentRange of [
    'bytes 5-2999999/3000000',
    `bytes ${MOST}-2999999/*`,
    'bytes */3000000',
    'nonsense',
  ]) {
    const outcome = await fetchFrom(context, (request, response, index) =>
      sendFile(request, response, BYTES, { contentRange, ...(index === 0 ? { cutAfter: MOST } : {}) }),
    );
    assertRight(outcome);
    assertContinued(outcome.server.requests[1], MOST);
    assert.deepEqual(ranges(outcome.server.requests.slice(2)), ['all'], contentRange);
  }
});

test('a range of a file of another size ends the source', async (context) => {
  const outcome = await fetchFrom(context, (request, response, index) =>
    sendFile(request, response, BYTES, {
      contentRange: `bytes ${MOST}-2999999/4000000`,
      ...(index === 0 ? { cutAfter: MOST } : {}),
    }),
  );
  assert.deepEqual(outcome.reasons, ['the file has 4000000 bytes, not 3000000']);
  assert.deepEqual(cacheContent(outcome.cacheFolder), []);
});

test('a partial answer that nobody asked for is refused', async (context) => {
  const outcome = await fetchFrom(context, (_request, response) =>
    response.writeHead(206, { 'content-range': 'bytes 0-2999999/3000000' }).end(BYTES),
  );
  assert.deepEqual(outcome.reasons, ['HTTP status 206']);
});

test('416 begins anew', async (context) => {
  const outcome = await fetchFrom(context, (request, response, index) => {
    if (index === 0) sendFile(request, response, BYTES, { cutAfter: MOST });
    else if (index === 1) response.writeHead(416, { 'content-range': 'bytes */3000000' }).end();
    else sendFile(request, response, BYTES);
  });
  assertRight(outcome);
  assertContinued(outcome.server.requests[1], MOST);
  assert.deepEqual(ranges(outcome.server.requests.slice(2)), ['all']);
});

test('a line that brings too little each time is given up, and what came is continued later', async (context) => {
  const outcome = await fetchFrom(context, (request, response) =>
    sendFile(request, response, BYTES, { etag: '"1"', cutAfter: 400_000 }),
  );
  // Less than a megabyte an attempt: five in a row are too many, but what came is kept for the next call.
  assert.equal(outcome.server.requests.length, 5);
  assert.equal(outcome.error?.code, 'SOURCES_EXHAUSTED');
  assert.deepEqual(cacheContent(outcome.cacheFolder), ['.partial', '.partial.json']);
  const next = await outcome.fetchAgain();
  assertRight({ ...next, cacheFolder: outcome.cacheFolder });
  const start = rangeStart(outcome.server.requests[5]);
  assert.ok(start > 5 * 400_000 - 5 * BUFFERS);
  assert.equal(next.events.find((event) => event.kind === 'bytes-moved')?.resumedBytes, start);
});

test('a line that breaks every few megabytes gets everything', async (context) => {
  const outcome = await fetchFrom(
    context,
    (request, response) => sendFile(request, response, LARGE, { etag: '"1"', cutAfter: 1_500_000 }),
    LARGE,
  );
  assert.ok(outcome.file, String(outcome.error));
  assert.ok(outcome.server.requests.length > 5);
});

test('408, 429 and 5xx are tried again after the time that the server asks for', async (context) => {
  for (const status of [408, 429, 500, 503]) {
    const outcome = await fetchFrom(context, (request, response, index) => {
      if (index === 0) response.writeHead(status, status === 429 ? { 'retry-after': '1' } : {}).end('busy');
      else sendFile(request, response, BYTES);
    });
    assertRight(outcome);
    assert.equal(outcome.server.requests.length, 2);
    assert.ok(outcome.elapsedMs >= 1000 === (status === 429), `${status}: ${outcome.elapsedMs} ms`);
  }
});

test('a server that asks for an hour is left at once', async (context) => {
  const outcome = await fetchFrom(context, (_request, response) =>
    response.writeHead(503, { 'retry-after': '3600' }).end(),
  );
  assert.deepEqual(outcome.reasons, ['HTTP status 503; asks to wait 3600 s']);
  assert.equal(outcome.server.requests.length, 1);
});

test('attempts are limited', async (context) => {
  const outcome = await fetchFrom(context, (_request, response) => response.writeHead(500).end());
  assert.equal(outcome.server.requests.length, 5);
  assert.deepEqual(outcome.reasons, ['HTTP status 500']);
});

test('other answers end the source at once', async (context) => {
  for (const status of [400, 401, 403, 404, 410, 204, 304]) {
    const outcome = await fetchFrom(context, (_request, response) => response.writeHead(status).end());
    assert.deepEqual(outcome.reasons, [`HTTP status ${status}`]);
    assert.equal(outcome.server.requests.length, 1);
    if (status === 401) assert.match(outcome.error?.hint ?? '', /HF_TOKEN/);
  }
});

test('a declared length that is wrong saves the download', async (context) => {
  const outcome = await fetchFrom(context, (request, response) =>
    sendFile(request, response, BYTES.subarray(1)),
  );
  assert.deepEqual(outcome.reasons, ['the file has 2999999 bytes, not 3000000']);
  assert.equal(outcome.server.requests.length, 1);
});

test('a body longer than expected is cut off at once', async (context) => {
  let sentBytes = 0;
  const outcome = await fetchFrom(context, (_request, response) => {
    response.writeHead(200);
    const more = () => {
      if (response.destroyed || sentBytes > 200_000_000) return;
      sentBytes += BYTES.length;
      response.write(BYTES, more);
    };
    more();
  });
  assert.deepEqual(outcome.reasons, ['more than the expected 3000000 bytes']);
  assert.ok(sentBytes < 60_000_000, `${sentBytes}`);
  assert.deepEqual(cacheContent(outcome.cacheFolder), []);
});

test('a body of no declared length that ends early is asked for the rest', async (context) => {
  const outcome = await fetchFrom(context, (request, response, index) => {
    if (index === 0) response.writeHead(200).end(BYTES.subarray(0, 1000));
    else sendFile(request, response, BYTES);
  });
  assertRight(outcome);
  assert.deepEqual(ranges(outcome.server.requests), ['all', 'bytes=1000-']);
});

test('a coded body is refused', async (context) => {
  const outcome = await fetchFrom(context, (_request, response) =>
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(BYTES),
  );
  assert.deepEqual(outcome.reasons, ['the body is coded (gzip)']);
});

test('a server that says nothing is left for the next source; one that falls silent is asked again', async (context) => {
  const mute = await fetchFrom(context, () => {});
  assert.match(mute.reasons[0] ?? '', /^127\.0\.0\.1:\d+: no answer within 800 ms$/);
  assert.equal(mute.server.requests.length, 1);

  const stalled = await fetchFrom(context, (request, response, index) =>
    sendFile(request, response, BYTES, { etag: '"1"', ...(index === 0 ? { stallAfter: 500_000 } : {}) }),
  );
  assertRight(stalled);
  assertContinued(stalled.server.requests[1], 500_000);
});

test('nobody listening, an unknown name and a mute address end the source quickly', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const closed = await startFileServer(() => {});
  await closed.close();
  const refused = await outcomeOf(targetFor(BYTES, [urlSource(closed.origin)]), { cacheFolder });
  assert.match(refused.reasons[0] ?? '', /connection refused$/);
  const unknown = targetFor(BYTES, [urlSource('https://freehold.invalid/x')]);
  const lookup = await outcomeOf(unknown, { cacheFolder });
  assert.match(lookup.reasons[0] ?? '', /^freehold\.invalid: (the name |no )/);
  // TEST-NET-1 (RFC 5737): no route, or packets that nobody answers.
  const nowhere = await outcomeOf(targetFor(BYTES, [urlSource('https://192.0.2.1/x')]), { cacheFolder });
  assert.equal(nowhere.reasons.length, 1);
  for (const { elapsedMs } of [refused, lookup, nowhere]) assert.ok(elapsedMs < 3000, `${elapsedMs} ms`);
});

test('something that is no HTTP server ends the source', async (context) => {
  const server = createTcpServer((socket) => socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.2\r\n'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const target = targetFor(BYTES, [urlSource(`http://127.0.0.1:${port}/`)]);
  const outcome = await outcomeOf(target, { cacheFolder: temporaryFolder(context), limits: QUICK });
  assert.equal(outcome.error?.code, 'SOURCES_EXHAUSTED');
});

test('redirects are followed, up to a limit, and the file is resumed behind them', async (context) => {
  const outcome = await fetchFrom(context, (request, response, index) => {
    if (request.url === '/start') response.writeHead(302, { location: '/files/model?signature=1' }).end();
    else sendFile(request, response, BYTES, { etag: '"1"', ...(index === 1 ? { cutAfter: MOST } : {}) });
  });
  assertRight(outcome);
  assert.deepEqual(outcome.server.requests.map(({ url }) => url).slice(0, 3), [
    '/start',
    '/files/model?signature=1',
    '/start',
  ]);

  const loop = await fetchFrom(context, (_request, response) =>
    response.writeHead(307, { location: '/again' }).end(),
  );
  assert.deepEqual(loop.reasons, ['more than 8 redirects']);
});

test('redirects to other schemes, plain http elsewhere or with credentials are refused', async (context) => {
  const cases = {
    'http://192.0.2.1/x': /^will not fetch from "http:\/\/192\.0\.2\.1": not https$/,
    'file:///etc/passwd': /^will not fetch from "file:\/\/": not https$/,
    'http://user:word@127.0.0.1/x': /^a redirect with a user or password in it$/,
    'http://[': /^a redirect without a readable Location$/,
  };
  for (const [location, reason] of Object.entries(cases)) {
    const outcome = await fetchFrom(context, (_request, response) =>
      response.writeHead(302, { location }).end(),
    );
    assert.match(outcome.reasons[0] ?? '', reason);
  }
});

test('a token goes to the host that it is for, not along a redirect to another', async (context) => {
  const elsewhere = await startFileServer((request, response) => sendFile(request, response, BYTES));
  context.after(() => elsewhere.close());
  const hub = await startFileServer((_request, response) =>
    response.writeHead(302, { location: `${elsewhere.origin}/blob` }).end(),
  );
  context.after(() => hub.close());
  const revision = 'a'.repeat(40);
  const target = targetFor(BYTES, [
    { kind: 'huggingface', repo: 'acme/model', revision, file: 'sub folder/m.gguf' },
  ]);
  const cacheFolder = temporaryFolder(context);
  const environment = { HF_ENDPOINT: `${hub.origin}/`, HF_TOKEN: 'hf_secret\n' };
  const outcome = await outcomeOf(target, { cacheFolder, environment });
  assertRight({ ...outcome, cacheFolder });
  assert.equal(hub.requests[0]?.url, `/acme/model/resolve/${revision}/sub%20folder/m.gguf`);
  assert.equal(hub.requests[0]?.headers.authorization, 'Bearer hf_secret');
  assert.equal(elsewhere.requests[0]?.headers.authorization, undefined);
});

test('an HF_ENDPOINT that would send the token in the clear is refused', async (context) => {
  const target = targetFor(BYTES, [
    { kind: 'huggingface', repo: 'acme/model', revision: 'a'.repeat(40), file: 'm.gguf' },
  ]);
  for (const HF_ENDPOINT of ['http://192.0.2.1', 'ftp://x.example', 'nonsense', 'https://a:b@x.example']) {
    const outcome = await outcomeOf(target, {
      cacheFolder: temporaryFolder(context),
      environment: { HF_ENDPOINT },
    });
    assert.match(outcome.reasons[0] ?? '', /HF_ENDPOINT must be an https URL/);
  }
});
