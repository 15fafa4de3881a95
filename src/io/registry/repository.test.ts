import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { startFaultProxy } from '../../../tests/fixtures/fault-proxy.ts';
import { startFileServer } from '../../../tests/fixtures/file-server.ts';
import {
  dockerConfig,
  opensslMissing,
  registryMissing,
  startRegistryServer,
} from '../../../tests/fixtures/registry-server.ts';
import {
  anySignal,
  failureOf,
  putBytes,
  putManifest,
  readBlob,
  testFolder,
  testRepository,
} from '../../../tests/fixtures/repositories.ts';
import { skipUnlessCi } from '../../../tests/fixtures/skip.ts';
import { startTestRegistry } from '../../../tests/fixtures/test-registry.ts';
import { Digest } from '../../core/base/digest.ts';
import { fallbackTag } from '../../core/format/referrer.ts';

const MISSING = registryMissing('docker-registry') ?? opensslMissing();

test('attack: a manifest with a flipped byte, under its digest and under a tag, is DIGEST_MISMATCH', async (context) => {
  const registry = await startTestRegistry(context);
  const document = await putManifest(testRepository(context, registry.host), 'application/vnd.acme', '1.0.0');
  const proxy = await startFaultProxy(context, registry.origin);
  const place = testRepository(context, proxy.host);
  assert.deepEqual(await place.manifest({ tag: '1.0.0' }, anySignal()), document);
  proxy.fault = () => ({ kind: 'flip', atByte: 60 });
  for (const reference of [{ tag: '1.0.0' }, { digest: document.digest }]) {
    assert.equal((await failureOf(place.manifest(reference, anySignal()))).code, 'DIGEST_MISMATCH');
  }
  // What a header says is no proof.
  const other = Digest.of('other');
  proxy.fault = () => ({ kind: 'headers', headers: { 'docker-content-digest': other } });
  assert.deepEqual(await place.manifest({ digest: document.digest }, anySignal()), document);
  assert.equal((await failureOf(place.manifest({ tag: '1.0.0' }, anySignal()))).code, 'DIGEST_MISMATCH');
});

test('attack: a manifest or a list without end is cut off; one that breaks off is asked for again', async (context) => {
  const registry = await startTestRegistry(context);
  const document = await putManifest(testRepository(context, registry.host), 'application/vnd.acme', '1.0.0');
  const proxy = await startFaultProxy(context, registry.origin);
  const place = testRepository(context, proxy.host);
  proxy.fault = () => ({ kind: 'endless' });
  assert.equal((await failureOf(place.manifest({ tag: '1.0.0' }, anySignal()))).code, 'SIZE_MISMATCH');
  assert.equal((await failureOf(place.tags(anySignal()))).code, 'SIZE_MISMATCH');
  proxy.fault = (_request, index) => (index % 3 === 0 ? undefined : { kind: 'drop', afterBytes: 10 });
  assert.deepEqual(await place.manifest({ tag: '1.0.0' }, anySignal()), document);
});

test('lists come in pages; a list of pages without end is refused', async (context) => {
  const registry = await startTestRegistry(context, { pageEntries: 2 });
  const place = testRepository(context, registry.host);
  const tags = ['a', 'b', 'c', 'd', 'e'];
  for (const tag of tags) await putManifest(place, 'application/vnd.acme', tag);
  assert.deepEqual([...(await place.tags(anySignal()))].sort(), tags);

  const endless = await startFileServer((_request, response, index) => {
    const link = `</v2/acme/triage/tags/list?last=${index}>; rel=next`;
    response.writeHead(200, { link }).end(JSON.stringify({ tags: [`t${index}`] }));
  });
  context.after(() => endless.close());
  const error = await failureOf(testRepository(context, new URL(endless.origin).host).tags(anySignal()));
  assert.match(error.message, /a list of more than 2000 pages/);
});

