import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MemoryPlace, memoryPlace } from '../../../tests/fixtures/memory-place.ts';
import { seededRandom } from '../../../tests/fixtures/random.ts';
import type { BlobStore } from '../../core/base/blob-store.ts';
import { collectBytes, memoryByteSource } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { ArtifactSource, BlobRange, ManifestDocument } from '../../core/format/artifact-place.ts';
import { CHUNK_MAP_TYPE, chunkBlob, encodeChunkMap, parseChunkMap } from '../../core/format/chunk-map.ts';
import { CHUNK_BYTES_MAX } from '../../core/format/chunker.ts';
import { MEDIA_TYPE } from '../../core/format/oci.ts';
import { artifactManifest, EMPTY_CONFIG_BLOB, EMPTY_CONFIG_BYTES } from '../../core/format/referrer.ts';
import { type Delta, openDelta, putBlobByDelta } from './delta.ts';
import { makeChunkMaps } from './delta-maps.ts';
import { ChunkIndex, GAP_BYTES_MAX, planDelta } from './delta-plan.ts';

const { signal } = new AbortController();

/** Bytes without a pattern, the same for the same seed. */
function noise(seed: number, length: number): Buffer {
  const random = seededRandom(seed);
  const bytes = Buffer.alloc(length);
  for (let offset = 0; offset + 4 <= length; offset += 4) bytes.writeUInt32LE(random.uint32(), offset);
  return bytes;
}

const SIZE = 6 << 20;
const V1 = noise(1, SIZE);
/** 5 KiB put in near the beginning, as a longer template does; 100 KiB changed further on, as weights of a layer. */
const V2 = Buffer.concat([
  V1.subarray(0, 50_000),
  noise(2, 5_000),
  V1.subarray(50_000, 3_000_000),
  noise(3, 100_000),
  V1.subarray(3_100_000),
]);

const blobOf = (bytes: Buffer) => ({ digest: Digest.of(bytes), sizeBytes: bytes.length });

/** Puts weights as a variant would have them, with their chunk map. */
async function publish(place: MemoryPlace, weights: Buffer, withMap = true): Promise<ManifestDocument> {
  const { digest, sizeBytes } = blobOf(weights);
  place.blobs.set(digest, weights);
  place.blobs.set(EMPTY_CONFIG_BLOB.digest, EMPTY_CONFIG_BYTES);
  const manifest = artifactManifest(MEDIA_TYPE.modelManifest, [
    { mediaType: MEDIA_TYPE.weight, digest, size: sizeBytes },
  ]);
  await place.putManifest(manifest, undefined, signal);
  const maps = withMap ? await makeChunkMaps(place, manifest, signal) : undefined;
  for (const { blob, bytes } of maps?.blobs ?? []) place.blobs.set(blob.digest, bytes);
  if (maps !== undefined) await place.putManifest(maps.manifest, undefined, signal);
  return manifest;
}

/** A local store, of which a test may spoil the bytes behind a digest. */
const localBlobs = (place: MemoryPlace): Pick<BlobStore, 'open'> => ({
  async open(digest) {
    const bytes = place.blobs.get(digest);
    if (bytes === undefined) throw new FreeholdError('NOT_FOUND', `no ${digest}`);
    return { ...memoryByteSource(bytes), close: async () => {} };
  },
});

interface Ground {
  readonly remote: MemoryPlace;
  readonly local: MemoryPlace;
  readonly ranges: BlobRange[];
  /** `remote`, with the ranges that were asked for. */
  readonly source: ArtifactSource;
  readonly delta: Delta;
}

async function makeGround(options: { withLocalMap?: boolean; withMap?: boolean } = {}): Promise<Ground> {
  const [remote, local] = [memoryPlace('remote'), memoryPlace('local')];
  const manifest = await publish(remote, V2, options.withMap);
  const base = await publish(local, V1, options.withLocalMap === true);
  const ranges: BlobRange[] = [];
  const source: ArtifactSource = {
    ...remote,
    blob(blob, range, stop) {
      if (blob.digest === blobOf(V2).digest) ranges.push(range);
      return remote.blob(blob, range, stop);
    },
  };
  const delta = openDelta({
    manifest: manifest.digest,
    bases: [{ manifest: base, source: local, blobs: localBlobs(local) }],
  });
  return { remote, local, ranges, source, delta };
}

async function pull({ source, delta, local }: Ground): Promise<Buffer | undefined> {
  await putBlobByDelta(local, blobOf(V2), { source, delta, signal });
  return local.blobs.get(blobOf(V2).digest);
}

test('of the second version only what changed is fetched', async () => {
  for (const withLocalMap of [true, false]) {
    const ground = await makeGround({ withLocalMap });
    assert.deepEqual(await pull(ground), V2);
    const { fetchedBytes, reusedBytes, mapBytes } = ground.delta.report;
    assert.equal(fetchedBytes + reusedBytes, V2.length);
    assert.ok(fetchedBytes < 105_000 + 4 * CHUNK_BYTES_MAX, `fetched ${fetchedBytes}`);
    assert.ok(ground.ranges.length <= 2, 'one request for each change');
    assert.ok(mapBytes > 0 && mapBytes < V2.length / 1000);
  }
});

