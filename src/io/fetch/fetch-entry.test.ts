import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  cacheContent,
  outcomeOf,
  someBytes,
  targetFor,
  temporaryFolder,
  urlSource,
} from '../../../tests/fixtures/fetching.ts';
import { sendFile, startFileServer } from '../../../tests/fixtures/file-server.ts';
import { skipHere } from '../../../tests/fixtures/skip.ts';
import { Digest } from '../../core/base/digest.ts';
import type { Source } from './catalog-entry.ts';

const BYTES = someBytes(2_000_000);
const HEX = Digest.hex(Digest.of(BYTES));

const fileSource = (path: string): Source => ({ kind: 'file', path });

/** A server with the right bytes, and its URL as a source. */
async function goodServer(context: TestContext) {
  const server = await startFileServer((request, response) =>
    sendFile(request, response, BYTES, { etag: '"1"' }),
  );
  context.after(() => server.close());
  return { server, source: urlSource(`${server.origin}/model.gguf?token=secret`) };
}

/** Cuts and stalls: sends the first bytes, and then nothing any more. */
async function stallingServer(context: TestContext, stallAfter: number) {
  const server = await startFileServer((request, response, index) =>
    sendFile(request, response, BYTES, { etag: '"1"', ...(index === 0 ? { stallAfter } : {}) }),
  );
  context.after(() => server.close());
  return { server, source: urlSource(`${server.origin}/model.gguf`) };
}

test('what a fetch left that was killed right after its last byte is cleared away', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { source } = await goodServer(context);
  writeFileSync(join(cacheFolder, HEX), BYTES);
  for (const name of ['partial', 'partial.json']) writeFileSync(join(cacheFolder, `${HEX}.${name}`), '{}');
  assert.equal((await outcomeOf(targetFor(BYTES, [source]), { cacheFolder })).file?.source, 'cache');
  assert.deepEqual(cacheContent(cacheFolder), ['']);
});

test('wrong bytes of one source are thrown away, and the next source is asked', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { source } = await goodServer(context);
  const liar = await startFileServer((request, response) =>
    sendFile(request, response, someBytes(BYTES.length)),
  );
  context.after(() => liar.close());
  const outcome = await outcomeOf(targetFor(BYTES, [urlSource(`${liar.origin}/x?key=secret`), source]), {
    cacheFolder,
  });
  assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES));
  assert.match(outcome.reasons[0] ?? '', /^the bytes have the digest sha256:/);
  assert.deepEqual(
    outcome.events.flatMap((event) => ('source' in event ? [`${event.kind} ${event.source}`] : [])),
    [
      `source-tried ${liar.origin}/x`,
      `source-failed ${liar.origin}/x`,
      `source-tried ${outcome.file?.source}`,
    ],
  );
  assert.deepEqual(cacheContent(cacheFolder), ['']);
  assert.equal(statSync(outcome.file?.path ?? '').mode & 0o777, 0o600);
});

test('when all sources fail, each stands in the message with its reason, and no bad byte stays', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const liar = await startFileServer((request, response) =>
    sendFile(request, response, someBytes(BYTES.length)),
  );
  context.after(() => liar.close());
  const missing = join(cacheFolder, 'missing.gguf');
  const target = targetFor(BYTES, [urlSource(`${liar.origin}/x?key=secret`)]);
  const outcome = await outcomeOf(target, { cacheFolder, extraSources: [fileSource(missing)] });
  assert.equal(outcome.error?.code, 'SOURCES_EXHAUSTED');
  const [own, builtIn] = outcome.error?.message.split('; ') ?? [];
  assert.equal(own, `no source gave test-model: file ${missing} (no such file)`);
  assert.match(builtIn ?? '', /\/x \(the bytes have the digest sha256:[0-9a-f]{64}\)$/);
  assert.doesNotMatch(String(outcome.error?.stack), /secret/);
  assert.deepEqual(cacheContent(cacheFolder), []);
  const none = await outcomeOf(targetFor(BYTES, []), { cacheFolder });
  assert.equal(none.error?.message, 'test-model has no source');
});

