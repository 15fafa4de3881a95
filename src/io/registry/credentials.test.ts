import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { anySignal, failureOf, testFolder } from '../../../tests/fixtures/repositories.ts';
import { findCredentials } from './credentials.ts';

const HOST = 'registry.acme.example:5000';
const base64 = (text: string) => Buffer.from(text).toString('base64');

/** A home with docker's config.json, and credential helpers on its PATH. */
function homeWith(context: TestContext, config: unknown, helpers: Record<string, string> = {}) {
  const folder = testFolder(context);
  mkdirSync(path.join(folder, '.docker'));
  const text = typeof config === 'string' ? config : JSON.stringify(config);
  writeFileSync(path.join(folder, '.docker', 'config.json'), text);
  for (const [name, script] of Object.entries(helpers)) {
    const file = path.join(folder, `docker-credential-${name}`);
    writeFileSync(file, `#!/bin/sh\n${script}\n`);
    chmodSync(file, 0o755);
  }
  return { HOME: folder, PATH: `${folder}:/usr/bin:/bin` };
}

const found = (environment: Record<string, string>, host = HOST) =>
  findCredentials(host, environment, anySignal());

test('auths: by auth, by user and password, by tokens', async (context) => {
  const forms: [unknown, unknown][] = [
    [{ auth: base64('me:pass:word') }, { kind: 'password', username: 'me', password: 'pass:word' }],
    [
      { username: 'me', password: 'pw' },
      { kind: 'password', username: 'me', password: 'pw' },
    ],
    [
      { auth: base64('me:x'), identitytoken: 'tok' },
      { kind: 'identity-token', token: 'tok' },
    ],
    [{ registrytoken: 'tok' }, { kind: 'registry-token', token: 'tok' }],
    [{}, undefined],
  ];
  for (const [entry, expected] of forms) {
    const environment = homeWith(context, { auths: { [HOST]: entry }, psFormat: 'other' });
    assert.deepEqual(await found(environment), expected, JSON.stringify(entry));
    assert.equal(
      await found(environment, 'registry.acme.example'),
      undefined,
      'another port is another host',
    );
  }
});

test('keys of older tools, with scheme and version, are the same host; others are not', async (context) => {
  const entry = { auth: base64('me:pw') };
  for (const key of [`https://${HOST}`, `https://${HOST}/v1/`, `https://${HOST}/v2/`]) {
    assert.ok(await found(homeWith(context, { auths: { [key]: entry } })), key);
  }
  for (const key of [`https://${HOST}.evil.example/v1/`, 'registry.acme.example', `x${HOST}`]) {
    assert.equal(await found(homeWith(context, { auths: { [key]: entry } })), undefined, key);
  }
});

test('a helper is asked with the host on its input, before auths', async (context) => {
  const answer =
    'read host; echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"me\\",\\"Secret\\":\\"for $host\\"}"';
  const auths = { [HOST]: { auth: base64('other:other') } };
  const expected = { kind: 'password', username: 'me', password: `for ${HOST}` };
  for (const config of [
    { auths, credsStore: 'test' },
    { auths, credHelpers: { [HOST]: 'test' }, credsStore: 'none' },
  ]) {
    assert.deepEqual(await found(homeWith(context, config, { test: answer })), expected);
  }
  const token = 'echo \'{"Username":"<token>","Secret":"tok"}\'';
  const byToken = await found(homeWith(context, { credsStore: 'test' }, { test: token }));
  assert.deepEqual(byToken, { kind: 'identity-token', token: 'tok' });
});

test('a helper that has nothing leaves the word to auths', async (context) => {
  const nothing = 'echo "credentials not found in native keychain"; exit 1';
  const config = { auths: { [HOST]: { auth: base64('me:pw') } }, credsStore: 'test' };
  assert.equal((await found(homeWith(context, config, { test: nothing })))?.kind, 'password');
});

test('a helper that is missing, fails, says nonsense or too much is an error that names it and no secret', async (context) => {
  const cases: [string, RegExp][] = [
    ['exit 3', /docker-credential-test ended with status 3/],
    ['echo hunter2; exit 1', /ended with status 1/],
    ['echo hunter2', /did not answer in the form/],
    ['yes hunter2', /says too much/],
  ];
  for (const [script, message] of cases) {
    const error = await failureOf(found(homeWith(context, { credsStore: 'test' }, { test: script })));
    assert.equal(error.code, 'AUTHENTICATION_FAILED');
    assert.match(error.message, message);
    assert.doesNotMatch(`${error.message} ${error.hint} ${String(error.cause)}`, /hunter2/);
  }
  const missing = await failureOf(found(homeWith(context, { credsStore: 'nowhere' })));
  assert.match(missing.message, /docker-credential-nowhere is not installed/);
});

test('the name of a helper cannot lead to another program', async (context) => {
  for (const name of ['../../bin/sh', 'a b', '-x', 'a/b', '$(id)']) {
    const error = await failureOf(found(homeWith(context, { credsStore: name })));
    assert.equal(error.code, 'CONFIG_INVALID', name);
  }
});

test('a broken config.json is refused by name, without what stands in it', async (context) => {
  for (const text of ['{"auths": hunter2}', '{"auths":{"a":{"auth":{"x":"hunter2"}}}}', '[]']) {
    const error = await failureOf(found(homeWith(context, text)));
    assert.equal(error.code, 'CONFIG_INVALID');
    assert.match(error.message, /config\.json/);
    assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /hunter2/);
  }
  assert.equal(await found({ HOME: testFolder(context) }), undefined);
});

test('DOCKER_CONFIG names another folder, and podman has a file of its own', async (context) => {
  const { HOME } = homeWith(context, { auths: { [HOST]: { auth: base64('me:pw') } } });
  assert.ok(await found({ DOCKER_CONFIG: path.join(HOME, '.docker') }));
  assert.ok(await found({ REGISTRY_AUTH_FILE: path.join(HOME, '.docker', 'config.json') }));
  const runtime = testFolder(context);
  mkdirSync(path.join(runtime, 'containers'));
  writeFileSync(
    path.join(runtime, 'containers', 'auth.json'),
    JSON.stringify({ auths: { [HOST]: { auth: base64('me:pw') } } }),
  );
  assert.ok(await found({ XDG_RUNTIME_DIR: runtime }));
});
