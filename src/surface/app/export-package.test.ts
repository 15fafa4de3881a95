import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import { exportPackage } from './export-package.ts';
import { openFreehold } from './freehold.ts';

test('a target that is a file, lies below one or holds something is left as it is', async (context) => {
  const folder = await temporaryFolder(context);
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'home') });
  const { signal } = new AbortController();
  await installTinyPackage(freehold, path.join(folder, 'project'));
  const file = path.join(folder, 'thesis.txt');
  await writeFile(file, 'kept');
  const full = path.join(folder, 'full');
  await mkdir(full);
  await writeFile(path.join(full, 'x'), 'kept');
  for (const target of [file, path.join(file, 'below'), full]) {
    await assert.rejects(exportPackage(freehold, 'tiny', target, signal), { code: 'ALREADY_EXISTS' });
  }
  assert.equal(await readFile(file, 'utf8'), 'kept');
  assert.deepEqual(await readdir(full), ['x']);

  const empty = path.join(folder, 'empty');
  await mkdir(empty);
  const { files } = await exportPackage(freehold, 'tiny', empty, signal);
  assert.deepEqual((await readdir(empty)).sort(), [...files].sort());
  assert.deepEqual((await readdir(folder)).sort(), ['empty', 'full', 'home', 'project', 'thesis.txt']);
});
