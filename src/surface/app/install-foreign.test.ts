import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { importableModel, makeImportGround } from '../../../tests/fixtures/import-home.ts';
import { type MemoryPlace, memoryPlace } from '../../../tests/fixtures/memory-place.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { encodeTarHeader, tarPaddingBytes } from '../../core/format/archive-tar.ts';
import { manifestDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import { encodeJson, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { readPackage } from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import type { ImportOptions } from './import-options.ts';
import { installForeign } from './install-foreign.ts';
import { listInstalled } from './package-list.ts';

const OLLAMA = 'application/vnd.ollama.image.';
const KITOPS = 'application/vnd.kitops.modelkit.';
const never = () => new AbortController().signal;

function put(place: MemoryPlace, mediaType: string, bytes: Buffer | string): OciDescriptor {
  const content = Buffer.from(bytes);
  const digest = Digest.of(content);
  place.blobs.set(digest, content);
  return { mediaType, digest, size: content.byteLength };
}

function manifest(
  place: MemoryPlace,
  config: OciDescriptor,
  layers: readonly OciDescriptor[],
): ManifestDocument {
  const document = manifestDocument(
    encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers }),
  );
  place.manifests.set(document.digest, document);
  return document;
}

const install = (
  freehold: Freehold,
  sources: readonly ArtifactSource[],
  document: ManifestDocument,
  options: Partial<ImportOptions> = {},
  tag = 'latest',
) =>
  installForeign(
    freehold,
    sources,
    document,
    { host: 'registry.example', repository: 'ai/triage', selector: { kind: 'tag', tag } },
    { signal: never(), ...options },
  );

async function makeGround(context: TestContext) {
  const ground = await makeImportGround(context);
  return { ...ground, place: memoryPlace('registry'), model: await importableModel('Tiny', '') };
}

function ollamaManifest(place: MemoryPlace, model: Buffer): ManifestDocument {
  const config = put(place, 'application/vnd.docker.container.image.v1+json', '{"model_format":"gguf"}');
  return manifest(place, config, [
    put(place, `${OLLAMA}model`, model),
    put(place, `${OLLAMA}license`, 'Acme terms'),
    put(place, `${OLLAMA}template`, '{{ .Prompt }}'),
    put(place, `${OLLAMA}params`, '{"temperature":0.5,"num_ctx":8}'),
  ]);
}

const tar = (members: Readonly<Record<string, Buffer>>) =>
  Buffer.concat([
    ...Object.entries(members).flatMap(([name, bytes]) => [
      encodeTarHeader({ name, sizeBytes: bytes.byteLength }),
      bytes,
      Buffer.alloc(tarPaddingBytes(bytes.byteLength)),
    ]),
    Buffer.alloc(1024),
  ]);

function kitManifest(place: MemoryPlace, layer: OciDescriptor, license = 'MIT'): ManifestDocument {
  const kitfile = {
    manifestVersion: '1.0.0',
    package: { name: 'triage' },
    model: { path: 'models/triage.gguf', license },
  };
  return manifest(place, put(place, `${KITOPS}config.v1+json`, JSON.stringify(kitfile)), [layer]);
}

test('a model of Ollama from a registry: weights by digest, licence and defaults with it', async (context) => {
  const { freehold, place, model } = await makeGround(context);
  const document = ollamaManifest(place, model);
  const installed = await install(freehold, [place], document, {}, '7b-instruct-q4_0');
  assert.equal(installed.name, 'local/triage-7b-instruct');
  assert.equal(installed.source, `oci://registry.example/ai/triage@${document.digest}`);
  assert.match(installed.remarks.join('\n'), /Go template[\s\S]*"num_ctx"/);
  const { descriptor } = await readPackage(freehold.store.blobs, installed.manifestDigest);
  assert.deepEqual(descriptor.parameters, { temperature: 0.5 });
  assert.equal(descriptor.license, 'LicenseRef-Unknown');
  assert.deepEqual(
    descriptor.files.map(({ path, role }) => [path, role]),
    [
      ['LICENSE', 'doc'],
      [`triage-7b-instruct-${descriptor.variant}.gguf`, 'weights'],
    ],
  );
  const readBytes = place.readBytes();
  assert.equal((await install(freehold, [place], document, {}, '7b-instruct-q4_0')).isNew, false);
  assert.ok(place.readBytes() - readBytes < 1000, 'the weights are not read again');
});

test('wrong bytes in one registry: the mirror is asked; wrong in all: nothing is installed', async (context) => {
  const { freehold, place, model } = await makeGround(context);
  const document = ollamaManifest(place, model);
  const liar = place.copy('liar');
  const digest = Digest.of(model);
  const flipped = Buffer.from(model);
  flipped[flipped.length - 1] = 1;
  liar.blobs.set(digest, flipped);
  await assert.rejects(install(freehold, [liar], document), { code: 'DIGEST_MISMATCH' });
  assert.deepEqual(await listInstalled(freehold), []);
  assert.equal((await install(freehold, [liar, place], document)).isNew, true);
});