test('what is in the cache is hashed and returned; what is damaged there is fetched again', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await goodServer(context);
  const target = targetFor(BYTES, [source]);
  const path = join(cacheFolder, HEX);
  assert.equal((await outcomeOf(target, { cacheFolder })).file?.source, `${server.origin}/model.gguf`);
  assert.deepEqual((await outcomeOf(target, { cacheFolder })).file, { path, source: 'cache' });
  assert.equal(server.requests.length, 1);

  const flipped = Buffer.from(BYTES);
  flipped[1_999_999] = (flipped[1_999_999] ?? 0) ^ 1;
  const elsewhere = join(temporaryFolder(context), 'mine');
  writeFileSync(elsewhere, BYTES);
  const damages: Record<string, () => void> = {
    'one bit': () => writeFileSync(path, flipped),
    'too short': () => writeFileSync(path, BYTES.subarray(1)),
    'too long': () => writeFileSync(path, Buffer.concat([BYTES, BYTES])),
    'a link': () => symlinkSync(elsewhere, path),
    'a folder': () => mkdirSync(path),
  };
  let requests = 1;
  for (const [what, damage] of Object.entries(damages)) {
    rmSync(path, { recursive: true });
    damage();
    const outcome = await outcomeOf(target, { cacheFolder });
    assert.equal(outcome.error, undefined, what);
    assert.equal(server.requests.length, ++requests, what);
    assert.ok(readFileSync(path).equals(BYTES), what);
  }
  assert.ok(readFileSync(elsewhere).equals(BYTES));
});

test('a file, or a folder that holds it by name or by digest, is a source', async (context) => {
  const folder = temporaryFolder(context);
  const target = targetFor(BYTES, []);
  mkdirSync(join(folder, 'named'));
  writeFileSync(join(folder, 'named', 'model.gguf'), BYTES);
  mkdirSync(join(folder, 'hashed'));
  writeFileSync(join(folder, 'hashed', HEX), BYTES);
  writeFileSync(join(folder, 'hashed', 'model.gguf'), 'an older one');
  for (const path of ['named', 'hashed', 'named/model.gguf']) {
    const outcome = await outcomeOf(target, {
      cacheFolder: temporaryFolder(context),
      extraSources: [fileSource(join(folder, path))],
      offline: true,
    });
    assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES), path);
    assert.equal(outcome.events.findLast((event) => event.kind === 'bytes-moved')?.doneBytes, BYTES.length);
  }
});

test('files that are none, too short, or may not be read, are no source', async (context) => {
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'short'), 'x');
  assert.equal(spawnSync('mkfifo', [join(folder, 'pipe')]).status, 0);
  mkdirSync(join(folder, 'empty'));
  const reasons: Record<string, RegExp> = {
    short: /^1 bytes instead of 2000000$/,
    pipe: /^not a file$/,
    empty: /^no such file$/,
    'short/below': /^cannot be read \(ENOTDIR\)$/,
  };
  for (const [name, reason] of Object.entries(reasons)) {
    const outcome = await outcomeOf(targetFor(BYTES, [fileSource(join(folder, name))]), {
      cacheFolder: temporaryFolder(context),
    });
    assert.match(outcome.reasons[0] ?? '', reason, name);
  }
});

test('offline asks no server', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await goodServer(context);
  const outcome = await outcomeOf(targetFor(BYTES, [source]), { cacheFolder, offline: true });
  assert.equal(outcome.error?.code, 'OFFLINE');
  assert.match(outcome.error?.message ?? '', /model\.gguf \(not tried: offline\)$/);
  assert.equal(server.requests.length, 0);
  await outcomeOf(targetFor(BYTES, [source]), { cacheFolder });
  assert.equal(
    (await outcomeOf(targetFor(BYTES, [source]), { cacheFolder, offline: true })).file?.source,
    'cache',
  );
});

