import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Fault, type FaultProxy, startFaultProxy } from '../../../tests/fixtures/fault-proxy.ts';
import { someBytes } from '../../../tests/fixtures/fetching.ts';
import { startFileServer } from '../../../tests/fixtures/file-server.ts';
import {
  anySignal,
  failureOf,
  putBytes,
  readBlob,
  testRepository,
} from '../../../tests/fixtures/repositories.ts';
import { startTestRegistry } from '../../../tests/fixtures/test-registry.ts';
import type { BlobReference } from '../../core/format/artifact-place.ts';
import { rateLimit } from './rate-limit.ts';
import type { Repository } from './repository.ts';

const BYTES = someBytes(3_000_000);

/** A registry with one blob, behind a proxy that does what its test says with requests for that blob. */
async function behindProxy(context: TestContext) {
  const registry = await startTestRegistry(context);
  const blob = await putBytes(testRepository(context, registry.host), BYTES);
  const proxy = await startFaultProxy(context, registry.origin);
  return { blob, proxy, registry, place: testRepository(context, proxy.host) };
}

/** The n-th request for the blob meets the n-th fault. */
function faults(proxy: FaultProxy, list: readonly (Fault | undefined)[]): void {
  let index = 0;
  proxy.fault = ({ url }) => (url.includes('/blobs/') ? list[index++] : undefined);
}

const ranges = (proxy: FaultProxy) =>
  proxy.seen.filter(({ url }) => url.includes('/blobs/')).map(({ headers }) => headers.range);

async function isWhole(place: Repository, blob: BlobReference): Promise<void> {
  assert.ok((await readBlob(place, blob)).equals(BYTES));
}

test('a connection that breaks or falls silent is taken up where it was', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  faults(proxy, [
    { kind: 'drop', afterBytes: 1_000_000 },
    { kind: 'stall', afterBytes: 500_000 },
    { kind: 'drop', afterBytes: 1 },
  ]);
  await isWhole(place, blob);
  assert.deepEqual(ranges(proxy), [
    undefined,
    'bytes=1000000-2999999',
    'bytes=1500000-2999999',
    'bytes=1500001-2999999',
  ]);
});

test('a part of a blob that breaks is taken up too, and ends where it should', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  faults(proxy, [{ kind: 'drop', afterBytes: 400_000 }, { kind: 'ignore-range' }]);
  const part = await readBlob(place, blob, 100_000, 1_100_000);
  assert.ok(part.equals(BYTES.subarray(100_000, 1_100_000)));
  assert.deepEqual(ranges(proxy), ['bytes=100000-1099999', 'bytes=500000-1099999']);
});

test('attack: the answer to a range is another range, admitted or not, or the whole blob', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  const drop: Fault = { kind: 'drop', afterBytes: 1_000_000 };
  faults(proxy, [drop, { kind: 'shift-range', bytes: 7, isAdmitted: true }]);
  await isWhole(place, blob);
  assert.deepEqual(
    ranges(proxy).slice(2),
    [undefined],
    'then the whole blob is asked for, and what is known left out',
  );

  faults(proxy, [drop, { kind: 'ignore-range' }]);
  await isWhole(place, blob);

  // Unadmitted, the bytes are as many as promised minus the shift: too few, and then the right rest follows.
  // Without a length the answer is asked for twice: the plain way, then the general one.
  const shift: Fault = { kind: 'shift-range', bytes: 7, isAdmitted: false };
  faults(proxy, [drop, shift, shift]);
  const bytes = await readBlob(place, blob);
  assert.equal(bytes.byteLength, BYTES.byteLength);
  assert.ok(!bytes.equals(BYTES), 'only the digest can tell, which is the part of who reads');
});

test('attack: other lengths than the manifest says are SIZE_MISMATCH at once', async (context) => {
  const { blob, place } = await behindProxy(context);
  for (const sizeBytes of [BYTES.byteLength - 1, BYTES.byteLength + 1]) {
    for (const startBytes of [0, 5]) {
      const error = await failureOf(readBlob(place, { ...blob, sizeBytes }, startBytes));
      assert.equal(error.code, 'SIZE_MISMATCH');
    }
  }
});

test('attack: endless data is cut off', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  faults(proxy, [{ kind: 'endless' }, { kind: 'endless' }]);
  const error = await failureOf(readBlob(place, blob));
  assert.equal(error.code, 'SIZE_MISMATCH');
  faults(proxy, [{ kind: 'drop', afterBytes: 100 }, { kind: 'endless' }, { kind: 'endless' }]);
  assert.equal((await failureOf(readBlob(place, blob))).code, 'SIZE_MISMATCH');
});

