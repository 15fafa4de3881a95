import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { type MemoryPlace, memoryPlace } from '../../../tests/fixtures/memory-place.ts';
import { writeTinyModel } from '../../../tests/fixtures/tiny-model.ts';
import {
  installTinyPackage,
  TINY_KEY,
  type TinyPackageOptions,
} from '../../../tests/fixtures/tiny-package.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { ProgressEvent } from '../../core/base/progress.ts';
import { manifestDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource } from '../../core/format/artifact-place.ts';
import { encodeJson, MEDIA_TYPE } from '../../core/format/oci.ts';
import { type Freehold, openFreehold } from './freehold.ts';
import { installFromSources } from './install-registry.ts';
import { installedPackages } from './installed-packages.ts';
import { addTrust, publicKeyOf } from './keys-and-trust.ts';
import { type PushOptions, pushPackage } from './push-package.ts';
import { verifyReference } from './verify-package.ts';

const REPOSITORY = 'mirror/acme/tiny';
const never = () => new AbortController().signal;

interface Ground {
  readonly publisher: Freehold;
  readonly customer: Freehold;
  readonly place: MemoryPlace;
  readonly events: ProgressEvent[];
  readonly folder: string;
}

/** A publisher with a signed package, a customer who trusts the publisher's key, and a place between them. */
async function makeGround(context: TestContext, options: TinyPackageOptions = {}): Promise<Ground> {
  const folder = await temporaryFolder(context);
  const env = { HOME: folder };
  const events: ProgressEvent[] = [];
  const publisher = await openFreehold({ env, home: path.join(folder, 'publisher') });
  const customer = await openFreehold({
    env,
    home: path.join(folder, 'customer'),
    progress: (event) => events.push(event),
  });
  await installTinyPackage(publisher, path.join(folder, 'project'), options);
  await addTrust(customer, 'acme/*', (await publicKeyOf(publisher, TINY_KEY)).publicKeyPem);
  return { publisher, customer, place: memoryPlace('registry'), events, folder };
}

const push = (ground: Ground, text = 'acme/tiny', options: Partial<PushOptions> = {}) =>
  pushPackage(ground.publisher, text, ground.place, REPOSITORY, { signal: never(), ...options });

const install = (
  { customer, place }: Ground,
  selector: { kind: 'newest' } | { kind: 'tag'; tag: string } | { kind: 'range'; range: string } = {
    kind: 'newest',
  },
  sources: readonly ArtifactSource[] = [place],
  variant?: string,
) =>
  installFromSources(
    customer,
    sources,
    {
      host: 'registry.example',
      repository: REPOSITORY,
      selector,
      ...(variant === undefined ? {} : { variant }),
    },
    { signal: never() },
  );

const refusedWith = (code: string, message?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof FreeholdError, String(error));
  assert.equal(error.code, code, error.message);
  if (message !== undefined) assert.match(error.message, message);
  return true;
};

test('what is pushed is installed, verified, and has the same digests', async (context) => {
  const ground = await makeGround(context, { yaml: ['variants: [{ name: full }, q8_0]'] });
  const pushed = await push(ground);
  assert.deepEqual([...ground.place.tagged.keys()].sort(), ['1.0.0', '1.0.0-full', '1.0.0-q8_0']);
  const installed = await install(ground);
  assert.equal(installed.isNew, true);
  assert.equal(installed.name, 'acme/tiny');
  assert.equal(
    installed.manifestDigest,
    pushed.variants.find(({ variant }) => variant === installed.variant)?.manifestDigest,
  );
  const [report] = await verifyReference(ground.customer, 'acme/tiny', never());
  assert.equal(report?.contentDigest, installed.contentDigest);
  const again = await install(ground);
  assert.equal(again.isNew, false);
  assert.ok('transfer' in again);
  assert.equal(again.transfer.fetchedBytes, 0);
});

