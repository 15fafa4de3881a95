import assert from 'node:assert/strict';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { stringify } from 'yaml';
import { sendFile, startFileServer } from '../../../tests/fixtures/file-server.ts';
import { freeholdInProcess, outcomeOf } from '../../../tests/fixtures/freehold-home.ts';
import { importableModel, makeImportGround } from '../../../tests/fixtures/import-home.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { encodeEnvelope, signEnvelope } from '../../core/crypto/dsse.ts';
import { generatePrivateKey, type PrivateKey } from '../../core/crypto/keys.ts';
import { signFeed } from '../../io/fetch/catalog-feed.ts';
import { catalogFaults } from './catalog.ts';
import { addFeed, listFeeds, refreshFeeds, removeFeed } from './catalog-feeds.ts';
import type { Freehold } from './freehold.ts';
import { installReference } from './install-reference.ts';

const never = () => new AbortController().signal;
const LATER = '2999-01-01T00:00:00Z';
const STARTER = 'smollm2-135m-instruct';

interface FeedOptions {
  readonly sequence?: number;
  readonly expires?: string;
  readonly feed?: string;
  readonly title?: string;
  readonly names?: readonly string[];
  readonly sources?: readonly object[];
}

function feedText(model: Buffer, options: FeedOptions = {}): string {
  const entry = {
    title: options.title ?? 'Triage',
    description: 'A test.',
    fileName: 'triage.gguf',
    sizeBytes: model.byteLength,
    digest: Digest.of(model),
    license: 'Apache-2.0',
    licenseUrl: 'https://acme.example/license',
    mustAccept: false,
    parameterCount: 1000,
    architecture: 'llama',
    contextTokens: 512,
    quantization: 'F32',
    sources: options.sources ?? [{ url: 'https://acme.example/triage.gguf' }],
  };
  return stringify({
    feedVersion: 1,
    feed: options.feed ?? 'acme-models',
    sequence: options.sequence ?? 1,
    expires: options.expires ?? LATER,
    entries: Object.fromEntries((options.names ?? ['triage']).map((name) => [name, entry])),
  });
}

/** A home, a publisher's key, and a feed in a file that tests exchange. */
async function makeGround(context: TestContext) {
  const ground = await makeImportGround(context);
  const model = await importableModel();
  const key = generatePrivateKey();
  const place = path.join(ground.folder, 'feed.json');
  const publish = async (options: FeedOptions = {}, signer: PrivateKey = key) =>
    writeFile(place, signFeed(feedText(model, options), 'feed.yaml', signer).bytes);
  await publish();
  const add = (name = 'acme', from = place) =>
    addFeed(ground.freehold, { name, place: from, publicKeyPem: key.publicKey.pem }, never());
  return { ...ground, model, key, place, publish, add };
}

const namesOf = async (freehold: Freehold) => (await freehold.catalog()).list().map(({ name }) => name);

async function refreshCode(freehold: Freehold): Promise<string> {
  const [refreshed] = await refreshFeeds(freehold, 'acme', never());
  return refreshed?.error?.code ?? 'refreshed';
}

test('a feed adds its entries under its own name; they are installed like others; removing it takes them away', async (context) => {
  const ground = await makeGround(context);
  const { freehold, model } = ground;
  await using server = await startFileServer((request, response) => sendFile(request, response, model));
  await ground.publish({ sources: [{ url: `${server.origin}/triage.gguf` }] });
  const added = await ground.add();
  assert.deepEqual([added.name, added.sequence, added.entryCount, added.isExpired], ['acme', 1, 1, false]);
  assert.ok((await namesOf(freehold)).includes('acme.triage'));
  const installed = await installReference(freehold, 'catalog:acme.triage', { signal: never() });
  assert.equal(installed.name, 'catalog/acme.triage');
  await assert.rejects(ground.add(), { code: 'ALREADY_EXISTS' });
  await removeFeed(freehold, 'acme');
  assert.ok(!(await namesOf(freehold)).includes('acme.triage'));
  await assert.rejects(removeFeed(freehold, 'acme'), { code: 'NOT_FOUND' });
});

test('a newer issue replaces the older one', async (context) => {
  const { freehold, add, publish } = await makeGround(context);
  await add();
  await publish({ sequence: 2, names: ['triage', 'coder'] });
  assert.equal(await refreshCode(freehold), 'refreshed');
  assert.ok((await namesOf(freehold)).includes('acme.coder'));
});

