import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { TestPublisher } from '../../../tests/fixtures/channels.ts';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { startTestRegistry } from '../../../tests/fixtures/test-registry.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { CHANNELS_TAG, encodeChannelArtifact } from '../../features/updates/channel-artifact.ts';
import { ArchiveDraft } from '../../io/archive/archive-draft.ts';
import { writeArchive } from '../../io/archive/archive-writer.ts';
import { restoreArchive } from './archive-restore.ts';
import { saveArchive } from './archive-save.ts';
import { type Freehold, openFreehold } from './freehold.ts';
import { installedPackages } from './installed-packages.ts';
import { mirror } from './mirror.ts';
import { parseMirrorPlace } from './mirror-place.ts';

const { signal } = new AbortController();
const code = (wanted: string) => (error: unknown) => error instanceof FreeholdError && error.code === wanted;

/** A home and an archive of it with the packages `acme/tiny` and `acme/other`. */
async function ground(context: TestContext, names: readonly string[] = ['acme/tiny']) {
  const folder = await temporaryFolder(context, 'freehold-mirror-');
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
  for (const name of names) await installTinyPackage(freehold, path.join(folder, name), { name });
  const archive = path.join(folder, 'a.tar');
  await saveArchive(freehold, archive, [], { signal, isWithoutProgram: true });
  const copy = (from: string, to: string, options = {}) => mirror(freehold, from, to, { signal, ...options });
  return { folder, freehold, archive: `archive:${archive}`, copy };
}

const tagsOf = (report: { tags: readonly { name: string; digest: string }[] }) =>
  report.tags.map(({ name, digest }) => [name, digest]).sort();

test('archive → registry → layout → archive → a home: the digests stay, and the second time nothing is sent', async (context) => {
  const { folder, freehold, archive, copy } = await ground(context);
  const { host } = await startTestRegistry(context);
  const sent = await copy(archive, `oci://${host}/mirror/tiny`);
  assert.ok(sent.writtenBytes > 1_000_000);
  const again = await copy(archive, `oci://${host}/mirror/tiny`);
  assert.deepEqual([again.writtenBytes, again.presentBytes > 1_000_000], [0, true]);
  const layout = `layout:${path.join(folder, 'layout')}#acme/tiny`;
  const pulled = await copy(`oci://${host}/mirror/tiny`, layout);
  const last = path.join(folder, 'b.tar');
  const written = await copy(layout, `archive:${last}`);
  assert.deepEqual(written.files, [last]);
  const names = sent.tags.map(({ digest }) => digest).sort();
  for (const report of [pulled, written]) {
    assert.deepEqual(
      tagsOf(report).map(([name]) => name),
      ['acme/tiny:1.0.0', 'acme/tiny:1.0.0-f32'],
    );
    assert.deepEqual(report.tags.map(({ digest }) => digest).sort(), names);
  }
  const before = installedPackages(await freehold.store.entries());
  await restoreArchive(freehold, last, { signal, approved: { kind: 'none' } });
  assert.deepEqual(installedPackages(await freehold.store.entries()), before);
});

test('only the tags that were named', async (context) => {
  const { folder, archive, copy } = await ground(context);
  const { host } = await startTestRegistry(context);
  await copy(archive, `oci://${host}/tiny`);
  const layout = `layout:${path.join(folder, 'layout')}`;
  assert.deepEqual((await copy(`oci://${host}/tiny:1.0.0-f32`, layout)).tags.length, 1);
  assert.deepEqual((await copy(archive, layout, { tags: ['1.0.0'] })).tags.length, 1);
  await assert.rejects(copy(archive, layout, { tags: ['9.9.9'] }), code('NOT_FOUND'));
  await assert.rejects(copy(archive, `oci://${host}/tiny:1.0.0`), code('REFERENCE_INVALID'));
});

