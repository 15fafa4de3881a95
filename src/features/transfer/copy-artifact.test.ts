import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MemoryPlace, memoryPlace } from '../../../tests/fixtures/memory-place.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { manifestDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import { encodeJson, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { artifactManifest, EMPTY_CONFIG_BYTES } from '../../core/format/referrer.ts';
import { copyArtifact } from './copy-artifact.ts';
import { fromAny } from './failover.ts';
import { inParallel } from './parallel.ts';

const never = () => new AbortController().signal;

async function putBlob(place: MemoryPlace, bytes: Buffer): Promise<OciDescriptor> {
  const digest = Digest.of(bytes);
  const open = async function* (startBytes: number) {
    yield bytes.subarray(startBytes);
  };
  await place.putBlob({ digest, sizeBytes: bytes.length }, open, { signal: never() });
  return { mediaType: 'application/octet-stream', digest, size: bytes.length };
}

const descriptorOf = ({ mediaType, digest, bytes }: ManifestDocument): OciDescriptor => ({
  mediaType,
  digest,
  size: bytes.length,
});

/** An index over two manifests that share a layer, and a referrer of one of them. */
async function filledPlace() {
  const place = memoryPlace('source');
  await putBlob(place, EMPTY_CONFIG_BYTES);
  const shared = await putBlob(place, Buffer.from('shared'));
  const first = artifactManifest('application/x-test', [shared, await putBlob(place, Buffer.from('first'))]);
  const second = artifactManifest('application/x-test', [
    shared,
    await putBlob(place, Buffer.from('second')),
  ]);
  const referrer = artifactManifest('application/x-note', [await putBlob(place, Buffer.from('note'))], {
    subject: first,
  });
  for (const document of [first, second, referrer]) await place.putManifest(document, undefined, never());
  const index = manifestDocument(
    encodeJson({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.index,
      manifests: [descriptorOf(first), descriptorOf(second)],
    }),
  );
  await place.putManifest(index, '1.0.0', never());
  return { place, index, first, second, referrer };
}

test('everything that hangs on a document is copied once, unchanged, the tag last', async () => {
  const { place, index, referrer } = await filledPlace();
  const target = memoryPlace('target');
  const order: string[] = [];
  const watched = {
    ...target,
    putManifest: async (document: ManifestDocument, tag: string | undefined, signal: AbortSignal) => {
      order.push(tag ?? document.digest);
      await target.putManifest(document, tag, signal);
    },
  };
  const report = await copyArtifact([place], watched, index, { signal: never(), tag: '1.0.0' });
  assert.deepEqual([...target.blobs.keys()].sort(), [...place.blobs.keys()].sort());
  assert.deepEqual([...target.manifests.keys()].sort(), [...place.manifests.keys()].sort());
  assert.equal(target.tagged.get('1.0.0'), index.digest);
  assert.equal(report.writtenBlobs, 5);
  assert.equal(report.documents, 4);
  assert.ok(order.indexOf(referrer.digest) >= 0);
  const again = await copyArtifact([place], watched, index, { signal: never(), tag: '1.0.0' });
  assert.equal(again.writtenBytes, 0);
});

test('referrers stay behind when they are not wanted, and a dry run writes nothing', async () => {
  const { place, index, referrer } = await filledPlace();
  const target = memoryPlace('target');
  const dry = await copyArtifact([place], target, index, { signal: never(), isDryRun: true });
  assert.equal(dry.writtenBlobs, 5);
  assert.equal(target.blobs.size + target.manifests.size, 0);
  await copyArtifact([place], target, index, { signal: never(), withReferrers: false });
  assert.equal(target.manifests.has(referrer.digest), false);
});

test('a referrer that is listed and gone costs only itself', async () => {
  const { place, index, referrer } = await filledPlace();
  const listing: ArtifactSource = {
    ...place,
    manifest: async (reference, signal) =>
      'digest' in reference && reference.digest === referrer.digest
        ? undefined
        : place.manifest(reference, signal),
  };
  const target = memoryPlace('target');
  await copyArtifact([listing], target, index, { signal: never(), tag: '1.0.0' });
  assert.equal(target.tagged.get('1.0.0'), index.digest);
  assert.equal(target.manifests.has(referrer.digest), false);
});

test('attack: documents that hang on each other without end are refused', async () => {
  const place = memoryPlace('endless');
  let bytes = encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [] });
  for (let depth = 0; depth < 12; depth++) {
    const below = manifestDocument(bytes);
    place.manifests.set(below.digest, below);
    bytes = encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [descriptorOf(below)] });
  }
  await assert.rejects(
    copyArtifact([place], memoryPlace('target'), manifestDocument(bytes), { signal: never() }),
    (error) => error instanceof FreeholdError && error.code === 'MANIFEST_INVALID',
  );
});

test('all sources fail: the error names each with its reason; our own disk ends it at once', async () => {
  const named = (label: string): ArtifactSource => ({ ...memoryPlace(label) });
  const sources = [named('first'), named('second')];
  await assert.rejects(
    fromAny(sources, 'the weights', { signal: never() }, async ({ label }) => {
      throw new FreeholdError('NETWORK', `${label} is down`);
    }),
    (error) =>
      error instanceof FreeholdError &&
      error.code === 'SOURCES_EXHAUSTED' &&
      /first \(first is down\); second \(second is down\)/.test(error.message),
  );
  let attempts = 0;
  await assert.rejects(
    fromAny(sources, 'the weights', { signal: never() }, async () => {
      attempts++;
      throw new FreeholdError('DISK_FULL', 'full');
    }),
    (error) => error instanceof FreeholdError && error.code === 'DISK_FULL',
  );
  assert.equal(attempts, 1);
});

test('the first failure of many ends the others', async () => {
  const begun: number[] = [];
  let aborted = 0;
  await assert.rejects(
    inParallel([1, 2, 3, 4, 5, 6], 3, never(), async (item, signal) => {
      begun.push(item);
      if (item === 2) throw new Error('two');
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      aborted++;
      throw signal.reason;
    }),
    /two/,
  );
  assert.deepEqual(begun, [1, 2, 3]);
  assert.equal(aborted, 2);
});