test('what an error of a registry says is shown in one harmless line', async (context) => {
  const message = `evil \u001b[31m\u202e${'x'.repeat(5000)}\n`;
  const body = JSON.stringify({ errors: [{ code: 'DENIED', message }] });
  const server = await startFileServer((_request, response) => response.writeHead(403).end(body));
  context.after(() => server.close());
  const place = testRepository(context, new URL(server.origin).host);
  const error = await failureOf(place.tags(anySignal()));
  assert.equal(error.code, 'AUTHENTICATION_FAILED');
  assert.match(error.message, /HTTP status 403 \(DENIED: evil +\[31m x{100,300}\.\.\.\)/);
  assert.doesNotMatch(error.message, /[^\x20-\x7e]/);
});

test('something that is no registry is said to be none', async (context) => {
  const server = await startFileServer((_request, response) => response.end('<html>welcome</html>'));
  context.after(() => server.close());
  const error = await failureOf(testRepository(context, new URL(server.origin).host).tags(anySignal()));
  assert.equal(error.code, 'NETWORK');
  assert.match(error.hint, /is there a registry/);
});

test('without the API referrers go under the fallback tag, and entries of others stay as they are', async (context) => {
  const registry = await startTestRegistry(context, { referrers: false });
  const place = testRepository(context, registry.host);
  const subject = await putManifest(place, 'application/vnd.acme');
  const foreign = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: `sha512:${'0'.repeat(128)}`,
    size: 7,
    data: 'e30=',
  };
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, manifests: [foreign], annotations: { a: 'b' } }),
  );
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  const tag = fallbackTag(subject.digest);
  registry.repositories.get('acme/triage')?.manifests.set(Digest.of(bytes), { bytes, mediaType });
  registry.repositories.get('acme/triage')?.tags.set(tag, Digest.of(bytes));
  // The parts of an index must be there for this registry; a stranger's entry is not.
  const proxy = await startFaultProxy(context, registry.origin);
  let written = '';
  const behind = testRepository(context, proxy.host);
  proxy.fault = ({ method, url }) => {
    if (method !== 'PUT' || !url.endsWith(tag)) return undefined;
    written = url;
    return { kind: 'answer', status: 500 };
  };
  const putting = putManifest(behind, 'application/vnd.note', undefined, subject);
  assert.equal((await failureOf(putting)).code, 'NETWORK');
  assert.notEqual(written, '');
  assert.deepEqual(
    await place.referrers(subject.digest, anySignal()),
    [],
    'an odd entry hides nothing and is not shown',
  );
});

test('several writers of referrers at once lose none', async (context) => {
  const registry = await startTestRegistry(context, { referrers: false });
  const subject = await putManifest(testRepository(context, registry.host), 'application/vnd.acme');
  const kinds = ['a', 'b', 'c'];
  const limits = { attemptsMax: 10, retryDelayMs: 20, retryDelayMsMax: 200 };
  await Promise.all(
    kinds.map((kind) =>
      putManifest(
        testRepository(context, registry.host, { limits }),
        `application/vnd.${kind}`,
        undefined,
        subject,
      ),
    ),
  );
  const place = testRepository(context, registry.host);
  const listed = await place.referrers(subject.digest, anySignal());
  assert.equal(listed.length, kinds.length);
});

test('plain http needs a word for every host that is not this machine', async (context) => {
  const registry = await startTestRegistry(context);
  const port = registry.host.split(':')[1];
  // A name that leads here and is not called loopback.
  const environment = { http_proxy: registry.origin, https_proxy: 'http://127.0.0.1:1' };
  const host = `registry.internal.invalid:${port}`;
  const place = testRepository(context, host, { environment });
  assert.match(
    (await failureOf(place.tags(anySignal()))).message,
    /registry\.internal\.invalid.*connection refused/,
  );
  assert.deepEqual(registry.asked, []);
  const plain = testRepository(context, host, { environment, plainHttp: true });
  assert.deepEqual(await plain.tags(anySignal()), []);
  assert.match(registry.asked[0] ?? '', /tags\/list/);
});

test('a registry with TLS of a private authority and a login: refused without, used with', {
  skip: skipUnlessCi(MISSING),
}, async (context) => {
  const server = await startRegistryServer(context, 'docker-registry', { tls: true, login: true });
  const DOCKER_CONFIG = testFolder(context);
  writeFileSync(path.join(DOCKER_CONFIG, 'config.json'), dockerConfig(server.host));
  const environment = { DOCKER_CONFIG };
  const stranger = testRepository(context, server.host, { environment });
  const error = await failureOf(stranger.tags(anySignal()));
  assert.equal(error.code, 'NETWORK');
  assert.match(`${error.message} ${error.hint}`, /certificate.*ca/is);

  const { caFile } = server;
  assert.ok(caFile !== undefined);
  const noLogin = testRepository(context, server.host, { caFile });
  assert.equal((await failureOf(noLogin.tags(anySignal()))).code, 'AUTHENTICATION_FAILED');
  const place = testRepository(context, server.host, { environment, caFile });
  const blob = await putBytes(place, Buffer.alloc(6_000_000, 7));
  assert.equal((await readBlob(place, blob)).byteLength, 6_000_000);

  const folder = testFolder(context);
  mkdirSync(path.join(folder, server.host));
  const { copyFileSync } = await import('node:fs');
  copyFileSync(caFile, path.join(folder, server.host, 'acme.crt'));
  const byFolder = testRepository(context, server.host, { environment, authorityFolders: [folder] });
  assert.deepEqual(await byFolder.tags(anySignal()), []);
});

test('a file of authorities that is none, or not there, is refused by name', async (context) => {
  const folder = testFolder(context);
  const empty = path.join(folder, 'empty.pem');
  writeFileSync(empty, 'nothing');
  const outcomes = { [empty]: 'CONFIG_INVALID', [path.join(folder, 'absent.pem')]: 'NOT_FOUND' };
  for (const [caFile, code] of Object.entries(outcomes)) {
    const error = await failureOf(testRepository(context, 'localhost:1', { caFile }).tags(anySignal()));
    assert.equal(error.code, code);
    assert.match(error.message, new RegExp(path.basename(caFile)));
  }
});
