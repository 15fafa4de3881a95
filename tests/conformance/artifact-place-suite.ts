import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { Digest } from '../../src/core/base/digest.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';
import type {
  ArtifactPlace,
  BlobReference,
  ManifestDocument,
  PutBlobOutcome,
} from '../../src/core/format/artifact-place.ts';
import { encodeJson, MEDIA_TYPE, type OciDescriptor } from '../../src/core/format/oci.ts';

/** What an adapter can do besides what the port demands of all. */
export interface ArtifactPlaceAbilities {
  /** Knows documents by tag, and lists the tags. */
  readonly tags: boolean;
  /** Lists manifests by their `subject`. */
  readonly referrers: boolean;
  /** Refuses a manifest of which a part is missing. */
  readonly requiresParts: boolean;
  /** Why this adapter cannot be tested here: a tool that is missing. */
  readonly skip?: string | false;
}

/** The adapter lives as long as its test: `context.after` takes it down. */
export type OpenPlace = (context: Pick<TestContext, 'after' | 'name'>) => Promise<ArtifactPlace>;

/**
 * The one suite that every ArtifactPlace passes.
 * @param open gives a fresh place, in which there is nothing yet
 */
export function artifactPlaceSuite(name: string, open: OpenPlace, abilities: ArtifactPlaceAbilities): void {
  const placeTest: PlaceTest = (title, work) =>
    test(title, { skip: abilities.skip ?? false }, async (context) => work(await open(context)));
  describe(`ArtifactPlace: ${name}`, () => {
    describe('blobs', () => blobTests(placeTest));
    describe('blobs that are refused', () => refusedBlobTests(placeTest));
    describe('manifests', () => manifestTests(placeTest, abilities));
    if (abilities.tags) describe('tags', () => tagTests(placeTest));
    if (abilities.referrers) describe('referrers', () => referrerTests(placeTest, abilities));
    describe('several at once', () => concurrencyTests(placeTest, abilities));
  });
}

type PlaceTest = (title: string, work: (place: ArtifactPlace) => Promise<void>) => void;

const HELLO = Buffer.from('hello, artifact');
const ABSENT = Digest.of('never stored');
const never = (): AbortSignal => new AbortController().signal;
/** Larger than any piece in which a place may move bytes, and no multiple of one. */
const LARGE_BYTES = (5 << 20) + 12_345;

function blobTests(placeTest: PlaceTest): void {
  placeTest('what was written is there', async (place) => {
    const blob = blobOf(HELLO);
    assert.equal(await place.hasBlob(blob, never()), false);
    assert.equal(await put(place, HELLO), 'written');
    assert.equal(await place.hasBlob(blob, never()), true);
    assert.deepEqual(await read(place, blob), HELLO);
  });

  placeTest('a blob that is there is not read again', async (place) => {
    await put(place, HELLO);
    const open = () => assert.fail('the bytes were asked for');
    assert.equal(await place.putBlob(blobOf(HELLO), open, { signal: never() }), 'present');
  });

  placeTest('an empty blob is a blob', async (place) => {
    const empty = Buffer.alloc(0);
    await put(place, empty);
    assert.equal(await place.hasBlob(blobOf(empty), never()), true);
    assert.equal((await read(place, blobOf(empty))).byteLength, 0);
  });

  placeTest('any range comes back, and nothing else', async (place) => {
    const whole = patternBytes(10_000);
    const blob = blobOf(whole);
    await put(place, whole);
    const positions = fc.tuple(fc.nat(whole.length), fc.nat(whole.length));
    await fc.assert(
      fc.asyncProperty(positions, async ([first, second]) => {
        const [startBytes, endBytes] = [Math.min(first, second), Math.max(first, second)];
        const part = await read(place, blob, startBytes, endBytes);
        assert.deepEqual(part, whole.subarray(startBytes, endBytes));
        assert.deepEqual(await read(place, blob, startBytes), whole.subarray(startBytes));
      }),
      { numRuns: 25 },
    );
  });

  placeTest('a large blob in odd pieces comes back, and its progress only grows', async (place) => {
    const whole = patternBytes(LARGE_BYTES);
    const seen: [number, number][] = [];
    const onBytes = (done: number, resumed: number) => void seen.push([done, resumed]);
    await place.putBlob(blobOf(whole), piecesOf(whole, 70_001), { signal: never(), onBytes });
    assert.deepEqual(await read(place, blobOf(whole)), whole);
    assert.equal(seen.at(-1)?.[0], whole.length);
    for (const [index, [done, resumed]] of seen.entries()) {
      assert.equal(resumed, 0);
      assert.ok(done >= (seen[index - 1]?.[0] ?? 0), 'progress went back');
    }
  });

  placeTest('a reader may stop early and read again', async (place) => {
    const whole = patternBytes(LARGE_BYTES);
    await put(place, whole);
    for await (const bytes of place.blob(blobOf(whole), { startBytes: 5 }, never())) {
      assert.deepEqual(Buffer.from(bytes), whole.subarray(5, 5 + bytes.byteLength));
      break;
    }
    assert.deepEqual(await read(place, blobOf(whole)), whole);
  });

  placeTest(
    'a writer that failed half-way is continued or begun anew, and the blob is whole',
    async (place) => {
      const whole = patternBytes(LARGE_BYTES);
      const failure = new FreeholdError('NETWORK', 'the line broke');
      const breaking = (start: number) =>
        (async function* () {
          yield whole.subarray(start, LARGE_BYTES - 100_000);
          throw failure;
        })();
      await assert.rejects(
        place.putBlob(blobOf(whole), breaking, { signal: never() }),
        (thrown) => thrown === failure,
      );
      assert.equal(await place.hasBlob(blobOf(whole), never()), false);
      assert.equal(await put(place, whole), 'written');
      assert.deepEqual(await read(place, blobOf(whole)), whole);
    },
  );
}

