import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { freeholdInProcess, outcomeOf, temporaryFolder } from '../fixtures/freehold-home.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

test('an older version that is installed says that another one stays in use, and how to change that', async (context) => {
  const folder = await temporaryFolder(context);
  const home = path.join(folder, 'home');
  const opened = await openFreehold({ env: {}, home });
  for (const version of ['1.0.0', '1.1.0']) {
    const files = { LICENSE: `The licence of ${version}.\n` };
    await installTinyPackage(opened, path.join(folder, version), { version, files });
  }
  const at = (...args: string[]) => freeholdInProcess(['--home', home, ...args], home);
  const exported = path.join(folder, 'exported');
  const { code } = await at('export', 'acme/tiny@1.0.0', exported);
  assert.equal(code, 0);
  const installed = await at('install', `file:${exported}`);
  assert.match(installed.stderr, /another version of acme\/tiny stays in use; freehold update rollback/);
  const back = await at('update', 'rollback', 'acme/tiny@1.0.0');
  assert.equal(back.stdout, 'in use acme/tiny@1.0.0, instead of 1.1.0\n');
  assert.doesNotMatch((await at('install', `file:${exported}`)).stderr, /stays in use/);
  const saved = await at('archive', 'save', path.join(folder, 'a.tar'), '--without-freehold');
  assert.match(saved.stdout, /^ {2}without acme\/tiny@1\.1\.0#f32, which is held back$/m);
  assert.equal(outcomeOf(await at('archive', 'save', '')), 'USAGE');
});