test('cancelling keeps what came, and the next call continues there', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await stallingServer(context, 1_500_000);
  const target = targetFor(BYTES, [source]);
  const abort = new AbortController();
  const cancelled = await outcomeOf(target, {
    cacheFolder,
    signal: abort.signal,
    limits: { idleTimeoutMs: 60_000, progressIntervalMs: 0 },
    progress: (event) => {
      if (event.kind === 'bytes-moved' && event.doneBytes > 1_000_000) abort.abort();
    },
  });
  assert.equal(cancelled.error?.code, 'CANCELLED');
  assert.ok(cancelled.elapsedMs < 5000);
  assert.deepEqual(cacheContent(cacheFolder), ['.partial', '.partial.json']);
  assert.doesNotMatch(readFileSync(join(cacheFolder, `${HEX}.partial.json`), 'utf8'), /127\.0\.0\.1/);

  const outcome = await outcomeOf(target, { cacheFolder });
  assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES));
  assert.match(server.requests[1]?.headers.range ?? '', /^bytes=1\d{6}-$/);
  assert.deepEqual(cacheContent(cacheFolder), ['']);

  const before = await outcomeOf(target, { cacheFolder, signal: AbortSignal.abort() });
  assert.equal(before.error?.code, 'CANCELLED');
});

test('a beginning that was damaged on disk costs a second download, not the source', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await stallingServer(context, 1_500_000);
  const target = targetFor(BYTES, [source]);
  await outcomeOf(target, {
    cacheFolder,
    signal: AbortSignal.timeout(500),
    limits: { idleTimeoutMs: 60_000 },
  });
  const partial = join(cacheFolder, `${HEX}.partial`);
  writeFileSync(partial, Buffer.alloc(statSync(partial).size));
  const outcome = await outcomeOf(target, { cacheFolder });
  assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES));
  assert.deepEqual(
    server.requests.slice(1).map(({ headers }) => headers.range === undefined),
    [false, true],
  );
});

test('a torn note, or one of another source, begins anew; a source that fails takes nothing away', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await goodServer(context);
  const partial = join(cacheFolder, `${HEX}.partial`);
  const sidecars = ['{"source":', '[]', JSON.stringify({ source: 'another' }), 'x'.repeat(100_000)];
  for (const [index, sidecar] of sidecars.entries()) {
    writeFileSync(partial, BYTES.subarray(0, 1000));
    writeFileSync(`${partial}.json`, sidecar);
    const failed = await outcomeOf(targetFor(BYTES, [fileSource('/nowhere')]), { cacheFolder });
    assert.equal(failed.error?.code, 'SOURCES_EXHAUSTED');
    assert.equal(readFileSync(`${partial}.json`, 'utf8'), sidecar);
    const outcome = await outcomeOf(targetFor(BYTES, [source]), { cacheFolder });
    assert.equal(outcome.error, undefined);
    assert.equal(server.requests[index]?.headers.range, undefined);
    rmSync(join(cacheFolder, HEX));
  }
});

test('a link in place of the unfinished file is not followed', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { source } = await goodServer(context);
  const victim = join(temporaryFolder(context), 'victim');
  writeFileSync(victim, 'precious');
  symlinkSync(victim, join(cacheFolder, `${HEX}.partial`));
  const outcome = await outcomeOf(targetFor(BYTES, [source]), { cacheFolder });
  assert.equal(outcome.error?.code, 'PERMISSION_DENIED');
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
});

test('calls for one file at once fetch it once', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await goodServer(context);
  const outcomes = await Promise.all(
    [1, 2, 3, 4].map(() => outcomeOf(targetFor(BYTES, [source]), { cacheFolder })),
  );
  for (const { file } of outcomes) assert.ok(readFileSync(file?.path ?? '').equals(BYTES));
  assert.equal(server.requests.length, 1);
  assert.equal(outcomes.filter(({ file }) => file?.source === 'cache').length, 3);
  assert.ok(outcomes.some(({ events }) => events.some((event) => event.kind === 'step-started')));
});

