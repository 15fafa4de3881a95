import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { startFaultProxy } from '../../../tests/fixtures/fault-proxy.ts';
import { startFileServer } from '../../../tests/fixtures/file-server.ts';
import {
  anySignal,
  failureOf,
  putBytes,
  putManifest,
  readBlob,
  testFolder,
  testRepository,
} from '../../../tests/fixtures/repositories.ts';
import { startTestRegistry } from '../../../tests/fixtures/test-registry.ts';

const LOGIN = { auth: Buffer.from('publisher:secret').toString('base64') };
const BASIC = `Basic ${LOGIN.auth}`;

/** An environment in which somebody is logged in to a host. */
function loggedIn(context: TestContext, host: string, entry: unknown = LOGIN) {
  const HOME = testFolder(context);
  mkdirSync(path.join(HOME, '.docker'));
  writeFileSync(path.join(HOME, '.docker', 'config.json'), JSON.stringify({ auths: { [host]: entry } }));
  return { HOME };
}

test('basic and bearer logins read and write, and a token is taken up again', async (context) => {
  for (const login of ['basic', 'bearer'] as const) {
    const registry = await startTestRegistry(context, { login });
    const place = testRepository(context, registry.host, { environment: loggedIn(context, registry.host) });
    const blob = await putBytes(place, Buffer.from('secret weights'));
    assert.equal((await readBlob(place, blob)).toString(), 'secret weights');
    await putManifest(place, 'application/vnd.acme', '1.0.0');
    assert.deepEqual(await place.tags(anySignal()), ['1.0.0']);
    // One for reading, one for writing.
    assert.equal(registry.tokenRequests.length, login === 'bearer' ? 2 : 0);
  }
});

test('the scope that is asked for is that of the repository and the deed, no more', async (context) => {
  const registry = await startTestRegistry(context, { login: 'bearer' });
  const place = testRepository(context, registry.host, { environment: loggedIn(context, registry.host) });
  await place.tags(anySignal());
  const [query] = registry.tokenRequests.map((text) => new URLSearchParams(text));
  assert.deepEqual(query?.getAll('scope'), ['repository:acme/triage:pull']);
  assert.equal(query?.get('service'), 'test registry');
});

test('an identity token is changed for an access token by POST, and not put into an address', async (context) => {
  const registry = await startTestRegistry(context, { login: 'bearer' });
  const environment = loggedIn(context, registry.host, { identitytoken: 'identity' });
  const place = testRepository(context, registry.host, { environment });
  await place.tags(anySignal());
  assert.match(registry.tokenRequests[0] ?? '', /refresh_token=identity/);
  assert.ok(registry.asked.every((line) => !line.includes('identity')));
});

test('a token that ends, or is taken back, is renewed once and the request repeated', async (context) => {
  const registry = await startTestRegistry(context, { login: 'bearer', tokenSeconds: 60 });
  let nowMs = 0;
  const environment = loggedIn(context, registry.host);
  const place = testRepository(context, registry.host, { environment, monotonicMs: () => nowMs });
  await place.tags(anySignal());
  registry.revokeTokens();
  assert.deepEqual(await place.tags(anySignal()), []);
  assert.equal(registry.tokenRequests.length, 2);
  const before = registry.asked.length;
  nowMs = 55_000;
  await place.tags(anySignal());
  assert.equal(registry.tokenRequests.length, 3);
  // Not with the old token first: the question without one is the cheap one.
  assert.ok(!registry.authorizations.slice(before, before + 1).some((header) => header !== ''));
});

test('a wrong password, and none, are AUTHENTICATION_FAILED with the host and what to do; no secret is said', async (context) => {
  for (const login of ['basic', 'bearer'] as const) {
    const registry = await startTestRegistry(context, { login });
    const wrong = { auth: Buffer.from('publisher:hunter2').toString('base64') };
    for (const environment of [{}, loggedIn(context, registry.host, wrong)]) {
      const place = testRepository(context, registry.host, { environment });
      const error = await failureOf(place.tags(anySignal()));
      assert.equal(error.code, 'AUTHENTICATION_FAILED');
      assert.match(error.hint, new RegExp(`docker login ${registry.host}`));
      const said = `${error.message} ${error.hint} ${String(error.cause)} ${JSON.stringify(error.detail)}`;
      assert.doesNotMatch(said, /hunter2|aHVudGVyMg|publisher/);
      assert.ok(registry.asked.length < 12, 'the registry is not asked again and again');
    }
  }
});

