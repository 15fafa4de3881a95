import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  HUB_COMMIT,
  type HubRepositoryContent,
  type HubServer,
  startHubServer,
} from '../../../tests/fixtures/hub-server.ts';
import { importableModel, makeImportGround, shardedModel } from '../../../tests/fixtures/import-home.ts';
import { tinyModelBytes } from '../../../tests/fixtures/tiny-model.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { readPackage } from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import type { ImportOptions, ImportResult } from './import-options.ts';
import { installReference } from './install-reference.ts';
import { listInstalled } from './package-list.ts';

const TOKEN = 'hf_secret';
const never = () => new AbortController().signal;

const install = (freehold: Freehold, text: string, options: Partial<ImportOptions> = {}) =>
  installReference(freehold, text, { signal: never(), ...options }) as Promise<ImportResult>;

const descriptorOf = async (freehold: Freehold, { manifestDigest }: ImportResult) =>
  (await readPackage(freehold.store.blobs, manifestDigest)).descriptor;

async function makeRepository(more: Partial<HubRepositoryContent> = {}): Promise<HubRepositoryContent> {
  const model = await importableModel();
  return {
    commit: HUB_COMMIT,
    files: new Map([
      ['README.md', Buffer.from('# Triage')],
      ['triage-7b-Q4_0.gguf', model],
      ['triage-7b-Q8_0.gguf', await importableModel('Other')],
    ]),
    cardData: { license: 'apache-2.0' },
    ...more,
  };
}

async function makeGround(
  context: TestContext,
  more: Partial<HubRepositoryContent> = {},
  env: Record<string, string> = {},
) {
  const hub = await startHubServer({ 'acme/triage-GGUF': await makeRepository(more) });
  context.after(() => hub[Symbol.asyncDispose]());
  const ground = await makeImportGround(context, { HF_ENDPOINT: hub.origin, ...env });
  return { ...ground, hub };
}

const refusedWith = (code: string, pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof FreeholdError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(`${error.message}\n${error.hint}`, pattern);
  return true;
};

const downloads = (hub: HubServer) => hub.storageRequests.length;

test('a quantization of a repository becomes a signed package; the commit is pinned', async (context) => {
  const { freehold, hub } = await makeGround(context);
  const installed = await install(freehold, 'hf://acme/triage-GGUF:q4_0');
  assert.equal(installed.source, `hf://acme/triage-GGUF/triage-7b-Q4_0.gguf@${HUB_COMMIT}`);
  assert.equal(installed.isNew, true);
  const descriptor = await descriptorOf(freehold, installed);
  assert.equal(descriptor.name, 'local/triage');
  assert.equal(descriptor.license, 'Apache-2.0');
  assert.equal(descriptor.description, 'Imported from hf://acme/triage-GGUF.');
  const bytes = hub.repositories.get('acme/triage-GGUF')?.files.get('triage-7b-Q4_0.gguf') ?? assert.fail();
  assert.deepEqual(
    descriptor.files.map(({ path: name, digest }) => [name, digest]),
    [[`triage-${descriptor.variant}.gguf`, Digest.of(bytes)]],
  );
  const [row] = await listInstalled(freehold);
  assert.equal(row?.name, 'local/triage');
});

test('the pinned source gives the same content in another home, and is not fetched twice in one', async (context) => {
  const { freehold, hub } = await makeGround(context);
  const first = await install(freehold, 'hf://acme/triage-GGUF:Q4_0');
  const before = downloads(hub);
  assert.equal((await install(freehold, first.source)).isNew, false);
  assert.equal(downloads(hub), before);
  const other = await makeImportGround(context, { HF_ENDPOINT: hub.origin });
  const expect = { contentDigest: Digest.parse(first.contentDigest) };
  const second = await install(other.freehold, first.source, { expect });
  assert.equal(second.contentDigest, first.contentDigest);
});

test('a branch that moved, a commit that gives other bytes: refused when a lock pins the content', async (context) => {
  const { freehold, hub } = await makeGround(context);
  const first = await install(freehold, 'hf://acme/triage-GGUF:Q4_0');
  const other = await makeImportGround(context, { HF_ENDPOINT: hub.origin });
  hub.repositories
    .get('acme/triage-GGUF')
    ?.files.set('triage-7b-Q4_0.gguf', await importableModel('Swapped'));
  const expect = { contentDigest: Digest.parse(first.contentDigest) };
  await assert.rejects(
    install(other.freehold, first.source, { expect }),
    refusedWith('LOCK_MISMATCH', /locked is sha256:/),
  );
  assert.deepEqual(await listInstalled(other.freehold), []);
});

