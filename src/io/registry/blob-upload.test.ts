import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Fault, startFaultProxy } from '../../../tests/fixtures/fault-proxy.ts';
import { someBytes } from '../../../tests/fixtures/fetching.ts';
import {
  anySignal,
  blobOf,
  failureOf,
  openBytes,
  putBytes,
  readBlob,
  testFolder,
  testRepository,
} from '../../../tests/fixtures/repositories.ts';
import { startTestRegistry, type TestRegistryOptions } from '../../../tests/fixtures/test-registry.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { TransferError } from '../http/http-failures.ts';

/** Small pieces: 1 MB is a large blob. */
const LIMITS = { monolithicBytesMax: 10_000, chunkBytesMin: 50_000, chunkBytesMax: 200_000 };
const BYTES = someBytes(1_030_000);
const BLOB = blobOf(BYTES);

async function behindProxy(context: TestContext, options: TestRegistryOptions = {}) {
  const registry = await startTestRegistry(context, options);
  const proxy = await startFaultProxy(context, registry.origin);
  const uploadsFolder = testFolder(context);
  const open = () => testRepository(context, proxy.host, { limits: LIMITS, uploadsFolder });
  const isThere = async () => (await readBlob(open(), BLOB)).equals(BYTES);
  const patches = () => proxy.seen.filter(({ method }) => method === 'PATCH');
  return { registry, proxy, uploadsFolder, open, isThere, patches };
}

const sentBytes = (requests: readonly { bodyBytes: number }[]) =>
  requests.reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);

test('a large blob goes in pieces, a small one in one request; both at once are hashed and whole', async (context) => {
  const { proxy, open, isThere, patches, uploadsFolder } = await behindProxy(context);
  const place = open();
  await putBytes(place, BYTES);
  assert.ok(patches().length > 10);
  assert.equal(sentBytes(patches()), BYTES.length);
  assert.ok(await isThere());
  assert.deepEqual(readdirSync(uploadsFolder), [], 'nothing is remembered of what is done');
  proxy.seen.length = 0;
  await putBytes(place, Buffer.from('small'));
  assert.deepEqual(
    proxy.seen.map(({ method }) => method),
    ['HEAD', 'POST', 'PUT'],
  );
});

test('a piece that breaks off, an answer that is lost, 5xx: the upload goes on from what arrived', async (context) => {
  const { proxy, open, isThere, patches } = await behindProxy(context);
  const list: Record<number, Fault> = {
    2: { kind: 'drop-request', afterBytes: 20_000 },
    5: { kind: 'lose-answer' },
    8: { kind: 'answer', status: 503 },
  };
  proxy.fault = ({ method }) => (method === 'PATCH' ? list[patches().length - 1] : undefined);
  await putBytes(open(), BYTES);
  assert.ok(await isThere());
  assert.ok(sentBytes(patches()) < BYTES.length + 80_000, `${sentBytes(patches())} bytes were sent`);
});

test('another process goes on where one stopped, and re-sends next to nothing', async (context) => {
  const { open, isThere, patches, uploadsFolder } = await behindProxy(context);
  const failure = new FreeholdError('NETWORK', 'the source broke');
  const breaking = async function* (start: number) {
    yield BYTES.subarray(start, 800_000);
    throw failure;
  };
  const first = open().putBlob(BLOB, breaking, { signal: anySignal() });
  await assert.rejects(first, (thrown) => thrown === failure);
  const before = sentBytes(patches());
  assert.ok(before >= 700_000);
  const [record = ''] = readdirSync(uploadsFolder).filter((name) => name.endsWith('.json'));
  assert.equal(statSync(path.join(uploadsFolder, record)).mode & 0o777, 0o600);

  const seen: number[][] = [];
  const onBytes = (...both: number[]) => void seen.push(both);
  const outcome = await open().putBlob(BLOB, openBytes(BYTES), { signal: anySignal(), onBytes });
  assert.equal(outcome, 'written');
  assert.deepEqual(seen[0], [before, before], 'what was there before is no progress of this call');
  assert.deepEqual(seen.at(-1), [BYTES.length, before]);
  assert.equal(sentBytes(patches()), BYTES.length);
  assert.ok(await isThere());
});