test('attack, wrong key: a feed signed by somebody else is never taken, first or later', async (context) => {
  const { freehold, add, publish } = await makeGround(context);
  await publish({}, generatePrivateKey());
  await assert.rejects(add(), { code: 'SIGNATURE_INVALID' });
  assert.deepEqual(await listFeeds(freehold), []);
  await publish();
  await add();
  await publish({ sequence: 9, names: ['evil'] }, generatePrivateKey());
  assert.equal(await refreshCode(freehold), 'SIGNATURE_INVALID');
  assert.ok((await namesOf(freehold)).includes('acme.triage'));
});

test('attack, cross-protocol: another document signed by the same key is no feed', async (context) => {
  const { add, key, place, model } = await makeGround(context);
  const payload = Buffer.from(JSON.stringify({ feedVersion: 1, model: model.byteLength }));
  const envelope = encodeEnvelope(signEnvelope('application/vnd.in-toto+json', payload, key));
  await writeFile(place, JSON.stringify(envelope));
  await assert.rejects(add(), { code: 'SIGNATURE_MALFORMED' });
});

test('attack, rollback: an older issue, and another one under the same number', async (context) => {
  const { freehold, add, publish } = await makeGround(context);
  await publish({ sequence: 5 });
  await add();
  await publish({ sequence: 4, names: ['vulnerable'] });
  assert.equal(await refreshCode(freehold), 'FEED_ROLLBACK');
  await publish({ sequence: 5, title: 'Another' });
  assert.equal(await refreshCode(freehold), 'FEED_ROLLBACK');
  assert.deepEqual(
    (await namesOf(freehold)).filter((name) => name.startsWith('acme.')),
    ['acme.triage'],
  );
  await publish({ sequence: 5 });
  assert.equal(await refreshCode(freehold), 'refreshed', 'the same issue, signed once more');
});

test('attack, freeze: an expired issue is not taken, and the entries that are known stay', async (context) => {
  const { freehold, add, publish } = await makeGround(context);
  const soon = new Date(Date.now() + 1500).toISOString();
  await publish({ expires: soon });
  await add();
  await new Promise((resolve) => setTimeout(resolve, 1600));
  assert.equal(await refreshCode(freehold), 'FEED_EXPIRED');
  assert.ok((await namesOf(freehold)).includes('acme.triage'));
  const [state] = await listFeeds(freehold);
  assert.ok(state?.kind === 'usable' && state.isExpired);
  await publish({ sequence: 2, expires: '2020-01-01T00:00:00Z' });
  await assert.rejects(add('other'), { code: 'FEED_EXPIRED' });
});

test('attack, mix-and-match: another feed of the same publisher does not pass for this one', async (context) => {
  const { freehold, add, publish } = await makeGround(context);
  await add();
  await publish({ feed: 'acme-internal', sequence: 7 });
  assert.equal(await refreshCode(freehold), 'CONFIG_INVALID');
});

test('attack, endless data: a server that never stops, and one that sends a byte now and then', async (context) => {
  const { add } = await makeGround(context);
  await using endless = await startFileServer((_request, response) => {
    const write = () => {
      while (!response.destroyed && response.write(Buffer.alloc(1 << 20, ' '))) {}
      if (!response.destroyed) response.once('drain', write);
    };
    write();
  });
  await assert.rejects(add('acme', `${endless.origin}/feed.json`), {
    code: 'SIZE_MISMATCH',
    message: /8388608/,
  });
  const { fetchDocument } = await import('../../io/fetch/http-document.ts');
  await using dripping = await startFileServer((_request, response) => {
    const timer = setInterval(() => response.write(' '), 50);
    response.on('close', () => clearInterval(timer));
  });
  await assert.rejects(
    fetchDocument(
      { url: dripping.origin, allowHttp: false },
      { bytesMax: 1000, environment: {}, signal: never(), timeoutMs: 400 },
    ),
    { code: 'TIMEOUT' },
  );
});

test('attack, names: a feed takes no built-in name, no other feed’s, and names no local file', async (context) => {
  const { freehold, add, publish } = await makeGround(context);
  await publish({ names: [STARTER] });
  await add();
  const catalog = await freehold.catalog();
  assert.notEqual(catalog.find(STARTER).title, 'Triage');
  assert.equal(catalog.find(`acme.${STARTER}`).title, 'Triage');
  // The dot of a built-in name where the name of a source ends.
  const builtIn = 'qwen2.5-coder-0.5b-instruct';
  await publish({ names: [builtIn.slice('qwen2.'.length)] });
  await add('qwen2');
  assert.notEqual((await freehold.catalog()).find(builtIn).title, 'Triage');
  for (const name of ['a.b', '../x', 'A', '', 'x'.repeat(40)]) {
    await assert.rejects(add(name), { code: 'NAME_INVALID' }, name);
  }
  for (const source of [
    { file: '/etc/passwd' },
    { url: 'http://acme.example/x.gguf', allowHttp: true },
    { wheels: [{ package: 'p', version: '1', member: 'm' }] },
  ]) {
    await assert.rejects(publish({ sources: [source] }), { code: 'CONFIG_INVALID' }, JSON.stringify(source));
  }
});