test('the only model; several are listed by quantization; what is not there is named', async (context) => {
  const { freehold, hub } = await makeGround(context);
  await assert.rejects(
    install(freehold, 'hf://acme/triage-GGUF'),
    refusedWith('REFERENCE_INVALID', /Q4_0, Q8_0/),
  );
  await assert.rejects(
    install(freehold, 'hf://acme/triage-GGUF:Q4_K_M'),
    refusedWith('NOT_FOUND', /Q4_0, Q8_0/),
  );
  await assert.rejects(
    install(freehold, 'hf://acme/triage-GGUF/x.gguf'),
    refusedWith('NOT_FOUND', /x\.gguf/),
  );
  await assert.rejects(install(freehold, 'hf://acme/triage-GGUF:Q4_0@v2'), refusedWith('NOT_FOUND', /"v2"/));
  await assert.rejects(
    install(freehold, 'hf://acme/absent'),
    refusedWith('NOT_FOUND', /or it is private\n.*HF_TOKEN/),
  );
  hub.repositories.get('acme/triage-GGUF')?.files.delete('triage-7b-Q8_0.gguf');
  assert.equal((await install(freehold, 'hf://acme/triage-GGUF')).name, 'local/triage');
});

test('all shards of a split model are fetched', async (context) => {
  const files = await shardedModel(2);
  const { freehold } = await makeGround(context, { files });
  const installed = await install(freehold, 'hf://acme/triage-GGUF:F32');
  const descriptor = await descriptorOf(freehold, installed);
  assert.deepEqual(
    descriptor.files.map(({ digest }) => digest),
    [...files.values()].map((bytes) => Digest.of(bytes)),
  );
});

test('a gated repository: the page where its licence is accepted, before a byte is asked for', async (context) => {
  const { freehold, hub, reopen } = await makeGround(context, {
    gated: 'manual',
    admitted: [TOKEN],
    cardData: { license: 'llama3.1' },
  });
  const page = new RegExp(`${hub.origin}/acme/triage-GGUF`);
  await assert.rejects(
    install(freehold, 'hf://acme/triage-GGUF:Q4_0'),
    refusedWith('AUTHENTICATION_FAILED', page),
  );
  assert.ok(!hub.requests.some(({ url }) => url?.includes('/resolve/')));
  const stranger = await reopen({ HF_TOKEN: 'hf_other' });
  await assert.rejects(
    install(stranger, 'hf://acme/triage-GGUF:Q4_0'),
    refusedWith('AUTHENTICATION_FAILED', page),
  );
  const admitted = await reopen({ HF_TOKEN: TOKEN });
  const installed = await install(admitted, 'hf://acme/triage-GGUF:Q4_0');
  assert.equal((await descriptorOf(admitted, installed)).license, 'LicenseRef-llama3.1');
});

test('credential theft: the token goes to the hub only, not along the redirect to its storage', async (context) => {
  const { freehold, hub, folder } = await makeGround(context);
  await mkdir(path.join(folder, '.cache', 'huggingface'), { recursive: true });
  await writeFile(path.join(folder, '.cache', 'huggingface', 'token'), `${TOKEN}\n`);
  await install(freehold, 'hf://acme/triage-GGUF:Q4_0');
  for (const { headers } of hub.requests) assert.equal(headers.authorization, `Bearer ${TOKEN}`);
  assert.ok(hub.storageRequests.length > 0);
  for (const { headers } of hub.storageRequests) assert.equal(headers.authorization, undefined);
});

test('a licence with conditions must be accepted before the first byte', async (context) => {
  const { freehold, hub } = await makeGround(context, {
    cardData: { license: 'other', license_name: 'acme-terms', license_link: 'https://acme.example/terms' },
  });
  await assert.rejects(
    install(freehold, 'hf://acme/triage-GGUF:Q4_0'),
    refusedWith('LICENSE_NOT_ACCEPTED', /LicenseRef-acme-terms.*https:\/\/acme\.example\/terms/),
  );
  assert.equal(downloads(hub), 0);
  await install(freehold, 'hf://acme/triage-GGUF:Q4_0', { isLicenseAccepted: true });
});

