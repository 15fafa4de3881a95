import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { BaseFetcher, Updater } from 'tuf-js';
import { DownloadHTTPError } from 'tuf-js/dist/error.js';
import {
  allKeys,
  channelKeys,
  PACKAGE,
  publisherKeys,
  TestPublisher,
} from '../../../tests/fixtures/channels.ts';
import { memoryPlace } from '../../../tests/fixtures/memory-place.ts';
import { Digest } from '../../core/base/digest.ts';
import { manifestDocument } from '../../core/format/artifact-documents.ts';
import { encodeJson } from '../../core/format/oci.ts';
import {
  CHANNELS_TAG,
  encodeChannelArtifact,
  openChannelArtifact,
  pushChannels,
} from './channel-artifact.ts';
import { documentsOf } from './channel-editing.ts';
import { rotateRoot } from './channel-publishing.ts';

const { signal } = new AbortController();

function published() {
  const publisher = new TestPublisher(publisherKeys(), PACKAGE, Date.now());
  publisher.publish(publisher.contents, { nowMs: Date.now() });
  publisher.promote('1.0.0');
  const next = publisherKeys();
  publisher.files = rotateRoot(publisher.files, documentsOf(PACKAGE, publisher.contents), {
    ...publisher.options({ keys: [...allKeys(publisher.keys), ...allKeys(next)], nowMs: Date.now() }),
    roles: channelKeys(next),
  });
  return publisher.files;
}

describe('the artifact of channels', () => {
  test('gives every file back, and is the same for the same files', async () => {
    const files = published();
    const place = memoryPlace();
    const digest = await pushChannels(place, files, PACKAGE, undefined, signal);
    assert.equal(place.tagged.get(CHANNELS_TAG), digest);
    const artifact = await openChannelArtifact(place, signal);
    assert.deepEqual(await artifact?.rootVersions(), [1, 2]);
    for (const [title, bytes] of files) assert.deepEqual(await artifact?.read(title, 1 << 20), bytes, title);
    assert.equal(await artifact?.read('3.root.json', 1 << 20), undefined);
    const shuffled = new Map([...files].toReversed());
    assert.equal(encodeChannelArtifact(shuffled, PACKAGE).manifest.digest, digest);
    assert.equal(await openChannelArtifact(memoryPlace(), signal), undefined);
  });

  test('is refused when its manifest is another tool’s, names a layer twice, or lists a million', async () => {
    const files = published();
    const { manifest, blobs } = encodeChannelArtifact(files, PACKAGE);
    const sound = JSON.parse(manifest.bytes.toString()) as { layers: object[] };
    const [layer] = sound.layers;
    const hostile = {
      artifactType: { ...sound, artifactType: 'application/vnd.cncf.model.manifest.v1+json' },
      'two layers are named': { ...sound, layers: [...sound.layers, layer] },
      layers: { ...sound, layers: new Array(451).fill(layer) },
      digest: { ...sound, layers: [{ ...layer, digest: 'sha256:../../etc' }] },
    };
    for (const [message, document] of Object.entries(hostile)) {
      const place = memoryPlace();
      for (const bytes of blobs) place.blobs.set(Digest.of(bytes), bytes);
      const bytes = encodeJson(document);
      const digest = Digest.of(bytes);
      place.manifests.set(digest, { bytes, digest, mediaType: '' });
      place.tagged.set(CHANNELS_TAG, digest);
      await assert.rejects(openChannelArtifact(place, signal), {
        code: 'CHANNEL_INVALID',
        message: new RegExp(message),
      });
    }
    assert.equal(manifestDocument(manifest.bytes).mediaType, manifest.mediaType);
  });

  test('is refused in each layer that is altered, shortened, longer, or gone', async () => {
    const files = published();
    for (const spoil of [
      (bytes: Buffer) => Buffer.from(bytes.toString().replace(/\d/, 'x')),
      (bytes: Buffer) => bytes.subarray(1),
      (bytes: Buffer) => Buffer.concat([bytes, bytes]),
      () => undefined,
    ]) {
      const place = memoryPlace();
      await pushChannels(place, files, PACKAGE, undefined, signal);
      for (const [digest, bytes] of place.blobs) {
        const spoiled = spoil(bytes);
        if (spoiled === undefined) place.blobs.delete(digest);
        else place.blobs.set(digest, spoiled);
      }
      const artifact = await openChannelArtifact(place, signal);
      for (const title of files.keys()) {
        await assert.rejects(artifact?.read(title, 1 << 20) ?? Promise.resolve(), {
          code: 'CHANNEL_INVALID',
        });
      }
      await assert.rejects(artifact?.read('1.root.json', 10) ?? Promise.resolve(), {
        code: 'CHANNEL_INVALID',
        message: /at most 10/,
      });
    }
  });

  test('of two who publish at once, the second is told, and the same again is no quarrel', async () => {
    const files = published();
    const place = memoryPlace();
    const digest = await pushChannels(place, files, PACKAGE, undefined, signal);
    await pushChannels(place, files, PACKAGE, undefined, signal);
    const others = published();
    await assert.rejects(pushChannels(place, others, PACKAGE, undefined, signal), { code: 'BUSY' });
    await pushChannels(place, others, PACKAGE, digest, signal);
  });

  test('its files are a repository of TUF that another client follows', async (context) => {
    const files = published();
    const folder = await mkdtemp(path.join(os.tmpdir(), 'freehold-tuf-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    await writeFile(path.join(folder, 'root.json'), files.get('1.root.json') ?? '');
    class FilesFetcher extends BaseFetcher {
      override async fetch(url: string) {
        const bytes = files.get(url.replace('https://updates.acme.example/', ''));
        if (bytes === undefined) throw new DownloadHTTPError('not there', 404);
        return new Blob([new Uint8Array(bytes)]).stream();
      }
    }
    const updater = new Updater({
      metadataDir: folder,
      metadataBaseUrl: 'https://updates.acme.example',
      targetDir: folder,
      targetBaseUrl: 'https://updates.acme.example',
      fetcher: new FilesFetcher(),
    });
    await updater.refresh();
    const target = await updater.getTargetInfo('channels/stable.json');
    assert.ok(target !== undefined);
    const file = await updater.downloadTarget(target);
    const document = JSON.parse(await readFile(file, 'utf8')) as { releases: { version: string }[] };
    assert.equal(document.releases[0]?.version, '1.0.0');
  });
});
