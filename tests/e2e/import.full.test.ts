import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { Digest } from '../../src/core/base/digest.ts';
import { type CliResult, freehold, temporaryFolder } from '../fixtures/freehold-home.ts';
import { HUB_COMMIT, startHubServer } from '../fixtures/hub-server.ts';
import { realModel } from '../fixtures/real-models.ts';

const STARTER = 'smollm2-135m-instruct';
const FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const REPOSITORY = 'acme/SmolLM2-135M-Instruct-GGUF';
const QUESTION = [
  'What is the capital of France? Answer in one word.',
  '--temperature',
  '0',
  '--max-tokens',
  '12',
];

/** The real model in memory, and a command line in a home of its own. */
async function makeGround(context: TestContext) {
  const file = await realModel(STARTER);
  const bytes = await readFile(file);
  const folder = await temporaryFolder(context, 'freehold-import-');
  const home = path.join(folder, 'home');
  const cli = (env: Record<string, string>, ...args: string[]) =>
    freehold(args, { home, cwd: folder, env: { HOME: folder, ...env } });
  return { file, bytes, folder, cli };
}

function requireAnswer(result: CliResult): void {
  assert.equal(result.code, 0, result.stderr);
  assert.match(result.stdout, /Paris/);
}

test('the starter by way of a model hub that breaks the connection: installed, and it answers', async (context) => {
  const { bytes, cli } = await makeGround(context);
  await using hub = await startHubServer({
    [REPOSITORY]: {
      commit: HUB_COMMIT,
      files: new Map([[FILE, bytes]]),
      cardData: { license: 'apache-2.0' },
      storage: (index) => (index < 2 ? { cutAfter: 30 << 20 } : {}),
    },
  });
  const env = { HF_ENDPOINT: hub.origin };
  const installed = await cli(env, 'install', `hf://${REPOSITORY}:Q4_1`, '--json', '--quiet');
  assert.equal(installed.code, 0, installed.stderr);
  const { reference, source } = JSON.parse(installed.stdout);
  assert.equal(reference, 'local/smollm2-135m-instruct@1.0.0#q4_1');
  assert.equal(source, `hf://${REPOSITORY}/${FILE}@${HUB_COMMIT}`);
  assert.equal(hub.storageRequests.length, 3);
  requireAnswer(await cli({}, 'run', 'local/smollm2-135m-instruct', ...QUESTION));
  const verified = await cli({}, 'verify', 'local/smollm2-135m-instruct');
  assert.match(verified.stdout, /trusted for local\/\*/, verified.stderr);
});

test('the starter from Ollama’s folder: found, installed, and it answers; Ollama’s file stays as it is', async (context) => {
  const { file, bytes, folder, cli } = await makeGround(context);
  const models = path.join(folder, '.ollama', 'models');
  const blobs = path.join(models, 'blobs');
  const tags = path.join(models, 'manifests', 'registry.ollama.ai', 'library', 'smollm2');
  await mkdir(blobs, { recursive: true });
  await mkdir(tags, { recursive: true });
  const digest = Digest.of(bytes);
  const config = Buffer.from('{"model_format":"gguf"}');
  await writeFile(path.join(blobs, `sha256-${Digest.hex(digest)}`), bytes);
  await writeFile(path.join(blobs, `sha256-${Digest.hex(Digest.of(config))}`), config);
  await writeFile(
    path.join(tags, '135m'),
    JSON.stringify({
      schemaVersion: 2,
      config: {
        mediaType: 'application/vnd.docker.container.image.v1+json',
        digest: Digest.of(config),
        size: config.byteLength,
      },
      layers: [{ mediaType: 'application/vnd.ollama.image.model', digest, size: bytes.byteLength }],
    }),
  );
  await symlink(file, path.join(blobs, 'sha256-link'));
  const env = { OLLAMA_MODELS: models };
  assert.match((await cli(env, 'catalog', 'list', '--local')).stdout, /ollama:smollm2:135m +93\.8 MiB/);
  const installed = await cli(env, 'install', 'ollama:smollm2:135m', '--offline');
  assert.match(installed.stdout, /installed local\/smollm2-135m@1\.0\.0#q4_1/, installed.stderr);
  requireAnswer(await cli({}, 'run', 'smollm2-135m', ...QUESTION));
  assert.equal(Digest.of(await readFile(path.join(blobs, `sha256-${Digest.hex(digest)}`))), digest);
});

test('a GGUF file from the disk: installed without any network, and it answers', async (context) => {
  const { file, cli } = await makeGround(context);
  const installed = await cli({}, 'install', `file:${file}`, '--name', 'starter', '--offline');
  assert.match(installed.stdout, /installed local\/starter@1\.0\.0#q4_1/, installed.stderr);
  requireAnswer(await cli({}, 'run', 'starter', ...QUESTION));
});
