import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage, writeTinyProject } from '../../../tests/fixtures/tiny-package.ts';
import { CHAT_TEMPLATE_BYTES_MAX } from '../../core/format/package-descriptor.ts';
import { buildPackage } from './build-package.ts';
import { exportPackage } from './export-package.ts';
import { openFreehold } from './freehold.ts';
import { verifyReference } from './verify-package.ts';

const { signal } = new AbortController();
// Opening a pipe without a writer blocks a thread of the pool, and the process could not even end.
const LIMIT = { timeout: 20_000 };

/** Puts a named pipe that nobody writes to in the place of a file. */
async function makePipe(file: string): Promise<void> {
  await rm(file);
  execFileSync('mkfifo', [file]);
}

test('weights that are a named pipe are refused, not waited for', LIMIT, async (context) => {
  const folder = await temporaryFolder(context);
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
  const project = await writeTinyProject(path.join(folder, 'project'));
  await makePipe(path.join(project, 'tiny.gguf'));
  await assert.rejects(buildPackage(freehold, project, { mayReplace: false, signal }), {
    code: 'NOT_FOUND',
    message: /tiny\.gguf is not a plain file/,
  });
});

test('a model.yaml that is a named pipe is refused, not waited for', LIMIT, async (context) => {
  const folder = await temporaryFolder(context);
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
  const project = await writeTinyProject(path.join(folder, 'project'));
  const file = path.join(project, 'model.yaml');
  await makePipe(file);
  for (const given of [project, file]) {
    await assert.rejects(buildPackage(freehold, given, { mayReplace: false, signal }), {
      code: 'NOT_FOUND',
      message: /model\.yaml is not a plain file/,
    });
  }
});

test('a document of a folder that is a named pipe is refused, not waited for', LIMIT, async (context) => {
  const folder = await temporaryFolder(context);
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
  await installTinyPackage(freehold, path.join(folder, 'project'));
  for (const name of ['model.sig', 'freehold.json']) {
    const target = path.join(folder, name);
    await exportPackage(freehold, 'tiny', target, signal);
    await makePipe(path.join(target, name));
    await assert.rejects(verifyReference(freehold, `file:${target}`, signal), {
      code: 'PACKAGE_INVALID',
      detail: { file: name },
    });
  }
});

test('a chat template that no engine would load is not built', async (context) => {
  const folder = await temporaryFolder(context);
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
  const chatTemplate = 'x'.repeat(CHAT_TEMPLATE_BYTES_MAX + 1);
  const project = await writeTinyProject(path.join(folder, 'project'), { chatTemplate });
  await assert.rejects(buildPackage(freehold, project, { mayReplace: false, signal }), {
    code: 'PACKAGE_INVALID',
    message: /chat\.jinja: a chat template of 262145 bytes, at most 262144/,
  });
  assert.deepEqual(await freehold.store.entries(), []);
});