/** A process of its own that fetches BYTES from `url` into `cacheFolder` and prints the source. */
function fetchingProcess(url: string, cacheFolder: string, environment: Record<string, string> = {}) {
  const module = join(import.meta.dirname, 'fetch-entry.ts');
  const target = targetFor(BYTES, [urlSource(url)]);
  const script = `
    const { fetchEntry } = await import(${JSON.stringify(module)});
    const options = { cacheFolder: ${JSON.stringify(cacheFolder)}, environment: {} };
    const done = await fetchEntry(${JSON.stringify(target)}, options).catch((error) => ({ source: error.code }));
    console.log(done.source);`;
  return spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  });
}

async function outputOf(child: ReturnType<typeof fetchingProcess>): Promise<string> {
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  await once(child, 'close');
  return text.trim();
}

test('processes that want one file at once: one fetches, all get it', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await goodServer(context);
  assert.ok(source.kind === 'url');
  const children = [1, 2, 3].map(() => fetchingProcess(source.url, cacheFolder));
  const sources = await Promise.all(children.map(outputOf));
  assert.deepEqual(sources.toSorted(), ['cache', 'cache', `${server.origin}/model.gguf`].toSorted());
  assert.equal(server.requests.length, 1);
  assert.deepEqual(cacheContent(cacheFolder), ['']);
});

test('a process that is killed leaves no lock behind, and its bytes are continued', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const { server, source } = await stallingServer(context, 1_500_000);
  assert.ok(source.kind === 'url');
  const child = fetchingProcess(source.url, cacheFolder);
  const partial = join(cacheFolder, `${HEX}.partial`);
  while (!existsSync(partial) || statSync(partial).size < 1_000_000)
    await new Promise((go) => setTimeout(go, 20));
  const waiting = outcomeOf(targetFor(BYTES, [source]), { cacheFolder });
  await new Promise((go) => setTimeout(go, 200));
  child.kill('SIGKILL');
  const outcome = await waiting;
  assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES));
  assert.match(server.requests[1]?.headers.range ?? '', /^bytes=1\d{6}-$/);
  assert.deepEqual(cacheContent(cacheFolder), ['']);
});

test('a full disk is named, nothing is left on it, and no other source is asked', async (context) => {
  const cacheFolder = temporaryFolder(context);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', cacheFolder]);
  if (mounted.status !== 0) {
    skipHere(context, 'needs the right to mount a tmpfs');
    return;
  }
  try {
    const { server, source } = await goodServer(context);
    const outcome = await outcomeOf(targetFor(BYTES, [source, source]), { cacheFolder });
    assert.equal(outcome.error?.code, 'DISK_FULL');
    assert.match(outcome.error?.hint ?? '', /free some space/);
    assert.equal(server.requests.length, 1);
    assert.deepEqual(cacheContent(cacheFolder), []);
  } finally {
    spawnSync('umount', [cacheFolder]);
  }
});

test('a cache folder that cannot be made or written is named', async (context) => {
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'file'), '');
  const target = targetFor(BYTES, [fileSource(folder)]);
  const below = await outcomeOf(target, { cacheFolder: join(folder, 'file', 'cache') });
  assert.equal(below.error?.code, 'PERMISSION_DENIED');
  const kernel = await outcomeOf(target, { cacheFolder: '/sys/freehold-cache' });
  assert.equal(kernel.error?.code, 'PERMISSION_DENIED');
  if (process.getuid?.() === 0) return;
  mkdirSync(join(folder, 'closed'));
  chmodSync(join(folder, 'closed'), 0o500);
  const closed = await outcomeOf(target, { cacheFolder: join(folder, 'closed') });
  assert.equal(closed.error?.code, 'PERMISSION_DENIED');
});

test('the cache folder is private, and only digests name what lies in it', async (context) => {
  const cacheFolder = join(temporaryFolder(context), 'deep', 'cache');
  const { source } = await goodServer(context);
  await outcomeOf(targetFor(BYTES, [source]), { cacheFolder });
  assert.equal(statSync(cacheFolder).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(cacheFolder).sort(), [HEX, `${HEX}.lock`]);
});
