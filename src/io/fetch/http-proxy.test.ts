import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, request as forward, type IncomingMessage } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Server } from 'node:net';
import { join } from 'node:path';
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
import { sendFile, startFileServer } from '../../../tests/fixtures/file-server.ts';
import { skipHere } from '../../../tests/fixtures/skip.ts';
import { Digest } from '../../core/base/digest.ts';

const BYTES = someBytes(500_000);

async function listening(context: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A proxy as in companies: forwards plain http, tunnels https; notes what it was asked for. */
async function startProxy(context: TestContext, port?: number) {
  const asked: IncomingMessage[] = [];
  const proxy = createServer((request, response) => {
    asked.push(request);
    const target = URL.parse(request.url ?? '');
    if (target === null || target.hostname === '') return response.writeHead(400).end();
    const { 'proxy-authorization': _, ...headers } = request.headers;
    const upstream = forward({
      host: '127.0.0.1',
      port: port ?? target.port,
      path: target.pathname,
      headers,
    });
    upstream.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    return upstream.end();
  });
  proxy.on('connect', (request, client) => {
    asked.push(request);
    const upstream = connect(port ?? Number(request.url?.split(':')[1]), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
  });
  return { url: `http://127.0.0.1:${await listening(context, proxy)}`, asked };
}

test('HTTP_PROXY is used for plain http, with its login, and NO_PROXY keeps hosts away from it', async (context) => {
  const server = await startFileServer((request, response) => sendFile(request, response, BYTES));
  context.after(() => server.close());
  const proxy = await startProxy(context, Number(new URL(server.origin).port));
  // The name exists for the proxy only.
  const target = targetFor(BYTES, [urlSource('http://models.internal.invalid/model.gguf', true)]);
  const HTTP_PROXY = proxy.url.replace('//', '//user:word@');
  const outcome = await outcomeOf(target, {
    cacheFolder: temporaryFolder(context),
    environment: { HTTP_PROXY },
  });
  assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES), String(outcome.error));
  assert.equal(proxy.asked[0]?.url, 'http://models.internal.invalid/model.gguf');
  const login = `Basic ${Buffer.from('user:word').toString('base64')}`;
  assert.equal(proxy.asked[0]?.headers['proxy-authorization'], login);
  assert.equal(server.requests[0]?.headers.host, 'models.internal.invalid');

  const environment = { http_proxy: proxy.url, no_proxy: 'example.org,.internal.invalid' };
  const around = await outcomeOf(target, { cacheFolder: temporaryFolder(context), environment });
  assert.match(around.reasons[0] ?? '', /^models\.internal\.invalid: the name/);
  assert.equal(proxy.asked.length, 1);
});

test('a proxy that is down, silent, refuses or is no URL ends the source, and says so', async (context) => {
  const silent = createServer();
  silent.on('connect', () => {});
  const silentPort = await listening(context, silent);
  const strict = createServer();
  strict.on('connect', (_request, client) => client.end('HTTP/1.1 403 Forbidden\r\n\r\n'));
  const strictPort = await listening(context, strict);
  const target = targetFor(BYTES, [urlSource('https://models.internal.invalid/model.gguf')]);
  const reasons: Record<string, RegExp> = {
    'http://127.0.0.1:1': /^models\.internal\.invalid: connection refused$/,
    [`http://127.0.0.1:${silentPort}`]: /^models\.internal\.invalid: no answer within 800 ms$/,
    [`http://127.0.0.1:${strictPort}`]: /403/,
    'not a proxy': /^HTTP_PROXY or HTTPS_PROXY is not a URL$/,
  };
  for (const [HTTPS_PROXY, reason] of Object.entries(reasons)) {
    const cacheFolder = temporaryFolder(context);
    const outcome = await outcomeOf(target, { cacheFolder, environment: { HTTPS_PROXY } });
    assert.match(outcome.reasons[0] ?? '', reason, HTTPS_PROXY);
    assert.ok(outcome.elapsedMs < 3000);
    assert.deepEqual(cacheContent(cacheFolder), []);
  }
});

/** A certificate of its own for `localhost`, as a company's authority would give; undefined without openssl. */
function makeCertificate(folder: string): { key: string; certificate: string } | undefined {
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '2'];
  const parameters = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  try {
    execFileSync('openssl', [...parameters, ...subject, '-keyout', key, '-out', certificate], {
      stdio: 'pipe',
    });
    return { key, certificate };
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    return undefined;
  }
}

test('https goes through the tunnel of HTTPS_PROXY and trusts NODE_EXTRA_CA_CERTS', async (context) => {
  const folder = temporaryFolder(context);
  const made = makeCertificate(folder);
  if (made === undefined) {
    skipHere(context, 'needs openssl');
    return;
  }
  const server = createTlsServer(
    { key: readFileSync(made.key), cert: readFileSync(made.certificate) },
    (_, response) => response.end(BYTES),
  );
  const port = await listening(context, server);
  const proxy = await startProxy(context);
  const url = `https://localhost:${port}/model.gguf`;
  const stranger = await outcomeOf(targetFor(BYTES, [urlSource(url)]), { cacheFolder: folder });
  assert.match(stranger.error?.message ?? '', /self-signed certificate/);
  assert.match(stranger.error?.hint ?? '', /NODE_EXTRA_CA_CERTS/);

  const script = `
    const { fetchEntry } = await import(${JSON.stringify(join(import.meta.dirname, 'fetch-entry.ts'))});
    const options = { cacheFolder: ${JSON.stringify(folder)}, limits: ${JSON.stringify(QUICK)} };
    await fetchEntry(${JSON.stringify(targetFor(BYTES, [urlSource(url)]))}, options);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: 'inherit',
    env: { PATH: process.env.PATH, NODE_EXTRA_CA_CERTS: made.certificate, HTTPS_PROXY: proxy.url },
  });
  assert.deepEqual(await once(child, 'close'), [0, null]);
  assert.equal(Digest.of(readFileSync(join(folder, Digest.hex(Digest.of(BYTES))))), Digest.of(BYTES));
  assert.deepEqual(
    proxy.asked.map(({ method, url: asked }) => [method, asked]),
    [['CONNECT', `localhost:${port}`]],
  );
});