test('several repositories do not fall into one, and go below a prefix each under its name', async (context) => {
  const { archive, copy } = await ground(context, ['acme/tiny', 'acme/other']);
  const registry = await startTestRegistry(context);
  await assert.rejects(copy(archive, `oci://${registry.host}/all`), code('REFERENCE_INVALID'));
  assert.deepEqual([...registry.repositories.keys()], []);
  await copy(archive, `oci://${registry.host}/mirror/`);
  assert.deepEqual([...registry.repositories.keys()].sort(), ['mirror/acme/other', 'mirror/acme/tiny']);
  await copy(`${archive}#acme/tiny`, `oci://${registry.host}/one`);
  await assert.rejects(copy(`${archive}#acme/absent`, `oci://${registry.host}/one`), code('NOT_FOUND'));
});

test('a dry run counts each blob once, and writes nothing', async (context) => {
  const { folder, archive, copy } = await ground(context);
  const before = await readdir(folder);
  for (const to of ['archive', 'layout']) {
    const place = `${to}:${path.join(folder, 'new')}`;
    const counted = await copy(archive, place, { isDryRun: true });
    assert.deepEqual(await readdir(folder), before);
    assert.equal(counted.tags.length, 2);
    if (to === 'layout') assert.equal((await copy(archive, place)).writtenBytes, counted.writtenBytes);
  }
});

test('an archive that is there is not overwritten', async (context) => {
  const { archive, copy } = await ground(context);
  await assert.rejects(copy(archive, archive), code('ALREADY_EXISTS'));
});

test('without the network a registry is not asked', async (context) => {
  const { folder, archive } = await ground(context);
  const offline: Freehold = await openFreehold({ env: {}, home: path.join(folder, 'home'), isOffline: true });
  await assert.rejects(
    mirror(offline, archive, 'oci://registry.acme.example/x', { signal }),
    code('OFFLINE'),
  );
});

test('places that a user may name', () => {
  const prefix = parseMirrorPlace('oci://registry.acme.example:5000/mirror/');
  assert.deepEqual(prefix, {
    kind: 'registry-prefix',
    host: 'registry.acme.example:5000',
    prefix: 'mirror/',
  });
  assert.deepEqual(parseMirrorPlace('oci://registry.acme.example/'), {
    kind: 'registry-prefix',
    host: 'registry.acme.example',
    prefix: '',
  });
  assert.deepEqual(parseMirrorPlace('archive:/stick/a.tar#acme/tiny'), {
    kind: 'archive',
    path: '/stick/a.tar',
    repository: 'acme/tiny',
  });
  for (const text of [
    'a.tar',
    'archive:',
    'layout:x#',
    'layout:#x',
    'oci://HOST/x#q4',
    'oci://h/x:^1.4',
    'layout:a\0b',
  ]) {
    assert.throws(
      () => parseMirrorPlace(text),
      (error) => error instanceof FreeholdError && error.exitCode === 2,
      text,
    );
  }
});

test('channels are copied forward, never back', async (context) => {
  const folder = await temporaryFolder(context);
  const publisher = new TestPublisher();
  const archives: string[] = [];
  for (const name of ['older.tar', 'newer.tar']) {
    const { manifest, blobs } = encodeChannelArtifact(publisher.files, publisher.name);
    const draft = new ArchiveDraft();
    for (const bytes of blobs) draft.addBytes(bytes, '');
    draft.addDocument(manifest, { repository: 'acme/triage', tag: CHANNELS_TAG });
    const file = path.join(folder, name);
    await writeArchive(
      file,
      draft.plan(() => false),
      { signal },
    );
    archives.push(`archive:${file}`);
    publisher.promote('1.0.0');
  }
  const [older = '', newer = ''] = archives;
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
  const { host } = await startTestRegistry(context);
  for (const to of [`oci://${host}/acme/triage`, `layout:${path.join(folder, 'layout')}`]) {
    const copy = (from: string) => mirror(freehold, from, to, { signal });
    assert.deepEqual((await copy(older)).remarks, []);
    assert.deepEqual((await copy(newer)).remarks, []);
    const { tags, remarks } = await copy(older);
    assert.deepEqual(tags, []);
    assert.match(remarks.join(), /stays: those of the source are older \(root 1, timestamp 1\)$/);
    assert.equal((await copy(newer)).writtenBytes, 0);
  }
});
