import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { Digest } from '../../src/core/base/digest.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { listInstalled } from '../../src/surface/app/package-list.ts';
import { checkStore } from '../../src/surface/app/store-upkeep.ts';
import { sendFile, startFileServer } from '../fixtures/file-server.ts';
import {
  freehold,
  freeholdInProcess,
  outcomeOf,
  temporaryFolder,
  temporaryHome,
} from '../fixtures/freehold-home.ts';
import { realModel } from '../fixtures/real-models.ts';
import { type RunningFreehold, startFreehold } from '../fixtures/running-freehold.ts';
import { tinyModelBytes } from '../fixtures/tiny-model.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

const STARTER = 'smollm2-135m-instruct';
/**
 * An install makes about 35 files and folders, temporary ones included: it is killed when so many have been seen, from
 * "the home is being made" to "the entry is being listed".
 */
const KILL_AFTER_NAMES = [4, 14, 20, 26, 30, 32, 33, 34, 35];

test('two installs of one package at once both end well, with one entry', async (context) => {
  await realModel(STARTER);
  const home = await temporaryHome(context);
  const results = await Promise.all(
    [1, 2].map(() => freehold(['install', `catalog:${STARTER}`, '--json'], { home })),
  );
  for (const { code, stderr } of results) assert.equal(code, 0, stderr);
  const digests = results.map(
    ({ stdout }) => JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '').manifestDigest,
  );
  await assertInstalled(home, [`catalog/${STARTER}`]);
  const [row] = await listInstalled(await openFreehold({ env: {}, home }));
  assert.ok(digests.includes(row?.manifestDigest), 'the entry is what one of the two made');
});

test('four installs from folders at once, of two packages: all end well, with one entry each', async (context) => {
  const folder = await temporaryFolder(context);
  const publisher = path.join(folder, 'publisher');
  const opened = await openFreehold({ env: {}, home: publisher });
  for (const name of ['acme/tiny', 'acme/other']) {
    await installTinyPackage(opened, path.join(folder, name), { name });
    await freehold(['export', name, path.join(folder, 'out', name)], { home: publisher });
  }
  const home = await temporaryHome(context);
  await writeFile(path.join(home, 'trust.yaml'), await readFile(path.join(publisher, 'trust.yaml')), {
    mode: 0o600,
  });
  const sources = Array.from({ length: 4 }, (_, index) =>
    path.join(folder, 'out', index % 2 === 0 ? 'acme/tiny' : 'acme/other'),
  );
  const results = await Promise.all(
    sources.map((source) => freehold(['install', `file:${source}`], { home })),
  );
  for (const { code, stderr } of results) assert.equal(code, 0, stderr);
  await assertInstalled(home, ['acme/other', 'acme/tiny']);
});

test('an install that is killed at any moment leaves it absent or complete, and the next one ends well', async (context) => {
  const folder = await temporaryFolder(context);
  const bytes = await tinyModelBytes();
  await writeFile(path.join(folder, 'tiny.gguf'), bytes);
  const outcomes = new Map<string, number>();
  for (const namesSeen of KILL_AFTER_NAMES) {
    const home = await temporaryHome(context);
    await writeMirrors(home, bytes, [{ file: path.join(folder, 'tiny.gguf') }]);
    const install = startFreehold(context, ['install', 'catalog:tiny'], { home });
    await waitForNames(home, namesSeen, install);
    const { signal } = await install.stop('SIGKILL');
    const rows = await listInstalled(await openFreehold({ env: {}, home }));
    const outcome = signal === null ? 'was done' : rows.length === 0 ? 'absent' : 'complete';
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    const again = await freeholdInProcess(['install', 'catalog:tiny'], home);
    assert.equal(again.code, 0, `after ${namesSeen} names: ${again.stderr}`);
    await assertInstalled(home, ['catalog/tiny']);
    const collected = await freeholdInProcess(['gc'], home);
    assert.equal(collected.code, 0, collected.stderr);
    await assertInstalled(home, ['catalog/tiny']);
  }
  context.diagnostic(JSON.stringify(Object.fromEntries(outcomes)));
  assert.ok((outcomes.get('absent') ?? 0) >= 3, 'some were killed before the entry was there');
});

