import assert from 'node:assert/strict';
import { mkdir, rename, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { importableModel, makeImportGround, shardedModel } from '../../../tests/fixtures/import-home.ts';
import { Digest } from '../../core/base/digest.ts';
import { readPackage } from '../../core/format/package-verification.ts';
import type { Freehold } from './freehold.ts';
import type { ImportOptions } from './import-options.ts';
import { listLocalModels } from './install-local.ts';
import { installReference } from './install-reference.ts';
import { listInstalled } from './package-list.ts';

/** The machine that runs the test may have an Ollama of its own. */
const NO_OLLAMA = { OLLAMA_MODELS: '/nonexistent' };

const install = (freehold: Freehold, text: string, options: Partial<ImportOptions> = {}) =>
  installReference(freehold, text, { signal: new AbortController().signal, ...options });

async function write(file: string, bytes: Buffer | string): Promise<string> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, bytes);
  return file;
}

/** A model in a folder as Ollama writes it. */
async function writeOllamaModel(models: string, name: string, tag: string, weights: Buffer): Promise<string> {
  const blob = async (mediaType: string, bytes: Buffer) => {
    const digest = Digest.of(bytes);
    await write(path.join(models, 'blobs', `sha256-${Digest.hex(digest)}`), bytes);
    return { mediaType, digest, size: bytes.byteLength };
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    config: await blob(
      'application/vnd.docker.container.image.v1+json',
      Buffer.from('{"model_format":"gguf"}'),
    ),
    layers: [
      { ...(await blob('application/vnd.ollama.image.model', weights)), from: '/a/path' },
      await blob('application/vnd.ollama.image.params', Buffer.from('{"stop":["</s>"]}')),
    ],
  };
  await write(
    path.join(models, 'manifests', 'registry.ollama.ai', 'library', name, tag),
    JSON.stringify(manifest),
  );
  return path.join(models, 'blobs', `sha256-${Digest.hex(Digest.of(weights))}`);
}

test('a GGUF file, its folder, and a split model by any of its shards', async (context) => {
  const { freehold, folder } = await makeImportGround(context);
  const model = await importableModel();
  const file = await write(path.join(folder, 'models', 'Triage-7B.Q4_0.gguf'), model);
  const first = await install(freehold, `file:${file}`);
  assert.equal(first.name, 'local/triage-7b');
  const { descriptor } = await readPackage(freehold.store.blobs, first.manifestDigest);
  assert.equal(descriptor.license, 'Apache-2.0');
  const again = await install(freehold, `file:${path.dirname(file)}`);
  assert.deepEqual([again.isNew, again.contentDigest], [false, first.contentDigest]);
  for (const [name, bytes] of await shardedModel(2)) await write(path.join(folder, 'split', name), bytes);
  const split = await install(freehold, `file:${path.join(folder, 'split', 'Tiny-F32-00002-of-00002.gguf')}`);
  assert.equal(split.name, 'local/tiny');
  assert.equal((await readPackage(freehold.store.blobs, split.manifestDigest)).descriptor.files.length, 2);
});

test('a folder with several models, with none, and a file that is no model', async (context) => {
  const { freehold, folder } = await makeImportGround(context);
  const model = await importableModel();
  await write(path.join(folder, 'two', 'a-Q4_0.gguf'), model);
  await write(path.join(folder, 'two', 'a-Q8_0.gguf'), model);
  await assert.rejects(install(freehold, `file:${path.join(folder, 'two')}`), {
    code: 'REFERENCE_INVALID',
    hint: /Q4_0, Q8_0/,
  });
  await mkdir(path.join(folder, 'none'));
  await assert.rejects(install(freehold, `file:${path.join(folder, 'none')}`), { code: 'NOT_FOUND' });
  const noise = await write(path.join(folder, 'noise.gguf'), 'not a model');
  await assert.rejects(install(freehold, `file:${noise}`), { code: 'GGUF_INVALID' });
  assert.deepEqual(await listInstalled(freehold), []);
});

test('what the file states no licence of is LicenseRef-Unknown; another file under the name needs --name', async (context) => {
  const { freehold, folder } = await makeImportGround(context);
  const file = await write(path.join(folder, 'triage.gguf'), await importableModel('One', ''));
  const first = await install(freehold, `file:${file}`);
  assert.equal(
    (await readPackage(freehold.store.blobs, first.manifestDigest)).descriptor.license,
    'LicenseRef-Unknown',
  );
  await writeFile(file, await importableModel('Two'));
  await assert.rejects(install(freehold, `file:${file}`), { code: 'ALREADY_EXISTS', hint: /--name NAME/ });
  assert.equal((await install(freehold, `file:${file}`, { name: 'triage-2' })).name, 'local/triage-2');
  await assert.rejects(install(freehold, `file:${file}`, { name: 'acme/triage' }), { code: 'NAME_INVALID' });
});

