import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openTemporaryHome, temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { LogRecord } from '../../core/base/log.ts';
import { encodeLockFile, type LockedModel } from '../../core/format/lock-file.ts';
import { createFakeEngine } from '../../io/engine/fake/fake-engine.ts';
import { openAppServing } from './app-serving.ts';
import { installedPackages } from './installed-packages.ts';
import { withoutAlias } from './model-aliases.ts';
import { createModelHost } from './model-host.ts';

const refusedWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof FreeholdError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

async function makeGround(context: Parameters<typeof temporaryFolder>[0]) {
  const freehold = await openTemporaryHome(context);
  const folder = await temporaryFolder(context);
  await installTinyPackage(freehold, path.join(folder, 'one'), { version: '1.0.0' });
  await installTinyPackage(freehold, path.join(folder, 'two'), { version: '2.0.0', model: { seed: 2 } });
  const packages = installedPackages(await freehold.store.entries());
  const old = packages.find(({ version }) => version === '1.0.0');
  assert.ok(old);
  const locked: LockedModel = {
    from: 'file:one',
    name: old.name,
    version: old.version,
    variant: old.variant,
    content: Digest.parse(old.contentDigest),
    manifest: old.manifestDigest,
    source: 'file:one',
  };
  return { freehold, folder, packages, locked };
}

test('an alias means its locked version, whatever is newer', async (context) => {
  const { freehold, packages, locked } = await makeGround(context);
  const aliases = new Map([['triage', locked]]);
  assert.equal(withoutAlias(packages, aliases, 'triage'), `acme/tiny@1.0.0#${locked.variant}`);
  assert.equal(withoutAlias(packages, aliases, 'tiny'), 'tiny');
  const host = createModelHost(freehold, {
    engine: createFakeEngine(),
    readMemory: async () => ({ limitBytes: 2 ** 40, availableBytes: 2 ** 40 }),
    aliases: async () => aliases,
  });
  context.after(() => host.close());
  await host.start();
  const listed = await host.list();
  assert.deepEqual(
    listed.map(({ id, reference }) => [id, reference.slice(0, 15)]),
    [
      ['triage', 'acme/tiny@1.0.0'],
      ['tiny', 'acme/tiny@2.0.0'],
    ],
  );
  assert.ok(await host.use('triage'));
});

test('an alias that is another package by name is a config error; one for its own package is not', async (context) => {
  const { freehold, folder, packages, locked } = await makeGround(context);
  assert.match(withoutAlias(packages, new Map([['tiny', locked]]), 'tiny'), /@1\.0\.0#/);
  await installTinyPackage(freehold, path.join(folder, 'other'), { name: 'acme/triage' });
  const host = createModelHost(freehold, {
    engine: createFakeEngine(),
    aliases: async () => new Map([['triage', locked]]),
  });
  context.after(() => host.close());
  const refused = refusedWith('CONFIG_INVALID', /calls acme\/tiny by the name triage.*acme\/triage/);
  await assert.rejects(host.start(), refused);
  await assert.rejects(host.use('triage'), refused);
});

test('an alias of what is not installed, or has other content, is refused', async (context) => {
  const { packages, locked } = await makeGround(context);
  const refuse = (change: Partial<LockedModel>) => () =>
    withoutAlias(packages, new Map([['triage', { ...locked, ...change }]]), 'triage');
  assert.throws(refuse({ version: '3.0.0' }), refusedWith('MODEL_NOT_FOUND', /triage is acme\/tiny@3\.0\.0/));
  assert.throws(refuse({ content: Digest.of('x') }), refusedWith('LOCK_MISMATCH', /sha256:.*sha256:/));
});

test('the keys of an application: what is locked, read again when the lock changes', async (context) => {
  const { folder, locked } = await makeGround(context);
  const write = (name: string, text: string) => writeFile(path.join(folder, name), text);
  assert.equal((await (await openAppServing(folder)).aliases()).size, 0);
  await write(
    'freehold.yaml',
    'models:\n  triage: file:one\n  more: catalog:x\nserver: { listen: "127.0.0.1:9" }\n',
  );
  const log: LogRecord[] = [];
  const app = await openAppServing(folder, (record) => log.push(record));
  assert.equal(app.listen, '127.0.0.1:9');
  assert.equal(app.remarks.length, 2);
  assert.equal((await app.aliases()).size, 0);
  await write('freehold.lock', encodeLockFile(new Map([['triage', locked]])));
  assert.deepEqual([...(await app.aliases()).keys()], ['triage']);
  await write('freehold.lock', 'lockVersion: 1\nmodels: [broken\n');
  assert.deepEqual([...(await app.aliases()).keys()], ['triage'], 'what it said before holds on');
  assert.equal(log[0]?.event, 'app-files-refused');
});