test('pushing again sends nothing, and keeps the variants of others', async (context) => {
  const ground = await makeGround(context, { yaml: ['variants: [{ name: full }, q8_0]'] });
  await push(ground, 'acme/tiny@1.0.0#full');
  await push(ground, 'acme/tiny@1.0.0#q8_0');
  await install(ground, { kind: 'tag', tag: '1.0.0' }, [ground.place], 'full');
  await install(ground, { kind: 'tag', tag: '1.0.0' }, [ground.place], 'q8_0');
  const again = await push(ground);
  assert.equal(again.writtenBytes, 0);
  assert.ok(again.presentBytes > 0);
});

test('a variant is chosen by its tag, by name, or by what fits', async (context) => {
  const ground = await makeGround(context, { yaml: ['variants: [{ name: full }, q8_0]'] });
  await push(ground);
  assert.equal((await install(ground, { kind: 'tag', tag: '1.0.0-q8_0' })).variant, 'q8_0');
  assert.equal((await install(ground)).variant, 'full', 'the larger one fits');
  await assert.rejects(
    install(ground, { kind: 'newest' }, [ground.place], 'q2_k'),
    refusedWith('MODEL_NOT_FOUND', /not a variant/),
  );
});

test('the newest version of a range; variants that read like prereleases are none', async (context) => {
  const ground = await makeGround(context, { yaml: ['variants: [{ name: edge }]'] });
  await push(ground);
  for (const version of ['1.1.0', '2.0.0', '2.1.0-rc.1']) {
    await installTinyPackage(ground.publisher, path.join(ground.folder, version), {
      version,
      yaml: ['variants: [{ name: edge }]'],
      files: { LICENSE: version },
    });
    await push(ground, `acme/tiny@${version}`);
  }
  assert.ok(ground.place.tagged.has('1.0.0-edge'));
  assert.equal((await install(ground)).version, '2.0.0');
  assert.equal((await install(ground, { kind: 'range', range: '^1' })).version, '1.1.0');
  assert.equal((await install(ground, { kind: 'range', range: '>=2.1.0-rc.0' })).version, '2.1.0-rc.1');
  await assert.rejects(install(ground, { kind: 'range', range: '^3' }), refusedWith('MODEL_NOT_FOUND'));
});

test('unsigned, differently named and differing packages are not pushed', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  await assert.rejects(
    pushPackage(ground.publisher, 'acme/tiny', ground.place, 'acme/other', { signal: never() }),
    refusedWith('NAME_INVALID'),
  );
  const other = await openFreehold({ env: {}, home: path.join(ground.folder, 'other') });
  await installTinyPackage(other, path.join(ground.folder, 'other-project'), { files: { LICENSE: 'other' } });
  const pushOther = (isReplacing: boolean) =>
    pushPackage(other, 'acme/tiny', ground.place, REPOSITORY, { signal: never(), isReplacing });
  await assert.rejects(pushOther(false), refusedWith('ALREADY_EXISTS', /other content/));
  await pushOther(true);
  await assert.rejects(install(ground), refusedWith('SIGNER_UNTRUSTED'));
});

test('wrong bytes of one source: the next one is asked, and nothing wrong stays', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  const liar = ground.place.copy('liar');
  for (const [digest, bytes] of liar.blobs) {
    if (bytes.byteLength > 100_000) bytes[5000] = (bytes[5000] ?? 0) ^ 1;
    liar.blobs.set(digest, bytes);
  }
  const installed = await install(ground, { kind: 'newest' }, [liar, ground.place]);
  assert.equal(installed.isNew, true);
  assert.ok(ground.events.some((event) => event.kind === 'source-failed' && event.source === 'liar'));
  await verifyReference(ground.customer, 'acme/tiny', never());
});

test('wrong bytes everywhere: refused, and nothing is installed', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  for (const bytes of ground.place.blobs.values()) {
    if (bytes.byteLength > 100_000) bytes[5000] = (bytes[5000] ?? 0) ^ 1;
  }
  await assert.rejects(install(ground), refusedWith('DIGEST_MISMATCH', /gguf/));
  assert.deepEqual(await ground.customer.store.entries(), []);
});