test('attack: a registry sends for tokens to another host, to collect credentials there', async (context) => {
  const collector = await startTestRegistry(context);
  const realm = `http://localhost:${collector.host.split(':')[1]}/token`;
  const registry = await startTestRegistry(context, { login: 'bearer', realm });
  const environment = loggedIn(context, registry.host);
  const error = await failureOf(testRepository(context, registry.host, { environment }).tags(anySignal()));
  assert.equal(error.code, 'AUTHENTICATION_FAILED');
  assert.match(error.message, new RegExp(`${registry.host}.*localhost`));
  assert.match(error.hint, /tokenRealms: \[localhost/);
  assert.deepEqual(collector.asked, []);
});

test('attack: a token server that is no URL, has a password in it, or is plain http elsewhere', async (context) => {
  for (const realm of ['', 'file:///etc/passwd', 'javascript:1', 'http://auth.acme.example/token']) {
    const registry = await startTestRegistry(context, { login: 'bearer', realm });
    const environment = loggedIn(context, registry.host);
    const tokenRealms = ['auth.acme.example'];
    const place = testRepository(context, registry.host, { environment, tokenRealms });
    const error = await failureOf(place.tags(anySignal()));
    assert.equal(error.code, 'AUTHENTICATION_FAILED', realm);
    assert.deepEqual(registry.tokenRequests, []);
  }
});

test('attack: a redirect to another host gets neither token nor password, and its 401 is not answered', async (context) => {
  const registry = await startTestRegistry(context, { login: 'basic' });
  const environment = loggedIn(context, registry.host);
  const whole = Buffer.from('weights behind a redirect');
  const blob = await putBytes(testRepository(context, registry.host, { environment }), whole);
  const storage = await startFileServer((_request, response, index) => {
    if (index === 0) response.writeHead(200, { 'content-length': whole.length }).end(whole);
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="give"' }).end();
  });
  context.after(() => storage.close());
  const proxy = await startFaultProxy(context, registry.origin);
  const place = testRepository(context, proxy.host, { environment: loggedIn(context, proxy.host) });
  proxy.fault = ({ url, headers }) =>
    url.includes('/blobs/') && headers.authorization === BASIC
      ? { kind: 'answer', status: 307, headers: { location: `${storage.origin}/blob?signed=1` } }
      : undefined;
  assert.deepEqual(await readBlob(place, blob), whole);
  const error = await failureOf(readBlob(place, blob));
  assert.equal(error.code, 'NETWORK');
  assert.ok(storage.requests.length > 1);
  for (const { headers } of storage.requests) assert.equal(headers.authorization, undefined);
});

test('attack: an upload that is sent to another host gets nothing', async (context) => {
  const registry = await startTestRegistry(context, { login: 'basic' });
  const collector = await startTestRegistry(context);
  const proxy = await startFaultProxy(context, registry.origin);
  proxy.fault = ({ method }) =>
    method === 'POST'
      ? {
          kind: 'answer',
          status: 202,
          headers: { location: `http://localhost:1/v2/x?to=${collector.origin}` },
        }
      : undefined;
  const place = testRepository(context, proxy.host, { environment: loggedIn(context, proxy.host) });
  const error = await failureOf(putBytes(place, Buffer.from('mine')));
  assert.match(error.message, /sends an upload to another host, localhost:1/);
  assert.deepEqual(collector.asked, []);
});

test('attack: a list whose next page lies elsewhere', async (context) => {
  const registry = await startTestRegistry(context);
  const proxy = await startFaultProxy(context, registry.origin);
  proxy.fault = () => ({
    kind: 'headers',
    headers: { link: '<http://localhost:1/v2/x/tags/list>; rel="next"' },
  });
  const error = await failureOf(testRepository(context, proxy.host).tags(anySignal()));
  assert.match(error.message, /next page of a list lies on localhost:1/);
});