test('wrong bytes from a source: the next one is tried, and nothing of the bad bytes is left', async (context) => {
  const folder = await temporaryFolder(context);
  const right = await tinyModelBytes();
  const flipped = Buffer.from(right);
  flipped[1_000_000] = (flipped[1_000_000] ?? 0) ^ 1;
  const wrong: Record<string, Buffer> = {
    'flipped.gguf': flipped,
    'short.gguf': right.subarray(0, -1),
    'long.gguf': Buffer.concat([right, Buffer.from('x')]),
    'empty.gguf': Buffer.alloc(0),
    'page.gguf': Buffer.from('<html>404</html>'),
  };
  for (const [name, bytes] of Object.entries(wrong)) await writeFile(path.join(folder, name), bytes);
  await writeFile(path.join(folder, 'right.gguf'), right);
  await using server = await startFileServer((request, response) => sendFile(request, response, flipped));
  const bad = [
    { url: `${server.origin}/tiny.gguf` },
    { url: 'http://127.0.0.1:9/tiny.gguf' },
    { file: path.join(folder, 'absent.gguf') },
    ...Object.keys(wrong).map((name) => ({ file: path.join(folder, name) })),
  ];
  const home = await temporaryHome(context);
  await writeMirrors(home, right, bad);
  const refused = await freehold(['install', 'catalog:tiny'], { home });
  assert.equal(outcomeOf(refused), 'SOURCES_EXHAUSTED', refused.stderr);
  assert.equal(refused.code, 6);
  for (const name of [server.origin, '127.0.0.1:9', 'absent.gguf', ...Object.keys(wrong)]) {
    assert.ok(refused.stderr.includes(name), `${name} is named:\n${refused.stderr}`);
  }
  await assertInstalled(home, []);
  for (const bytes of Object.values(wrong)) await assertNowhere(home, bytes);

  await writeMirrors(home, right, [...bad, { file: path.join(folder, 'right.gguf') }]);
  const installed = await freehold(['install', 'catalog:tiny'], { home });
  assert.equal(installed.code, 0, installed.stderr);
  assert.ok(server.requests.length >= 2, 'every source was asked, in order');
  await assertInstalled(home, ['catalog/tiny']);
  for (const bytes of Object.values(wrong)) await assertNowhere(home, bytes);
});

test('a licence that must be accepted: refused without, naming licence and option; nothing is fetched', async (context) => {
  const folder = await temporaryFolder(context);
  const bytes = await tinyModelBytes();
  await writeFile(path.join(folder, 'tiny.gguf'), bytes);
  const home = await temporaryHome(context);
  await writeMirrors(home, bytes, [{ file: path.join(folder, 'tiny.gguf') }], true);
  const refused = await freehold(['install', 'catalog:tiny'], { home, input: 'yes\n' });
  assert.equal(outcomeOf(refused), 'LICENSE_NOT_ACCEPTED', 'an answer that is piped in is no acceptance');
  assert.match(refused.stderr, /LicenseRef-Acme/);
  assert.match(refused.stderr, /--accept-license/);
  await assertNowhere(home, bytes);
  const accepted = await freehold(['install', 'catalog:tiny', '--accept-license'], { home });
  assert.equal(accepted.code, 0, accepted.stderr);
  await assertInstalled(home, ['catalog/tiny']);
});

async function writeMirrors(
  home: string,
  bytes: Buffer,
  sources: readonly object[],
  mustAccept = false,
): Promise<void> {
  const entry = {
    title: 'Tiny',
    description: 'Random weights.',
    fileName: 'tiny.gguf',
    sizeBytes: bytes.byteLength,
    digest: Digest.of(bytes),
    license: 'LicenseRef-Acme',
    licenseUrl: 'https://acme.example/licence',
    mustAccept,
    parameterCount: 1_000_000,
    architecture: 'llama',
    contextTokens: 512,
    quantization: 'F32',
    sources,
  };
  await writeFile(path.join(home, 'mirrors.yaml'), stringify({ entries: { tiny: entry } }));
}

/** Exactly these packages, each once, and not a byte damaged. */
async function assertInstalled(home: string, names: readonly string[]): Promise<void> {
  const opened = await openFreehold({ env: {}, home });
  assert.deepEqual(
    (await listInstalled(opened)).map(({ name }) => name),
    names,
  );
  const report = await checkStore(opened, new AbortController().signal);
  assert.deepEqual(report.problems, []);
}

/** No file of the home has these bytes, not even under another name. */
async function assertNowhere(home: string, bytes: Buffer): Promise<void> {
  for (const item of await readdir(home, { recursive: true, withFileTypes: true })) {
    if (!item.isFile()) continue;
    const file = path.join(item.parentPath, item.name);
    const found = await readFile(file);
    // Locks are empty files.
    assert.ok(bytes.byteLength === 0 || !found.equals(bytes), file);
  }
}

/** Looks at a folder without a pause until it has had so many names, or the process ended. */
async function waitForNames(folder: string, count: number, running: RunningFreehold): Promise<void> {
  const seen = new Set<string>();
  while (seen.size < count && running.process.exitCode === null) {
    for (const name of readdirSync(folder, { recursive: true })) seen.add(String(name));
    await new Promise((resolve) => setImmediate(resolve));
  }
}