function refusedBlobTests(placeTest: PlaceTest): void {
  placeTest('an absent blob is NOT_FOUND', async (place) => {
    const absent = { digest: ABSENT, sizeBytes: 12 };
    assert.equal(await place.hasBlob(absent, never()), false);
    await assert.rejects(read(place, absent), withCode('NOT_FOUND'));
  });

  placeTest('bytes of another digest are DIGEST_MISMATCH and stay invisible', async (place) => {
    const blob = { digest: ABSENT, sizeBytes: HELLO.byteLength };
    await assert.rejects(
      place.putBlob(blob, piecesOf(HELLO), { signal: never() }),
      withCode('DIGEST_MISMATCH'),
    );
    assert.equal(await place.hasBlob(blob, never()), false);
    assert.equal(await place.hasBlob(blobOf(HELLO), never()), false);
  });

  placeTest('fewer or more bytes than declared are SIZE_MISMATCH', async (place) => {
    for (const sizeBytes of [HELLO.byteLength + 1, HELLO.byteLength - 1, 0]) {
      const blob = { digest: Digest.of(HELLO), sizeBytes };
      const putting = place.putBlob(blob, piecesOf(HELLO), { signal: never() });
      await assert.rejects(putting, withCode('SIZE_MISMATCH'));
    }
    assert.equal(await place.hasBlob(blobOf(HELLO), never()), false);
  });

  placeTest('a stream without end is cut off at the declared size', async (place) => {
    let pieces = 0;
    const endless = async function* () {
      for (;;) {
        pieces++;
        yield Buffer.alloc(1000);
      }
    };
    const putting = place.putBlob({ digest: ABSENT, sizeBytes: 5000 }, endless, { signal: never() });
    await assert.rejects(putting, withCode('SIZE_MISMATCH'));
    assert.ok(pieces < 100, `${pieces} pieces were taken`);
  });

  placeTest('a caller that cancels gets its reason, and the blob stays invisible', async (place) => {
    const whole = patternBytes(LARGE_BYTES);
    const controller = new AbortController();
    const reason = new FreeholdError('CANCELLED', 'enough');
    const open = async function* () {
      yield whole.subarray(0, 1000);
      controller.abort(reason);
      yield whole.subarray(1000);
    };
    const putting = place.putBlob(blobOf(whole), open, { signal: controller.signal });
    await assert.rejects(putting, (thrown) => thrown === reason);
    assert.equal(await place.hasBlob(blobOf(whole), never()), false);

    await put(place, HELLO);
    const gone = AbortSignal.abort(reason);
    await assert.rejects(read(place, blobOf(HELLO), 0, undefined, gone), (thrown) => thrown === reason);
  });
}