test('an upload that the registry has forgotten, or whose record is torn or of a stranger, begins anew', async (context) => {
  const { registry, open, uploadsFolder } = await behindProxy(context);
  const breaking = async function* (start: number) {
    yield BYTES.subarray(start, 300_000);
    throw new FreeholdError('NETWORK', 'the source broke');
  };
  await assert.rejects(open().putBlob(BLOB, breaking, { signal: anySignal() }));
  const [name = ''] = readdirSync(uploadsFolder).filter((entry) => entry.endsWith('.json'));
  const file = path.join(uploadsFolder, name);
  const record = JSON.parse(readFileSync(file, 'utf8'));
  const spoilt = [
    { ...record, location: `${registry.origin}/v2/acme/triage/blobs/uploads/unknown` },
    { ...record, digest: `sha256:${'0'.repeat(64)}` },
    'torn',
  ];
  for (const content of spoilt) {
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    registry.repositories.get('acme/triage')?.blobs.clear();
    await putBytes(open(), BYTES);
    assert.ok((await readBlob(open(), BLOB)).equals(BYTES));
  }
});

test('attack: a record that leads to another host gets nothing, and is dropped', async (context) => {
  const { open, uploadsFolder, proxy } = await behindProxy(context);
  const breaking = async function* (start: number) {
    yield BYTES.subarray(start, 300_000);
    throw new FreeholdError('NETWORK', 'the source broke');
  };
  await assert.rejects(open().putBlob(BLOB, breaking, { signal: anySignal() }));
  const [name = ''] = readdirSync(uploadsFolder).filter((entry) => entry.endsWith('.json'));
  const file = path.join(uploadsFolder, name);
  const record = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...record, location: 'http://localhost:1/collect' }));
  await putBytes(open(), BYTES);
  assert.ok((await readBlob(open(), BLOB)).equals(BYTES));
  assert.ok(proxy.seen.every(({ url }) => !url.includes('collect')));
});

test('bytes that another upload left wrong are found at the end, and sent once more from the start', async (context) => {
  const { open, proxy, isThere } = await behindProxy(context);
  const other = someBytes(BYTES.length);
  // Somebody else's bytes under our record: a registry that mixed uploads up.
  const breaking = async function* (start: number) {
    yield other.subarray(start, 600_000);
    throw new FreeholdError('NETWORK', 'the source broke');
  };
  await assert.rejects(open().putBlob(BLOB, breaking, { signal: anySignal() }));
  await putBytes(open(), BYTES);
  assert.ok(await isThere());
  assert.equal(proxy.seen.filter(({ method }) => method === 'POST').length, 2);
});

test('a wrong digest ends the upload at the registry too, before anything is visible', async (context) => {
  const { registry, open, uploadsFolder } = await behindProxy(context);
  const wrong = { ...BLOB, digest: blobOf(Buffer.from('x')).digest };
  const putting = open().putBlob(wrong, openBytes(BYTES), { signal: anySignal() });
  assert.equal((await failureOf(putting)).code, 'DIGEST_MISMATCH');
  assert.ok(registry.asked.some((line) => line.startsWith('DELETE ')));
  assert.ok(!registry.asked.some((line) => line.startsWith('PUT ')));
  assert.deepEqual(readdirSync(uploadsFolder), []);
});

test('attack: bytes that change on the way are refused by the registry, and that is DIGEST_MISMATCH', async (context) => {
  const { open, proxy } = await behindProxy(context);
  proxy.fault = ({ method }) =>
    method === 'PUT'
      ? { kind: 'answer', status: 400, body: '{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}' }
      : undefined;
  const error = await failureOf(putBytes(open(), BYTES));
  assert.equal(error.code, 'DIGEST_MISMATCH');
  assert.match(error.message, /DIGEST_INVALID: no/);
});

test('what the source throws passes as it is, also when it looks like a fault of this registry', async (context) => {
  const { open, patches } = await behindProxy(context);
  const failure = new TransferError('the other registry broke');
  for (const length of [5_000, BYTES.length]) {
    const breaking = async function* () {
      yield BYTES.subarray(0, 3_000);
      throw failure;
    };
    const blob = { ...BLOB, sizeBytes: length };
    await assert.rejects(
      open().putBlob(blob, breaking, { signal: anySignal() }),
      (thrown) => thrown === failure,
    );
  }
  assert.equal(patches().length, 0);
});

