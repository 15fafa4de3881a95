import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { artifactPlaceSuite } from '../../../tests/conformance/artifact-place-suite.ts';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { descriptorOf, soundEntries } from '../../../tests/fixtures/raw-tar.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { blobName } from '../../core/format/archive-layout.ts';
import type { ManifestDocument } from '../../core/format/artifact-place.ts';
import { encodeJson, MEDIA_TYPE } from '../../core/format/oci.ts';
import { openLayoutFolder } from './layout-folder.ts';

const { signal } = new AbortController();
const code = (wanted: string) => (error: unknown) => error instanceof FreeholdError && error.code === wanted;

artifactPlaceSuite(
  'layout folder',
  async (context) => {
    const folder = path.join(await temporaryFolder(context), 'layout');
    return (await openLayoutFolder(folder, { mayCreate: true })).place('acme/triage');
  },
  { tags: true, referrers: true, requiresParts: true },
);

/** A layout as another tool left it. */
async function foreignLayout(folder: string, index: object): Promise<void> {
  for (const { name, bytes = Buffer.alloc(0) } of soundEntries()) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), name === 'index.json' ? encodeJson(index) : bytes);
  }
}

const manifestBytes = soundEntries()[2]?.bytes ?? Buffer.alloc(0);
const manifestEntry = (refName?: string) => ({
  ...descriptorOf(manifestBytes, MEDIA_TYPE.manifest),
  platform: { os: 'linux', architecture: 'amd64' },
  ...(refName === undefined ? {} : { annotations: { 'org.opencontainers.image.ref.name': refName } }),
});

test('names as other tools write them: a tag, a repository, a whole reference, none', async (context) => {
  const folder = await temporaryFolder(context);
  const names = [
    '1.0.0',
    'acme/triage:1.0.0',
    'registry.acme.example:5000/acme/triage:1.0.0',
    undefined,
    'no tag!',
  ];
  await foreignLayout(folder, { schemaVersion: 2, manifests: names.map(manifestEntry) });
  const layout = await openLayoutFolder(folder);
  for (const repository of ['', 'acme/triage', 'registry.acme.example:5000/acme/triage']) {
    assert.deepEqual(await layout.place(repository).tags(signal), ['1.0.0'], repository);
  }
  const found = await layout.place().manifest({ tag: '1.0.0' }, signal);
  assert.equal(found?.digest, Digest.of(manifestBytes));
});

test('what other tools wrote into index.json stays as it is', async (context) => {
  const folder = await temporaryFolder(context);
  const annotations = { 'com.acme.note': 'kept' };
  await foreignLayout(folder, {
    schemaVersion: 2,
    manifests: [manifestEntry('old')],
    annotations,
    other: [1],
  });
  const place = (await openLayoutFolder(folder)).place('');
  const document: ManifestDocument = {
    bytes: manifestBytes,
    digest: Digest.of(manifestBytes),
    mediaType: MEDIA_TYPE.manifest,
  };
  await place.putManifest(document, 'new', signal);
  const index = JSON.parse(await readFile(path.join(folder, 'index.json'), 'utf8'));
  assert.deepEqual([index.annotations, index.other], [annotations, [1]]);
  assert.deepEqual(index.manifests[0], manifestEntry('old'));
  assert.deepEqual([...(await place.tags(signal))].sort(), ['new', 'old']);
});

test('a referrer that another tool keeps in index.json without a name is found', async (context) => {
  const folder = await temporaryFolder(context);
  const subject = manifestEntry();
  const note = encodeJson({ schemaVersion: 2, artifactType: 'application/vnd.acme.note', subject });
  const manifests = [manifestEntry('1.0.0'), descriptorOf(note, MEDIA_TYPE.manifest)];
  await foreignLayout(folder, { schemaVersion: 2, manifests });
  await writeFile(path.join(folder, blobName(Digest.of(note))), note);
  const place = (await openLayoutFolder(folder)).place('');
  const [found] = await place.referrers(Digest.of(manifestBytes), signal);
  assert.deepEqual([found?.digest, found?.artifactType], [Digest.of(note), 'application/vnd.acme.note']);
});

test('a folder that is no layout is not made one by reading, and a link in the place of a blob is not followed', async (context) => {
  const folder = await temporaryFolder(context);
  await assert.rejects(openLayoutFolder(folder), code('NOT_FOUND'));
  assert.deepEqual(await readdir(folder), []);
  await foreignLayout(folder, { schemaVersion: 2, manifests: [] });
  const digest = Digest.of('secret');
  await writeFile(path.join(folder, 'secret'), 'secret');
  await symlink(path.join(folder, 'secret'), path.join(folder, blobName(digest)));
  const place = (await openLayoutFolder(folder)).place('');
  await assert.rejects(place.hasBlob({ digest, sizeBytes: 6 }, signal), code('ARCHIVE_INVALID'));
  await writeFile(path.join(folder, 'oci-layout'), '{"imageLayoutVersion":"9"}');
  await assert.rejects(openLayoutFolder(folder), code('ARCHIVE_INVALID'));
});