test('wrong bytes from storage: nothing is installed, nothing is left', async (context) => {
  const bytes = await importableModel();
  const flipped = Buffer.from(bytes);
  flipped[flipped.length - 1] = (flipped[flipped.length - 1] ?? 0) ^ 1;
  const { freehold } = await makeGround(context, { served: new Map([['triage-7b-Q4_0.gguf', flipped]]) });
  await assert.rejects(
    install(freehold, 'hf://acme/triage-GGUF:Q4_0'),
    refusedWith('SOURCES_EXHAUSTED', /digest/),
  );
  assert.deepEqual(await listInstalled(freehold), []);
  const left = (await readdir(await freehold.home.folder('cache'))).filter((name) => !name.endsWith('.lock'));
  assert.deepEqual(left, []);
});

test('a download that breaks is continued, not begun anew', async (context) => {
  const { freehold, hub } = await makeGround(context, {
    files: new Map([['tiny-F32.gguf', await tinyModelBytes()]]),
    storage: (index) => (index === 0 ? { cutAfter: 2_000_000 } : {}),
  });
  await install(freehold, 'hf://acme/triage-GGUF');
  const [first, second, ...more] = hub.storageRequests.map(({ headers }) => headers.range);
  assert.deepEqual([first, more], [undefined, []]);
  assert.ok(Number(/^bytes=(\d+)-$/.exec(second ?? '')?.[1]) > 1_000_000, second);
});

test('digests that the repository’s list leaves out come from its folder; files without any are refused', async (context) => {
  const { freehold, hub } = await makeGround(context, { withoutLfsInInfo: true });
  await install(freehold, 'hf://acme/triage-GGUF:Q4_0');
  assert.ok(hub.requests.some(({ url }) => url?.includes('/tree/')));
  const plain = await makeGround(context, { plain: ['triage-7b-Q4_0.gguf'] });
  await assert.rejects(
    install(plain.freehold, 'hf://acme/triage-GGUF:Q4_0'),
    refusedWith('NOT_SUPPORTED', /no SHA-256/),
  );
});

test('a hostile hub: paths that leave the folder, a page instead of JSON, endless JSON', async (context) => {
  const files = new Map([
    ['../../etc/passwd.gguf', Buffer.from('x')],
    ['a\u001b[2Jb.gguf', Buffer.from('x')],
  ]);
  const { freehold } = await makeGround(context, { files });
  await assert.rejects(install(freehold, 'hf://acme/triage-GGUF'), refusedWith('NOT_FOUND', /no GGUF model/));
  const { startFileServer } = await import('../../../tests/fixtures/file-server.ts');
  await using page = await startFileServer((_request, response) => void response.end('<html>'));
  const misled = await makeImportGround(context, { HF_ENDPOINT: page.origin });
  await assert.rejects(install(misled.freehold, 'hf://acme/x'), refusedWith('NETWORK', /not JSON/));
  await using endless = await startFileServer((_request, response) => {
    const write = () => {
      while (!response.destroyed && response.write(Buffer.alloc(1 << 20, '['))) {}
      if (!response.destroyed) response.once('drain', write);
    };
    write();
  });
  const flooded = await makeImportGround(context, { HF_ENDPOINT: endless.origin });
  await assert.rejects(install(flooded.freehold, 'hf://acme/x'), refusedWith('SIZE_MISMATCH', /allowed/));
});

test('another model under the same name: refused with what to do, and --name installs it', async (context) => {
  const { freehold, hub } = await makeGround(context);
  await install(freehold, 'hf://acme/triage-GGUF:Q4_0');
  await assert.rejects(
    install(freehold, 'hf://acme/triage-GGUF:Q8_0'),
    refusedWith('ALREADY_EXISTS', /--name NAME.*freehold remove local\/triage/s),
  );
  const before = downloads(hub);
  const other = await install(freehold, 'hf://acme/triage-GGUF:Q8_0', { name: 'triage-two' });
  assert.equal(other.name, 'local/triage-two');
  assert.equal(downloads(hub), before, 'its bytes were there from the first attempt');
});

test('--offline: said before any connection', async (context) => {
  const { hub, reopen } = await makeGround(context);
  const offline = await reopen({}, true);
  await assert.rejects(install(offline, 'hf://acme/triage-GGUF:Q4_0'), refusedWith('OFFLINE', /--offline/));
  assert.equal(hub.requests.length, 0);
});

test('who took trust from the home key gets a refusal, not a new rule', async (context) => {
  const { freehold } = await makeGround(context);
  await freehold.home.ensureHomeSigner();
  const { removeTrust } = await import('./keys-and-trust.ts');
  await removeTrust(freehold, 'local/*');
  await assert.rejects(install(freehold, 'hf://acme/triage-GGUF:Q4_0'), { code: 'SIGNER_UNTRUSTED' });
});