test('a tag that points to an older or another package, validly signed: refused', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  await installTinyPackage(ground.publisher, path.join(ground.folder, 'second'), {
    version: '1.1.0',
    files: { LICENSE: 'second' },
  });
  await push(ground, 'acme/tiny@1.1.0');
  const { tagged, manifests } = ground.place;
  const old = tagged.get('1.0.0');
  assert.ok(old !== undefined);
  // The registry answers for 1.1.0 with the index of 1.0.0, dressed as 1.1.0.
  const text = manifests.get(old)?.bytes.toString().replaceAll('"1.0.0"', '"1.1.0"') ?? '';
  await ground.place.putManifest(manifestDocument(Buffer.from(text)), '1.1.0', never());
  await assert.rejects(
    install(ground, { kind: 'tag', tag: '1.1.0' }),
    refusedWith('PACKAGE_INVALID', /got .*1\.0\.0/),
  );

  await installTinyPackage(ground.publisher, path.join(ground.folder, 'cousin'), { name: 'acme/cousin' });
  const cousin = memoryPlace('cousin');
  await pushPackage(ground.publisher, 'acme/cousin', cousin, 'acme/cousin', { signal: never() });
  await assert.rejects(
    install(ground, { kind: 'newest' }, [cousin]),
    refusedWith('PACKAGE_INVALID', /asked for tiny.* got acme\/cousin/),
  );
});

test('attack: an old index under a new tag, as it is, by tag, range and nothing', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  const old = ground.place.tagged.get('1.0.0');
  assert.ok(old !== undefined);
  ground.place.tagged.set('3.0.0', old);
  for (const selector of [
    { kind: 'tag', tag: '3.0.0' },
    { kind: 'range', range: '>=2.5' },
    { kind: 'newest' },
  ] as const) {
    await assert.rejects(
      install(ground, selector),
      refusedWith('PACKAGE_INVALID', /3\.0\.0.* got .*1\.0\.0/),
    );
  }
  assert.deepEqual(await ground.customer.store.entries(), []);
});

test('attack: a place that takes the signature away is passed over; alone, it is refused', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  const bare = memoryPlace('bare');
  await putBareModel(bare, ground.folder, '1.0.0');
  const installed = await install(ground, { kind: 'tag', tag: '1.0.0' }, [bare, ground.place]);
  assert.equal(installed.name, 'acme/tiny');
  await assert.rejects(
    install(ground, { kind: 'tag', tag: '1.0.0' }, [bare]),
    refusedWith('SIGNATURE_MISSING', /trust\.yaml says who signs acme\/\*/),
  );
  const asked = await installFromSources(
    ground.customer,
    [bare],
    { host: 'registry.example', repository: REPOSITORY, selector: { kind: 'tag', tag: '1.0.0' } },
    { signal: never(), mayImport: true },
  );
  assert.equal(asked.name, 'local/tiny');
  assert.ok('remarks' in asked && asked.remarks.some((remark) => /nobody/.test(remark)));
});

test('a mirror with a package of somebody else, or another version, costs only itself', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  const stranger = await openFreehold({ env: {}, home: path.join(ground.folder, 'stranger') });
  await installTinyPackage(stranger, path.join(ground.folder, 'stranger-project'), {
    files: { LICENSE: 'x' },
  });
  const mirror = memoryPlace('mirror');
  await pushPackage(stranger, 'acme/tiny', mirror, REPOSITORY, { signal: never() });
  assert.equal((await install(ground, { kind: 'tag', tag: '1.0.0' }, [mirror, ground.place])).isNew, true);
  await verifyReference(ground.customer, 'acme/tiny', never());
});

test('a mirror that lags hides no newer version', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  const lagging = ground.place.copy('lagging');
  await installTinyPackage(ground.publisher, path.join(ground.folder, 'newer'), {
    version: '1.1.0',
    files: { LICENSE: 'newer' },
  });
  await push(ground, 'acme/tiny@1.1.0');
  assert.equal((await install(ground, { kind: 'newest' }, [lagging, ground.place])).version, '1.1.0');
});