test('a lying config of an artifact is noticed by its digest', async (context) => {
  const { freehold, place, model } = await makeGround(context);
  const document = ollamaManifest(place, model);
  const digest = Digest.of('{"model_format":"gguf"}');
  place.blobs.set(digest, Buffer.from('{"model_format":"GGUF"}'));
  await assert.rejects(install(freehold, [place], document), { code: 'DIGEST_MISMATCH' });
});

test('the GGUF file of a ModelKit, from every compression; the rest of the archive stays where it is', async (context) => {
  const { place, model } = await makeGround(context);
  const members = {
    'models/README.md': Buffer.from('hello'),
    'models/triage.gguf': model,
    'models/other.gguf': model,
  };
  const packed: [string, Buffer][] = [
    ['tar', tar(members)],
    ['tar+gzip', gzipSync(tar(members))],
    ['tar+zstd', zstdCompressSync(tar(members))],
  ];
  for (const [type, bytes] of packed) {
    const { freehold } = await makeImportGround(context);
    const document = kitManifest(place, put(place, `${KITOPS}model.v1.${type}`, bytes));
    const installed = await install(freehold, [place], document);
    const { descriptor } = await readPackage(freehold.store.blobs, installed.manifestDigest);
    assert.equal(descriptor.license, 'MIT', type);
    assert.deepEqual(
      descriptor.files.map(({ digest }) => digest),
      [Digest.of(model)],
    );
  }
});

test('a bomb in a ModelKit ends at the limit; an archive that is none is said to be one', async (context) => {
  const { freehold, place, model } = await makeGround(context);
  const bomb = gzipSync(tar({ 'models/triage.gguf': Buffer.alloc(80 << 20) }));
  assert.ok(bomb.byteLength < 1 << 20);
  const bombed = kitManifest(place, put(place, `${KITOPS}model.v1.tar+gzip`, bomb));
  await assert.rejects(install(freehold, [place], bombed), {
    code: 'ARCHIVE_INVALID',
    message: /unpacks to more than/,
  });
  const noise = kitManifest(place, put(place, `${KITOPS}model.v1.tar+gzip`, 'not gzip'));
  await assert.rejects(install(freehold, [place], noise), { code: 'ARCHIVE_INVALID' });
  const cut = kitManifest(
    place,
    put(place, `${KITOPS}model.v1.tar`, tar({ 'a.gguf': model }).subarray(0, 4000)),
  );
  await assert.rejects(install(freehold, [place], cut), {
    code: 'ARCHIVE_INVALID',
    message: /ends in the middle/,
  });
  const empty = kitManifest(place, put(place, `${KITOPS}model.v1.tar`, tar({ 'a.bin': model })));
  await assert.rejects(install(freehold, [place], empty), { code: 'NOT_FOUND', message: /no GGUF model/ });
  assert.deepEqual(await listInstalled(freehold), []);
});

test('an archive that names files outside: nothing is written to a path', async (context) => {
  const { freehold, place, model } = await makeGround(context);
  const bytes = tar({ '../../../../tmp/escaped.gguf': model });
  const document = kitManifest(place, put(place, `${KITOPS}model.v1.tar`, bytes));
  const installed = await install(freehold, [place], document);
  const { descriptor } = await readPackage(freehold.store.blobs, installed.manifestDigest);
  assert.deepEqual(
    descriptor.files.map(({ path }) => path),
    [`triage-${descriptor.variant}.gguf`],
  );
});

test('a licence with conditions, as the artifact states it, must be accepted first', async (context) => {
  const { freehold, place, model } = await makeGround(context);
  const layer = put(place, `${KITOPS}model.v1.tar`, tar({ 'models/triage.gguf': model }));
  const document = kitManifest(place, layer, 'Acme Community License');
  await assert.rejects(install(freehold, [place], document), { code: 'LICENSE_NOT_ACCEPTED' });
  await install(freehold, [place], document, { isLicenseAccepted: true });
});

test('an index with one artifact is followed; one with several asks which', async (context) => {
  const { freehold, place, model } = await makeGround(context);
  const only = ollamaManifest(place, model);
  const entry = { mediaType: only.mediaType, digest: only.digest, size: only.bytes.byteLength };
  const index = (...manifests: object[]) =>
    manifestDocument(encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests }));
  await assert.rejects(install(freehold, [place], index(entry, entry)), (error: unknown) => {
    assert.ok(error instanceof FreeholdError);
    assert.match(error.hint, new RegExp(`oci://registry.example/ai/triage@${only.digest}`));
    return error.code === 'NOT_SUPPORTED';
  });
  assert.equal((await install(freehold, [place], index(entry))).name, 'local/triage');
});

test('weights that are no GGUF file, and a container image, are refused and leave nothing', async (context) => {
  const { freehold, place } = await makeGround(context);
  const noise = ollamaManifest(place, createHash('sha256').update('noise').digest());
  await assert.rejects(install(freehold, [place], noise), { code: 'GGUF_INVALID' });
  const image = manifest(place, put(place, 'application/vnd.oci.image.config.v1+json', '{}'), [
    put(place, 'application/vnd.oci.image.layer.v1.tar+gzip', 'x'),
  ]);
  await assert.rejects(install(freehold, [place], image), { code: 'NOT_SUPPORTED' });
  assert.deepEqual(await listInstalled(freehold), []);
});
