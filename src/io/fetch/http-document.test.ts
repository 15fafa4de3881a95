import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QUICK } from '../../../tests/fixtures/fetching.ts';
import { startFileServer } from '../../../tests/fixtures/file-server.ts';
import { fetchDocument } from './http-document.ts';

const fetch = (url: string, bearerToken?: string) =>
  fetchDocument(
    { url, allowHttp: false, bearerToken },
    { bytesMax: 100, environment: {}, limits: QUICK, signal: new AbortController().signal },
  );

test('a server that asks for patience is asked again; other refusals are returned with their headers', async () => {
  await using server = await startFileServer((_request, response, index) => {
    if (index === 0) response.writeHead(503, { 'retry-after': '0' }).end();
    else if (index === 1) response.end('{}');
    else response.writeHead(401, { 'x-error-code': 'GatedRepo' }).end('no');
  });
  assert.equal((await fetch(server.origin)).bytes.toString(), '{}');
  const refused = await fetch(server.origin);
  assert.deepEqual(
    [refused.status, refused.header('x-error-code'), refused.bytes.byteLength],
    [401, 'GatedRepo', 0],
  );
});

test('too many bytes, nobody there, and a token along a redirect', async () => {
  await using other = await startFileServer((_request, response) => void response.end('{}'));
  await using server = await startFileServer((request, response) => {
    if (request.url === '/long') response.end('x'.repeat(101));
    else response.writeHead(302, { location: other.origin }).end();
  });
  await assert.rejects(fetch(`${server.origin}/long`), { code: 'SIZE_MISMATCH' });
  await fetch(server.origin, 'secret');
  assert.equal(server.requests[1]?.headers.authorization, 'Bearer secret');
  assert.equal(other.requests[0]?.headers.authorization, undefined);
  await assert.rejects(fetch('http://127.0.0.1:9/'), { code: 'NETWORK' });
});