function manifestTests(placeTest: PlaceTest, abilities: ArtifactPlaceAbilities): void {
  placeTest('a manifest comes back by digest, byte for byte, with its type', async (place) => {
    const document = await manifestOver(place, 'one', {}, '\n  ');
    await place.putManifest(document, undefined, never());
    assert.equal(await place.hasManifest(document.digest, never()), true);
    assert.deepEqual(await place.manifest({ digest: document.digest }, never()), document);
  });

  placeTest('an index of manifests is a manifest', async (place) => {
    const document = await manifestOver(place, 'child');
    await place.putManifest(document, undefined, never());
    const index = indexOver([document]);
    await place.putManifest(index, undefined, never());
    assert.deepEqual(await place.manifest({ digest: index.digest }, never()), index);
  });

  placeTest('writing a manifest twice is no error', async (place) => {
    const document = await manifestOver(place, 'twice');
    await place.putManifest(document, undefined, never());
    await place.putManifest(document, undefined, never());
  });

  placeTest('what is absent is undefined, not an error', async (place) => {
    assert.equal(await place.manifest({ digest: ABSENT }, never()), undefined);
    assert.equal(await place.hasManifest(ABSENT, never()), false);
    assert.equal(await place.manifest({ tag: '1.0.0' }, never()), undefined);
  });

  placeTest('a document whose bytes have another digest is DIGEST_MISMATCH', async (place) => {
    const document = { ...(await manifestOver(place, 'other')), digest: ABSENT };
    await assert.rejects(place.putManifest(document, undefined, never()), withCode('DIGEST_MISMATCH'));
    assert.equal(await place.hasManifest(ABSENT, never()), false);
  });

  if (abilities.requiresParts) {
    placeTest('a manifest of which a part is missing is MANIFEST_INVALID', async (place) => {
      await put(place, EMPTY_CONFIG);
      const document = manifestDocument([descriptorOf(HELLO, MEDIA_TYPE.doc)]);
      await assert.rejects(place.putManifest(document, undefined, never()), withCode('MANIFEST_INVALID'));
      assert.equal(await place.hasManifest(document.digest, never()), false);
    });
  }
}

function tagTests(placeTest: PlaceTest): void {
  placeTest('a place without anything has no tags', async (place) => {
    assert.deepEqual(await place.tags(never()), []);
  });

  placeTest('a tag leads to its document, and can move', async (place) => {
    const [first, second] = [await manifestOver(place, 'first'), await manifestOver(place, 'second')];
    await place.putManifest(first, '1.0.0', never());
    assert.deepEqual(await place.manifest({ tag: '1.0.0' }, never()), first);
    await place.putManifest(second, '1.0.0', never());
    assert.deepEqual(await place.manifest({ tag: '1.0.0' }, never()), second);
    assert.deepEqual(await place.manifest({ digest: first.digest }, never()), first);
  });

  placeTest('every tag is listed, also where two lead to one document', async (place) => {
    const document = await manifestOver(place, 'many');
    const tags = ['1.0.0', '1.0.0-q4_0', 'latest', 'A_b.c-D'];
    for (const tag of tags) await place.putManifest(document, tag, never());
    assert.deepEqual([...(await place.tags(never()))].sort(), [...tags].sort());
    for (const tag of tags) {
      assert.equal((await place.manifest({ tag }, never()))?.digest, document.digest);
    }
  });
}

function referrerTests(placeTest: PlaceTest, abilities: ArtifactPlaceAbilities): void {
  placeTest('a document that nothing refers to has no referrers', async (place) => {
    assert.deepEqual(await place.referrers(ABSENT, never()), []);
  });

  placeTest('manifests with a subject are listed with size, types and annotations', async (place) => {
    const subject = await manifestOver(place, 'subject');
    await place.putManifest(subject, undefined, never());
    const referrers: ManifestDocument[] = [];
    for (const kind of ['signature', 'bom']) {
      const referrer = await manifestOver(place, kind, {
        artifactType: `application/vnd.acme.${kind}`,
        subject: documentDescriptor(subject),
        annotations: { 'org.acme.kind': kind },
      });
      await place.putManifest(referrer, undefined, never());
      referrers.push(referrer);
    }
    const listed = await place.referrers(subject.digest, never());
    assert.deepEqual(listed.map(({ digest }) => digest).sort(), referrers.map(({ digest }) => digest).sort());
    const bom = listed.find(({ artifactType }) => artifactType === 'application/vnd.acme.bom');
    assert.equal(bom?.size, referrers[1]?.bytes.byteLength);
    assert.equal(bom?.mediaType, MEDIA_TYPE.manifest);
    assert.deepEqual(bom?.annotations, { 'org.acme.kind': 'bom' });
  });

  placeTest('writing a referrer twice lists it once', async (place) => {
    const subject = await manifestOver(place, 'subject');
    await place.putManifest(subject, undefined, never());
    const referrer = await manifestOver(place, 'note', { subject: documentDescriptor(subject) });
    await place.putManifest(referrer, undefined, never());
    await place.putManifest(referrer, undefined, never());
    assert.equal((await place.referrers(subject.digest, never())).length, 1);
    if (abilities.tags) assert.ok(!(await place.tags(never())).includes('1.0.0'));
  });
}