test('tags that mean something are not given away, and others are', async (context) => {
  const ground = await makeGround(context);
  for (const tag of ['1.1.0', '2.0.0-f32', 'freehold-channels', `sha256-${'0'.repeat(64)}`, 'a b']) {
    await assert.rejects(push(ground, 'acme/tiny', { tags: [tag] }), refusedWith('REFERENCE_INVALID'), tag);
  }
  assert.equal(ground.place.tagged.size, 0, 'nothing was pushed');
  await push(ground, 'acme/tiny', { tags: ['latest'] });
  assert.equal((await install(ground, { kind: 'tag', tag: 'latest' })).version, '1.0.0');
});

test('other content that came while a push went on is not replaced', async (context) => {
  const ground = await makeGround(context);
  const other = await openFreehold({ env: {}, home: path.join(ground.folder, 'other') });
  await installTinyPackage(other, path.join(ground.folder, 'other-project'), { files: { LICENSE: 'other' } });
  let isFirst = true;
  const slow: MemoryPlace = {
    ...ground.place,
    async putBlob(...parameters) {
      if (isFirst) {
        isFirst = false;
        await pushPackage(other, 'acme/tiny', ground.place, REPOSITORY, { signal: never() });
      }
      return ground.place.putBlob(...parameters);
    },
  };
  await assert.rejects(
    pushPackage(ground.publisher, 'acme/tiny', slow, REPOSITORY, { signal: never() }),
    refusedWith('ALREADY_EXISTS', /other content/),
  );
});

test('a download that breaks is continued where it stopped', async (context) => {
  const ground = await makeGround(context);
  await push(ground);
  const asked: number[] = [];
  let isBroken = true;
  const breaking: ArtifactSource = {
    ...ground.place,
    label: 'breaking',
    async *blob(blob, range, signal) {
      if (blob.sizeBytes < 100_000) return yield* ground.place.blob(blob, range, signal);
      asked.push(range.startBytes);
      if (!isBroken) return yield* ground.place.blob(blob, range, signal);
      isBroken = false;
      yield* ground.place.blob(blob, { startBytes: 0, endBytes: 70_000 }, signal);
      throw new FreeholdError('NETWORK', 'the cable was pulled');
    },
  };
  await assert.rejects(install(ground, { kind: 'newest' }, [breaking]), refusedWith('NETWORK', /cable/));
  assert.deepEqual(installedPackages(await ground.customer.store.entries()), []);
  await install(ground, { kind: 'newest' }, [breaking]);
  assert.deepEqual(asked, [0, 70_000]);
});

test('an index that lost its annotations: the manifests have them too', async (context) => {
  const ground = await makeGround(context, { yaml: ['variants: [{ name: full }, q8_0]'] });
  await push(ground);
  const digest = ground.place.tagged.get('1.0.0');
  assert.ok(digest !== undefined);
  const text = ground.place.manifests.get(digest)?.bytes.toString() ?? '';
  const index = JSON.parse(text) as { manifests: { annotations?: unknown }[] };
  for (const entry of index.manifests) delete entry.annotations;
  await ground.place.putManifest(manifestDocument(encodeJson(index)), '1.0.0', never());
  assert.equal(
    (await install(ground, { kind: 'tag', tag: '1.0.0' }, [ground.place], 'q8_0')).variant,
    'q8_0',
  );
});

/** What a tool without signatures pushes: one layer of weights (CNCF ModelPack). */
async function putBareModel(place: MemoryPlace, folder: string, tag: string): Promise<void> {
  const weights = await readFile(await writeTinyModel(path.join(folder, 'tiny.gguf')));
  const config = encodeJson({
    descriptor: { name: 'tiny' },
    config: { format: 'gguf' },
    modelfs: { type: 'layers', diffIds: [Digest.of(weights)] },
  });
  for (const bytes of [weights, config]) place.blobs.set(Digest.of(bytes), bytes);
  const manifest = manifestDocument(
    encodeJson({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.manifest,
      artifactType: MEDIA_TYPE.modelManifest,
      config: { mediaType: MEDIA_TYPE.modelConfig, digest: Digest.of(config), size: config.length },
      layers: [
        {
          mediaType: MEDIA_TYPE.weight,
          digest: Digest.of(weights),
          size: weights.length,
          annotations: { 'org.cncf.model.filepath': 'tiny.gguf' },
        },
      ],
    }),
  );
  await place.putManifest(manifest, tag, never());
}