test('a model of Ollama’s folder, with OLLAMA_MODELS and in the home', async (context) => {
  const { freehold, folder, reopen } = await makeImportGround(context);
  const models = path.join(folder, '.ollama', 'models');
  await writeOllamaModel(models, 'triage', '7b-q4_0', await importableModel());
  const installed = await install(freehold, 'ollama:triage:7b-q4_0');
  assert.equal(installed.name, 'local/triage-7b');
  const { descriptor } = await readPackage(freehold.store.blobs, installed.manifestDigest);
  assert.deepEqual(descriptor.parameters, { stop: ['</s>'] });
  await assert.rejects(install(freehold, 'ollama:triage'), {
    code: 'MODEL_NOT_FOUND',
    hint: /\.ollama\/models/,
  });
  await rename(models, path.join(folder, 'elsewhere'));
  const moved = await reopen({ OLLAMA_MODELS: path.join(folder, 'elsewhere') });
  assert.equal((await install(moved, 'ollama:library/triage:7b-q4_0')).isNew, false);
});

test('Ollama: names that leave its folder, and links that do, lead nowhere', async (context) => {
  const { folder, reopen } = await makeImportGround(context);
  const models = path.join(folder, 'ollama');
  const freehold = await reopen({ OLLAMA_MODELS: models });
  const weights = await importableModel();
  const blob = await writeOllamaModel(models, 'triage', 'latest', weights);
  for (const name of ['a/../../../../etc/passwd', 'x/..:latest', 'a/b/c/d', 'a:b:c']) {
    await assert.rejects(install(freehold, `ollama:${name}`), { code: 'REFERENCE_INVALID' }, name);
  }
  const outside = path.join(folder, 'outside.gguf');
  await rename(blob, outside);
  await symlink(outside, blob);
  await assert.rejects(install(freehold, 'ollama:triage'), {
    code: 'PERMISSION_DENIED',
    message: /leads out of/,
  });
  const secret = await write(path.join(folder, 'secret.json'), '{}');
  await symlink(secret, path.join(models, 'manifests', 'registry.ollama.ai', 'library', 'triage', 'linked'));
  await assert.rejects(install(freehold, 'ollama:triage:linked'), { code: 'PERMISSION_DENIED' });
  const listed = (await listLocalModels(freehold)).map(({ reference }) => reference);
  assert.deepEqual(listed, ['ollama:triage:latest']);
});

test('Ollama: a blob that was altered is noticed by its name', async (context) => {
  const { freehold, folder } = await makeImportGround(context);
  const weights = await importableModel();
  const blob = await writeOllamaModel(path.join(folder, '.ollama', 'models'), 'triage', 'latest', weights);
  const flipped = Buffer.from(weights);
  flipped[flipped.length - 1] = 1;
  await writeFile(blob, flipped);
  await assert.rejects(install(freehold, 'ollama:triage'), { code: 'DIGEST_MISMATCH' });
  await writeFile(blob, weights.subarray(0, 100));
  await assert.rejects(install(freehold, 'ollama:triage'), { code: 'SIZE_MISMATCH' });
});

test('models of LM Studio: by repository, quantization or file; its pointer file is followed', async (context) => {
  const { freehold, folder } = await makeImportGround(context, NO_OLLAMA);
  const root = path.join(folder, '.lmstudio', 'models');
  await write(path.join(root, 'acme', 'Triage-GGUF', 'triage-Q4_0.gguf'), await importableModel());
  await write(path.join(root, 'acme', 'Triage-GGUF', 'triage-Q8_0.gguf'), await importableModel('Other'));
  await write(path.join(root, 'acme', 'Triage-GGUF', 'mmproj-triage.gguf'), 'x');
  assert.deepEqual(
    (await listLocalModels(freehold)).map(({ reference }) => reference),
    ['lmstudio:acme/Triage-GGUF/triage-Q4_0.gguf', 'lmstudio:acme/Triage-GGUF/triage-Q8_0.gguf'],
  );
  await assert.rejects(install(freehold, 'lmstudio:acme/Triage-GGUF'), {
    code: 'REFERENCE_INVALID',
    hint: /Q4_0, Q8_0/,
  });
  const byFile = await install(freehold, 'lmstudio:acme/Triage-GGUF/triage-Q4_0.gguf');
  assert.equal(byFile.name, 'local/triage');
  assert.equal((await install(freehold, 'lmstudio:acme/Triage-GGUF:q4_0')).isNew, false);
  for (const name of ['acme', '../x', 'acme/../../etc']) {
    await assert.rejects(install(freehold, `lmstudio:${name}`), { code: 'REFERENCE_INVALID' }, name);
  }
  await rename(path.join(folder, '.lmstudio'), path.join(folder, 'studio'));
  await assert.rejects(install(freehold, 'lmstudio:acme/Triage-GGUF:Q4_0'), { code: 'MODEL_NOT_FOUND' });
  await write(path.join(folder, '.lmstudio-home-pointer'), path.join(folder, 'studio'));
  assert.equal((await install(freehold, 'lmstudio:acme/Triage-GGUF:Q4_0')).isNew, false);
});

test('LM Studio: a link that leads out of its folder is neither listed nor followed', async (context) => {
  const { freehold, folder } = await makeImportGround(context, NO_OLLAMA);
  const repository = path.join(folder, '.lmstudio', 'models', 'acme', 'linked');
  await mkdir(repository, { recursive: true });
  await symlink(
    await write(path.join(folder, 'outside.gguf'), await importableModel()),
    path.join(repository, 'a.gguf'),
  );
  assert.deepEqual(await listLocalModels(freehold), []);
  await assert.rejects(install(freehold, 'lmstudio:acme/linked'), { code: 'MODEL_NOT_FOUND' });
});