function concurrencyTests(placeTest: PlaceTest, abilities: ArtifactPlaceAbilities): void {
  placeTest('many writers of many blobs all succeed', async (place) => {
    const blobs = Array.from({ length: 6 }, (_, index) => patternBytes(200_000 + index));
    await Promise.all(blobs.map((bytes) => put(place, bytes)));
    for (const bytes of blobs) assert.deepEqual(await read(place, blobOf(bytes)), bytes);
  });

  placeTest('many writers of one blob all succeed', async (place) => {
    const bytes = patternBytes(300_000);
    await Promise.all(Array.from({ length: 4 }, () => put(place, bytes)));
    assert.deepEqual(await read(place, blobOf(bytes)), bytes);
  });

  if (!abilities.tags) return;
  placeTest('many writers of tags all succeed', async (place) => {
    const documents = await Promise.all(['a', 'b', 'c', 'd'].map((text) => manifestOver(place, text)));
    await Promise.all(documents.map((document, index) => place.putManifest(document, `t${index}`, never())));
    for (const [index, { digest }] of documents.entries()) {
      assert.equal((await place.manifest({ tag: `t${index}` }, never()))?.digest, digest);
    }
  });
}

/** The descriptor of bytes. */
export function descriptorOf(bytes: Uint8Array, mediaType: string): OciDescriptor {
  return { mediaType, digest: Digest.of(bytes), size: bytes.byteLength };
}

const blobOf = (bytes: Uint8Array): BlobReference => ({
  digest: Digest.of(bytes),
  sizeBytes: bytes.byteLength,
});

const documentDescriptor = ({ bytes, mediaType }: ManifestDocument) => descriptorOf(bytes, mediaType);

const EMPTY_CONFIG = Buffer.from('{}');

/** Writes config and one layer, and gives the manifest over them, which is not written yet. */
async function manifestOver(
  place: ArtifactPlace,
  text: string,
  fields: Readonly<Record<string, unknown>> = {},
  tail = '',
): Promise<ManifestDocument> {
  const layer = Buffer.from(`layer ${text}`);
  await put(place, EMPTY_CONFIG);
  await put(place, layer);
  return manifestDocument([descriptorOf(layer, MEDIA_TYPE.doc)], fields, tail);
}

function manifestDocument(
  layers: readonly OciDescriptor[],
  fields: Readonly<Record<string, unknown>> = {},
  tail = '',
): ManifestDocument {
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    artifactType: 'application/vnd.acme.test',
    config: descriptorOf(EMPTY_CONFIG, 'application/vnd.oci.empty.v1+json'),
    layers,
    ...fields,
  };
  const bytes = Buffer.concat([encodeJson(manifest), Buffer.from(tail)]);
  return { bytes, digest: Digest.of(bytes), mediaType: MEDIA_TYPE.manifest };
}

function indexOver(documents: readonly ManifestDocument[]): ManifestDocument {
  const manifests = documents.map(documentDescriptor);
  const bytes = encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests });
  return { bytes, digest: Digest.of(bytes), mediaType: MEDIA_TYPE.index };
}

/** The bytes from any offset on, in pieces of one size. */
const piecesOf = (bytes: Uint8Array, pieceBytes = 64 << 10) =>
  async function* (startBytes: number): AsyncGenerator<Uint8Array> {
    for (let start = startBytes; start < bytes.byteLength; start += pieceBytes) {
      yield bytes.subarray(start, start + pieceBytes);
    }
  };

const put = (place: ArtifactPlace, bytes: Uint8Array): Promise<PutBlobOutcome> =>
  place.putBlob(blobOf(bytes), piecesOf(bytes), { signal: never() });

async function read(
  place: ArtifactPlace,
  blob: BlobReference,
  startBytes = 0,
  endBytes?: number,
  signal = never(),
): Promise<Buffer> {
  const range = { startBytes, ...(endBytes === undefined ? {} : { endBytes }) };
  const parts: Uint8Array[] = [];
  for await (const bytes of place.blob(blob, range, signal)) parts.push(Uint8Array.from(bytes));
  return Buffer.concat(parts);
}

/** Bytes in which every place looks different, and which no compression shortens. */
function patternBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = length | 1;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

const withCode = (code: string) => (thrown: unknown) =>
  thrown instanceof FreeholdError && thrown.code === code;