test('what is kept is verified whenever it is read: a changed file is left out by name, and refresh mends it', async (context) => {
  const { freehold, add, publish } = await makeGround(context);
  await add();
  const kept = path.join(freehold.home.path, 'feeds', 'acme.feed.json');
  const text = await readFile(kept, 'utf8');
  await writeFile(kept, text.replace('"payload":"', '"payload":"AAAA'));
  assert.ok((await namesOf(freehold)).includes(STARTER));
  assert.match((await catalogFaults(freehold)).join(), /acme is left out/);
  const catalog = await freehold.catalog();
  assert.throws(() => catalog.find('acme.triage'), { code: 'SIGNATURE_INVALID' });
  const [state] = await listFeeds(freehold);
  assert.equal(state?.kind, 'faulty');
  await publish({ sequence: 2 });
  assert.equal(await refreshCode(freehold), 'refreshed');
  await chmod(kept, 0o666);
  await assert.rejects(
    freehold.catalog().then((opened) => opened.find('acme.triage')),
    { code: 'PERMISSION_DENIED' },
  );
});

test('places: https, loopback or a file; --offline; what is not there', async (context) => {
  const { freehold, folder, add, key, reopen } = await makeGround(context);
  for (const place of [
    'http://acme.example/feed.json',
    'https://user:pw@acme.example/f',
    'ftp://acme.example/f',
  ]) {
    await assert.rejects(add('acme', place), { code: 'CONFIG_INVALID' }, place);
  }
  await assert.rejects(add('acme', path.join(folder, 'absent.json')), { code: 'NOT_FOUND' });
  await assert.rejects(refreshFeeds(freehold, 'nobody', never()), { code: 'NOT_FOUND' });
  const offline = await reopen({}, true);
  const source = { name: 'acme', place: 'https://acme.example/f', publicKeyPem: key.publicKey.pem };
  await assert.rejects(addFeed(offline, source, never()), { code: 'OFFLINE' });
});

test('the command line: sign, add-source, sources, list, refresh, remove-source', async (context) => {
  const { folder, model } = await makeGround(context);
  const home = path.join(folder, 'cli-home');
  const run = (...args: string[]) => freeholdInProcess(args, home);
  const written = path.join(folder, 'acme.yaml');
  await writeFile(written, feedText(model));
  assert.equal((await run('key', 'new', 'acme')).code, 0);
  const signed = await run('catalog', 'sign', written, '--key', 'acme');
  assert.match(signed.stdout, /signed issue 1 of acme-models, 1 models: .*acme\.signed\.json/, signed.stderr);
  const place = path.join(folder, 'acme.signed.json');
  const pem = path.join(home, 'keys', 'acme.pub');
  assert.equal((await run('catalog', 'add-source', 'acme', place, '--key', pem)).code, 0);
  assert.match((await run('catalog', 'sources')).stdout, /acme +1 +1 +2999-01-01/);
  assert.match((await run('catalog', 'list')).stdout, /acme\.triage/);
  assert.match((await run('catalog', 'show', 'acme.triage')).stdout, /Triage/);
  await writeFile(written, feedText(model, { expires: '2020-01-01T00:00:00Z', sequence: 2 }));
  await run('catalog', 'sign', written, '--key', 'acme');
  const refreshed = await run('catalog', 'refresh');
  await writeFile(written, feedText(model, { title: 'Changed', sequence: 2 }));
  assert.match(
    (await run('catalog', 'sign', written, '--key', 'acme')).stderr,
    /is issue 2 already[\s\S]*sequence: 3/,
  );
  assert.deepEqual(
    [refreshed.code, /what is known stays: .*\[FEED_EXPIRED\]/.test(refreshed.stdout)],
    [4, true],
  );
  assert.match((await run('catalog', 'remove-source', 'acme')).stdout, /removed acme/);
  await writeFile(written, feedText(model).replace('sequence: 1', 'sequense: 1'));
  const wrong = await run('catalog', 'sign', written, '--key', 'acme');
  assert.equal(outcomeOf(wrong), 'CONFIG_INVALID');
  assert.match(wrong.stderr, /did you mean "sequence"/);
});

test('a feed that cannot be signed names the line', async (context) => {
  const { model, key } = await makeGround(context);
  assert.throws(
    () => signFeed(feedText(model).replace('sizeBytes:', 'sizeBytes: x # '), 'feed.yaml', key),
    (error: unknown) => error instanceof FreeholdError && /feed\.yaml line \d+/.test(error.message),
  );
});
