import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import type { Digest } from '../../src/core/base/digest.ts';
import { MANIFEST_BYTES_MAX, MEDIA_TYPE, type ModelManifest } from '../../src/core/format/oci.ts';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { installFromCatalog } from '../../src/surface/app/install-catalog.ts';
import { openTemporaryHome, temporaryFolder } from '../fixtures/freehold-home.ts';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { realModel } from '../fixtures/real-models.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

const VECTORS = path.resolve(import.meta.dirname, '../../../shared/vectors');
const missing = existsSync(path.join(VECTORS, 'oci')) ? undefined : `no published schemas in ${VECTORS}`;

interface Schemas {
  readonly layout: ValidateFunction;
  readonly index: ValidateFunction;
  readonly manifest: ValidateFunction;
  readonly config: ValidateFunction;
}

describe('what Freehold writes, against the schemas of OCI and ModelPack', {
  skip: skipUnlessCi(missing),
}, () => {
  let schemas: Schemas;
  before(() => {
    schemas = compileSchemas();
  });

  test('the schemas refuse what is wrong', () => {
    const digest = `sha256:${'0'.repeat(64)}`;
    const layer = { mediaType: 'a/b', digest, size: 1 };
    assertValid(schemas.manifest, { schemaVersion: 2, config: layer, layers: [layer] }, 'a small manifest');
    for (const wrong of [
      { schemaVersion: 1, config: layer, layers: [layer] },
      { schemaVersion: 2, config: layer, layers: [] },
      { schemaVersion: 2, config: layer, layers: [{ ...layer, digest: 'sha256' }] },
      { schemaVersion: 2, config: { ...layer, mediaType: 'nonsense' }, layers: [layer] },
      { schemaVersion: 2, config: layer, layers: [{ ...layer, annotations: { a: 1 } }] },
    ]) {
      assert.equal(schemas.manifest(wrong), false, JSON.stringify(wrong));
    }
    assert.equal(schemas.layout({ imageLayoutVersion: '2.0.0' }), false);
    assert.equal(schemas.index({ schemaVersion: 2, manifests: [{ mediaType: 'a/b', digest }] }), false);
    assert.equal(
      schemas.config({ descriptor: {}, config: {}, modelfs: { type: 'layers', diffIds: [] } }),
      false,
    );
  });

  test('a package in several variants', { skip: skipUnlessCi(llamaLibraryMissing()) }, async (context) => {
    const folder = await temporaryFolder(context);
    const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
    await installTinyPackage(freehold, path.join(folder, 'tiny'), {
      yaml: ['variants: [q8_0, q4_0, { name: full }]', 'parameters: { temperature: 0, stop: ["x"] }'],
      files: { LICENSE: 'All rights reserved.\n', 'MODEL_CARD.md': '# Tiny\n' },
      chatTemplate: 'hello',
    });
    await installTinyPackage(freehold, path.join(folder, 'next'), { version: '2.0.0-rc.1' });
    assert.deepEqual(await validateStore(freehold, schemas), { indexes: 2, manifests: 4 });
  });

  test('the starter of the catalog', async (context) => {
    await realModel('smollm2-135m-instruct');
    const freehold = await openTemporaryHome(context);
    const { signal } = new AbortController();
    await installFromCatalog(freehold, 'smollm2-135m-instruct', { isLicenseAccepted: false, signal });
    assert.deepEqual(await validateStore(freehold, schemas), { indexes: 1, manifests: 1 });
  });
});

/** Every document of a store, and that every layer says where its file goes and has the media type of a ModelPack. */
async function validateStore(
  { store }: Freehold,
  schemas: Schemas,
): Promise<{ indexes: number; manifests: number }> {
  const counts = { indexes: 0, manifests: 0 };
  const read = async (digest: Digest): Promise<unknown> =>
    JSON.parse((await store.blobs.readAll(digest, MANIFEST_BYTES_MAX)).toString('utf8'));
  assertValid(schemas.layout, readJson(path.join(store.folder, 'oci-layout')), 'oci-layout');
  assertValid(schemas.index, readJson(path.join(store.folder, 'index.json')), 'index.json');
  for (const entry of await store.entries()) {
    const document = await read(entry.digest);
    if (entry.mediaType === MEDIA_TYPE.index) {
      assertValid(schemas.index, document, 'an image index');
      counts.indexes++;
      continue;
    }
    assertValid(schemas.manifest, document, 'a manifest');
    counts.manifests++;
    const manifest = document as ModelManifest;
    const config = (await read(manifest.config.digest)) as { modelfs: { diffIds: string[] } };
    assertValid(schemas.config, config, 'a config');
    assert.equal(manifest.artifactType, 'application/vnd.cncf.model.manifest.v1+json');
    assert.equal(manifest.config.mediaType, 'application/vnd.cncf.model.config.v1+json');
    assert.deepEqual(
      config.modelfs.diffIds,
      manifest.layers.map(({ digest }) => digest),
    );
    for (const layer of manifest.layers) {
      assert.match(layer.mediaType, /^application\/vnd\.cncf\.model\.(weight|weight\.config|doc)\.v1\.raw$/);
      assert.equal(typeof layer.annotations?.['org.cncf.model.filepath'], 'string');
    }
  }
  return counts;
}

/**
 * The schemas as they were published. Those of OCI are of draft 4, which ajv no longer reads: what they use of it means
 * the same in later drafts, once `$schema` and `id` are gone; references are by file name.
 */
function compileSchemas(): Schemas {
  const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
  const folder = path.join(VECTORS, 'oci');
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  for (const name of files) {
    ajv.addSchema({ ...(withoutIds(readJson(path.join(folder, name))) as object), $id: `oci:/${name}` });
  }
  const compiled = (name: string) => ajv.getSchema(`oci:/${name}`) ?? assert.fail(`no ${name}`);
  return {
    layout: compiled('image-layout-schema.json'),
    index: compiled('image-index-schema.json'),
    manifest: compiled('image-manifest-schema.json'),
    config: ajv.compile(readJson(path.join(VECTORS, 'modelpack', 'config-schema.json')) as object),
  };
}

function withoutIds(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutIds);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([key]) => key !== 'id' && key !== '$schema');
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutIds(inner)]));
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'));
}

function assertValid(validate: ValidateFunction, value: unknown, what: string): void {
  assert.equal(validate(value), true, `${what}: ${JSON.stringify(validate.errors)}`);
}