test('a registry that limits the size of a request, or takes no pieces, gets the blob all the same', async (context) => {
  for (const options of [{ chunkBytesMax: 60_000 }, { refusesChunks: true }, { chunkBytesMin: 150_000 }]) {
    const { open, isThere, patches } = await behindProxy(context, options);
    await putBytes(open(), BYTES);
    assert.ok(await isThere(), JSON.stringify(options));
    const pieces = patches().slice(0, -1);
    if ('chunkBytesMin' in options) assert.ok(pieces.every(({ bodyBytes }) => bodyBytes >= 150_000));
  }
});

test('a small blob that a server before the registry finds too large goes in pieces', async (context) => {
  const { registry, proxy } = await behindProxy(context);
  const limits = { chunkBytesMin: 50_000, chunkBytesMax: 200_000 };
  const place = testRepository(context, proxy.host, { limits });
  proxy.fault = ({ headers }) =>
    Number(headers['content-length'] ?? 0) > 60_000 ? { kind: 'answer', status: 413 } : undefined;
  await putBytes(place, BYTES);
  assert.ok(registry.repositories.get('acme/triage')?.blobs.get(BLOB.digest)?.equals(BYTES));
});

test('a guess at another repository that may not be read does not end the push', async (context) => {
  const { open, proxy } = await behindProxy(context);
  proxy.fault = ({ url }) => (url.includes('mount=') ? { kind: 'answer', status: 401 } : undefined);
  const small = Buffer.from('small');
  const options = { signal: anySignal(), mountFrom: ['acme/secret'] };
  assert.equal(await open().putBlob(blobOf(small), openBytes(small), options), 'written');
});

test('the answer to the end may be lost: the blob is there, and is not sent again', async (context) => {
  const { open, proxy, patches } = await behindProxy(context);
  proxy.fault = ({ method }) => (method === 'PUT' ? { kind: 'lose-answer' } : undefined);
  await putBytes(open(), BYTES);
  await putBytes(open(), Buffer.from('small'));
  assert.equal(sentBytes(patches()), BYTES.length);
});

test('a registry that loses every upload ends after some, and says what it did', async (context) => {
  const { open, proxy, patches } = await behindProxy(context);
  proxy.fault = ({ method }) =>
    method === 'PATCH' && patches().length % 4 === 0 ? { kind: 'answer', status: 404 } : undefined;
  const error = await failureOf(putBytes(open(), BYTES));
  assert.equal(error.code, 'NETWORK');
  assert.match(error.message, /the registry lost the upload of sha256:/);
});

test('a blob of another repository is mounted; when it is not there, sent', async (context) => {
  const { registry, open, proxy } = await behindProxy(context);
  await putBytes(testRepository(context, registry.host, {}, 'acme/base'), BYTES);
  const mountFrom = ['acme/none', 'acme/base'];
  const never = () => assert.fail('the bytes were asked for');
  const done: number[] = [];
  const onBytes = (bytes: number) => void done.push(bytes);
  assert.equal(await open().putBlob(BLOB, never, { signal: anySignal(), mountFrom, onBytes }), 'mounted');
  assert.deepEqual(done, [BYTES.length]);

  const other = Buffer.from('nowhere yet');
  const putting = open().putBlob(blobOf(other), openBytes(other), { signal: anySignal(), mountFrom });
  assert.equal(await putting, 'written');
  assert.equal(
    proxy.seen.filter(({ method }) => method === 'DELETE').length,
    2,
    'begun uploads are given back',
  );
});

test('two uploads of one blob at once do not spoil each other', async (context) => {
  const { open, isThere } = await behindProxy(context);
  await Promise.all([putBytes(open(), BYTES), putBytes(open(), BYTES), putBytes(open(), BYTES)]);
  assert.ok(await isThere());
});

test('who cancels waits for the piece under way at most, and the next call goes on after it', async (context) => {
  const { open, patches, isThere } = await behindProxy(context);
  const controller = new AbortController();
  const reason = new Error('enough');
  const onBytes = (done: number) => {
    if (done > 500_000) controller.abort(reason);
  };
  const options = { signal: controller.signal, onBytes };
  await assert.rejects(open().putBlob(BLOB, openBytes(BYTES), options), (thrown) => thrown === reason);
  const before = sentBytes(patches());
  await putBytes(open(), BYTES);
  assert.equal(sentBytes(patches()), BYTES.length);
  assert.ok(before > 500_000);
  assert.ok(await isThere());
});