test('attack: headers without end, a coded body', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  proxy.fault = () => ({ kind: 'headers', headers: { 'x-long': 'x'.repeat(60_000) } });
  const error = await failureOf(readBlob(place, blob));
  assert.equal(error.code, 'NETWORK');
  assert.match(error.message, /headers of the answer are too large/);
  faults(proxy, [{ kind: 'headers', headers: { 'content-encoding': 'gzip' } }]);
  assert.match((await failureOf(readBlob(place, blob))).message, /another coding \(gzip\)/);
});

test('a server that breaks every answer ends after some attempts; one that gets on does not', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  proxy.fault = ({ url }) => (url.includes('/blobs/') ? { kind: 'drop', afterBytes: 1000 } : undefined);
  const error = await failureOf(readBlob(place, blob));
  assert.equal(error.code, 'NETWORK');
  assert.match(error.message, /acme\/triage: sha256:[0-9a-f]{64}, at byte 5000 of 3000000/);
  assert.equal(ranges(proxy).length, 5);

  const patient = testRepository(context, proxy.host, { limits: { attemptsMax: 2 } });
  proxy.fault = ({ url }) => (url.includes('/blobs/') ? { kind: 'drop', afterBytes: 1_100_000 } : undefined);
  await isWhole(patient, blob);
});

test('a burst of 5xx and 429 is waited out, as long as Retry-After says', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  faults(proxy, [
    { kind: 'answer', status: 503 },
    { kind: 'answer', status: 429, headers: { 'retry-after': '1' } },
    { kind: 'answer', status: 500, body: '{"errors":[{"code":"UNKNOWN"}]}' },
  ]);
  const startMs = performance.now();
  await isWhole(place, blob);
  assert.ok(performance.now() - startMs >= 950);
});

test('a storm of 429 ends with an error that says so; one that asks for an hour ends at once', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  proxy.fault = () => ({ kind: 'answer', status: 429 });
  const requests = [
    () => readBlob(place, blob),
    () => place.tags(anySignal()),
    () => place.manifest({ tag: 'a' }, anySignal()),
  ];
  for (const request of requests) {
    const error = await failureOf(request());
    assert.equal(error.code, 'NETWORK');
    assert.match(error.message, /429/);
  }
  proxy.fault = () => ({ kind: 'answer', status: 429, headers: { 'retry-after': '3600' } });
  const startMs = performance.now();
  assert.match((await failureOf(place.tags(anySignal()))).message, /asks to wait 3600 s/);
  assert.ok(performance.now() - startMs < 1000);
});

test('a blob behind a redirect is taken up through the registry, whose addresses end', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  const storage = await startFileServer((request, response, index) => {
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (index === 1 || index === 2) return response.writeHead(403).end('<Error>expired</Error>');
    response.writeHead(start === 0 ? 200 : 206, {
      'content-length': BYTES.length - start,
      ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${BYTES.length - 1}/${BYTES.length}` }),
    });
    if (index === 0)
      response.write(BYTES.subarray(0, 1_000_000), () => setTimeout(() => response.destroy(), 20));
    else response.end(BYTES.subarray(start));
  });
  context.after(() => storage.close());
  proxy.fault = ({ url }) =>
    url.includes('/blobs/')
      ? { kind: 'answer', status: 307, headers: { location: `${storage.origin}/signed` } }
      : undefined;
  await isWhole(place, blob);
  assert.equal(proxy.seen.filter(({ url }) => url.includes('/blobs/')).length, 3);
});

test('a reader can be slow: nothing is kept in memory for it, and nothing breaks', async (context) => {
  const { blob, place } = await behindProxy(context);
  const parts: Uint8Array[] = [];
  for await (const part of place.blob(blob, { startBytes: 0 }, anySignal())) {
    parts.push(Uint8Array.from(part));
    if (parts.length % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 30));
  }
  assert.ok(Buffer.concat(parts).equals(BYTES));
});

test('the rate is kept over all blobs that share it', async (context) => {
  const { blob, proxy } = await behindProxy(context);
  const clock = {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)),
  };
  const rate = rateLimit(6_000_000, clock);
  const places = [
    testRepository(context, proxy.host, { rate }),
    testRepository(context, proxy.host, { rate }),
  ];
  const startMs = performance.now();
  await Promise.all(places.map((place) => isWhole(place, blob)));
  assert.ok(performance.now() - startMs > 700, `${performance.now() - startMs} ms`);
});

test('nobody there is said at once, and a cancelled read gives its reason', async (context) => {
  const { blob, proxy, place } = await behindProxy(context);
  const error = await failureOf(readBlob(testRepository(context, '127.0.0.1:1'), blob));
  assert.match(error.message, /127\.0\.0\.1:1: connection refused/);
  faults(proxy, [{ kind: 'stall', afterBytes: 100_000 }]);
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error('enough')), 50);
  await assert.rejects(async () => {
    for await (const _ of place.blob(blob, { startBytes: 0 }, controller.signal));
  }, /enough/);
});