test('it can be begun anywhere, as a resumed download does', async () => {
  const { source, delta } = await makeGround();
  const open = await delta.open(blobOf(V2), source, signal);
  assert.ok(open);
  for (const start of [0, 1, 49_999, 50_000, 60_000, 3_050_000, SIZE, V2.length - 1, V2.length]) {
    assert.deepEqual(await collectBytes(open(start), V2.length), V2.subarray(start), `from ${start}`);
  }
});

test('without a map, without a base, or with nothing in common there is no delta', async () => {
  const plain = await makeGround({ withMap: false });
  assert.equal(await plain.delta.open(blobOf(V2), plain.source, signal), undefined);
  assert.deepEqual(await pull(plain), V2, 'and the blob comes whole');
  const { source, remote } = await makeGround();
  const [referrer] = await remote.referrers(openless(remote), signal);
  assert.ok(referrer);
  const alone = openDelta({ manifest: openless(remote), bases: [] });
  assert.equal(await alone.open(blobOf(V2), source, signal), undefined);
  const other = memoryPlace('other');
  const base = await publish(other, noise(9, SIZE));
  const strange = openDelta({
    manifest: openless(remote),
    bases: [{ manifest: base, source: other, blobs: localBlobs(other) }],
  });
  assert.equal(await strange.open(blobOf(V2), source, signal), undefined);
});

/** The digest of the one manifest that is no referrer. */
function openless(place: MemoryPlace): Digest {
  const found = [...place.manifests.values()].find(({ bytes }) => !bytes.includes('"subject"'));
  assert.ok(found);
  return found.digest;
}

test('damaged local bytes are fetched, never used', async () => {
  const ground = await makeGround({ withLocalMap: true });
  const damaged = Buffer.from(V1);
  for (const offset of [10, 2_000_000, 2_200_000, 5_999_999]) damaged[offset] = (damaged[offset] ?? 0) ^ 1;
  ground.local.blobs.set(blobOf(V1).digest, damaged);
  assert.deepEqual(await pull(ground), V2);
  assert.ok(ground.delta.report.reusedBytes > SIZE / 2);
});

test('a local file that is gone, cut off or all wrong costs time only', async () => {
  for (const spoilt of [undefined, V1.subarray(0, 1_000_000), noise(7, SIZE)]) {
    const ground = await makeGround({ withLocalMap: true });
    if (spoilt === undefined) ground.local.blobs.delete(blobOf(V1).digest);
    else ground.local.blobs.set(blobOf(V1).digest, spoilt);
    assert.deepEqual(await pull(ground), V2);
  }
});

/** Puts another map in the place of the right one, as whoever may write to the repository can. */
async function replaceMap({ remote }: Ground, change: (map: Buffer) => Buffer): Promise<void> {
  const [referrer] = await remote.referrers(openless(remote), signal);
  assert.ok(referrer);
  const manifest = remote.manifests.get(openless(remote));
  const mapped = [...remote.blobs.entries()].find(
    ([, bytes]) => bytes.subarray(0, 7).toString() === 'FHCHUNK',
  );
  assert.ok(manifest && mapped);
  const bytes = change(mapped[1]);
  remote.manifests.delete(referrer.digest);
  const { digest, sizeBytes } = blobOf(bytes);
  remote.blobs.set(digest, bytes);
  const annotations = { 'org.freehold.chunk-map.blob': blobOf(V2).digest };
  const layer = { mediaType: CHUNK_MAP_TYPE, digest, size: sizeBytes, annotations };
  await remote.putManifest(
    artifactManifest(CHUNK_MAP_TYPE, [layer], { subject: manifest }),
    undefined,
    signal,
  );
}

test('a map that says that the old bytes are the new ones: the digest of the whole catches it, and it is pulled whole', async () => {
  const ground = await makeGround({ withLocalMap: true });
  const lie = await chunkBlob(blobOf(V1), ground.local.blob(blobOf(V1), { startBytes: 0 }, signal));
  const total = lie.lengths.reduce((sum, length) => sum + length, 0);
  await replaceMap(ground, () => {
    // All chunks are here and sound, and their lengths add up: only what they make is another blob.
    const lengths = Uint32Array.from(lie.lengths);
    lengths[lengths.length - 1] = (lengths.at(-1) ?? 0) + V2.length - total;
    return encodeChunkMap({ blob: blobOf(V2), lengths, digests: lie.digests });
  });
  assert.deepEqual(await pull(ground), V2);
  assert.equal(ground.delta.report.reusedBytes, 0);
});

