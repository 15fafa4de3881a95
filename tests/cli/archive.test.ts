import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { freeholdInProcess, outcomeOf, temporaryFolder } from '../fixtures/freehold-home.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

test('a package travels: save, verify, restore, and what each says', async (context) => {
  const folder = await temporaryFolder(context);
  const [publisher, customer] = [path.join(folder, 'publisher'), path.join(folder, 'customer')];
  await installTinyPackage(await openFreehold({ env: {}, home: publisher }), path.join(folder, 'project'));
  const file = path.join(folder, 'a.tar');
  const at = (home: string, ...args: string[]) => freeholdInProcess(['--home', home, ...args], home);

  const counted = await at(publisher, 'archive', 'save', file, '--without-freehold', '--dry-run');
  assert.match(
    counted.stdout,
    /^would write [\d.]+ MiB\n {2}acme\/tiny@1\.0\.0#f32\n {2}without Freehold itself\n$/,
  );
  const saved = await at(publisher, 'archive', 'save', file, '--without-freehold');
  assert.match(saved.stdout, /^wrote .*a\.tar \([\d.]+ MiB\)\n[\s\S]*^sha256 {2}[0-9a-f]{64} {2}.*a\.tar$/m);
  assert.equal(outcomeOf(await at(publisher, 'archive', 'save', file)), 'ALREADY_EXISTS');

  const trusted = await at(publisher, 'archive', 'verify', file);
  assert.deepEqual([trusted.code, /^verified acme\/tiny@1\.0\.0#f32$/m.test(trusted.stdout)], [0, true]);
  const untrusted = await at(customer, 'archive', 'verify', file);
  assert.deepEqual(
    [untrusted.code, /^NOT trusted acme\/tiny@1\.0\.0#f32$/m.test(untrusted.stdout)],
    [4, true],
  );

  const refused = await at(customer, 'archive', 'restore', file);
  assert.deepEqual([refused.code, refused.stdout, outcomeOf(refused)], [4, '', 'SIGNER_UNTRUSTED']);
  const [fingerprint] = /SHA256:[0-9a-f ]+(?= for)/.exec(refused.stderr) ?? [];
  assert.match(refused.stderr, /^hint: .*--trust FINGERPRINT/m);
  const restored = await at(customer, 'archive', 'restore', file, '--trust', fingerprint ?? '');
  assert.match(restored.stdout, /^trusted SHA256:.* for acme\/\*\ninstalled acme\/tiny@1\.0\.0#f32$/m);
  const again = await at(customer, '--json', 'archive', 'restore', file);
  const result = JSON.parse(again.stdout.trim().split('\n').at(-1) ?? '');
  assert.deepEqual(result, {
    packages: [{ reference: 'acme/tiny@1.0.0#f32', isNew: false, how: 'as signed' }],
    trusted: [],
    remarks: [],
  });

  const mirrored = await at(customer, 'mirror', `archive:${file}`, `layout:${path.join(folder, 'layout')}`);
  assert.match(mirrored.stdout, /^copied acme\/tiny:1\.0\.0 {2}sha256:/m);
  await rm(file);
  assert.equal(outcomeOf(await at(customer, 'archive', 'restore', file)), 'NOT_FOUND');
  assert.deepEqual((await readdir(folder)).sort(), ['customer', 'layout', 'project', 'publisher']);
});