test('a map that cannot be read is passed over', async () => {
  const hostile: Record<string, (map: Buffer) => Buffer> = {
    garbage: () => Buffer.from('<html>no such thing</html>'),
    'of another blob': (map) => Buffer.concat([map.subarray(0, 8), Buffer.alloc(32), map.subarray(40)]),
    'cut off': (map) => map.subarray(0, map.length - 1),
  };
  for (const [name, change] of Object.entries(hostile)) {
    const ground = await makeGround();
    await replaceMap(ground, change);
    assert.equal(await ground.delta.open(blobOf(V2), ground.source, signal), undefined, name);
    assert.deepEqual(await pull(ground), V2, name);
  }
});

test('a map of digests that all collide costs no walk over all chunks for each', () => {
  const count = 100_000;
  const blob = { digest: Digest.of('x'), sizeBytes: count * CHUNK_BYTES_MAX };
  const digests = Buffer.alloc(32 * count);
  // The same four bytes in front, another number behind: what a hash table would go by.
  for (let index = 0; index < count; index++) digests.writeUInt32LE(index, 32 * index + 4);
  const map = { blob, lengths: new Uint32Array(count).fill(CHUNK_BYTES_MAX), digests };
  const started = performance.now();
  planDelta(map, new ChunkIndex([map]));
  assert.ok(performance.now() - started < 30_000, 'a walk for each would take minutes');
});

test('one false referrer does not hide the right map', async () => {
  const ground = await makeGround();
  const manifest = ground.remote.manifests.get(openless(ground.remote));
  assert.ok(manifest);
  const right = [...ground.remote.manifests.entries()].filter(([digest]) => digest !== manifest.digest);
  for (const [digest] of right) ground.remote.manifests.delete(digest);
  const layer = { mediaType: CHUNK_MAP_TYPE, digest: EMPTY_CONFIG_BLOB.digest, size: 2 };
  await ground.remote.putManifest(
    artifactManifest(CHUNK_MAP_TYPE, [layer], { subject: manifest }),
    undefined,
    signal,
  );
  for (const [digest, document] of right) ground.remote.manifests.set(digest, document);
  assert.ok(await ground.delta.open(blobOf(V2), ground.source, signal));
});

test('a place whose referrers cannot be read gives the blob whole', async () => {
  const ground = await makeGround();
  const source: ArtifactSource = {
    ...ground.source,
    referrers: async () => {
      throw new FreeholdError('NETWORK', 'the server hung up');
    },
  };
  assert.deepEqual(await pull({ ...ground, source }), V2);
});

test('short runs of local chunks are fetched along, long ones are not', async () => {
  const map = await chunkBlob(blobOf(V1), memoryPlaceOf(V1));
  const lengths = Array.from(map.lengths);
  // Every chunk is here but the fifth and the seventh.
  const missing = [5, 7];
  const { local, fetchBytes, requests } = planDelta(map, indexWithout(map, missing));
  const gap = lengths[6] ?? 0;
  assert.ok(gap <= GAP_BYTES_MAX);
  assert.equal(requests, 1);
  assert.equal(fetchBytes, gap + missing.reduce((sum, chunk) => sum + (lengths[chunk] ?? 0), 0));
  assert.equal(local[4] === undefined || local[8] === undefined, false);
  assert.equal(planDelta(map, indexWithout(map, [5, 20])).requests, 2);
});

const memoryPlaceOf = async function* (bytes: Buffer) {
  yield bytes;
};

/** An index of the map in which some chunks have other digests. */
function indexWithout(map: Awaited<ReturnType<typeof chunkBlob>>, chunks: readonly number[]): ChunkIndex {
  const digests = Uint8Array.from(map.digests);
  for (const chunk of chunks) digests.fill(0, 32 * chunk, 32 * chunk + 32);
  return new ChunkIndex([{ ...map, digests }]);
}

test('a digest that another length goes with is not the same chunk', async () => {
  const map = await chunkBlob(blobOf(V1), memoryPlaceOf(V1));
  const index = new ChunkIndex([map]);
  const digest = map.digests.subarray(0, 32);
  assert.deepEqual(index.find(digest, map.lengths[0] ?? 0), { map: 0, offset: 0 });
  assert.equal(index.find(digest, (map.lengths[0] ?? 0) + 1), undefined);
});

test('the documents of maps are the same each time, and read back', async () => {
  const place = memoryPlace();
  const manifest = await publish(place, V2, false);
  const [first, second] = [
    await makeChunkMaps(place, manifest, signal),
    await makeChunkMaps(place, manifest, signal),
  ];
  assert.deepEqual(first, second);
  const map = first?.blobs.find(({ blob }) => blob.digest !== EMPTY_CONFIG_BLOB.digest);
  assert.ok(map);
  assert.equal(parseChunkMap(map.bytes, blobOf(V2)).blob.digest, blobOf(V2).digest);
  assert.equal(
    await makeChunkMaps(place, await publish(place, V1.subarray(0, 1000), false), signal),
    undefined,
  );
});
