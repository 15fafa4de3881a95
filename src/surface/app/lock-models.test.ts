import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type Ground,
  install,
  locked,
  makeGround,
  needsRegistry,
  options,
  read,
  references,
  refusedWith,
  signal,
  withRegistry,
  write,
} from '../../../tests/fixtures/app-ground.ts';
import { exportPackage } from './export-package.ts';
import { addModel, lockApp } from './lock-models.ts';

test('a range is resolved once, and then the lock decides', needsRegistry, async (context) => {
  const ground = await withRegistry(context);
  await ground.push('1.4.0', 1);
  await ground.push('1.4.1', 2);
  await ground.push('2.0.0', 3);
  write(ground, `models:\n  triage: ${ground.repository}:^1.4\n`);
  const [first] = await install(ground);
  assert.equal(first?.kind, 'added');
  assert.equal(first?.isNew, true);
  const text = read(ground, 'freehold.lock');
  assert.equal(locked(ground).get('triage')?.version, '1.4.1');
  assert.match(locked(ground).get('triage')?.source ?? '', /acme\/tiny:1\.4\.1#/);

  await ground.push('1.5.0', 4);
  const [second] = await install(ground);
  assert.deepEqual([second?.kind, second?.isNew], ['kept', false]);
  assert.equal(read(ground, 'freehold.lock'), text, 'the same bytes');

  const fresh = await ground.newCustomer();
  await install(ground, fresh, true);
  assert.deepEqual(await references(fresh), await references(ground.customer), 'frozen, elsewhere: the same');

  const [upgraded] = await lockApp(ground.customer, { ...options(ground), upgrade: ['triage'] });
  assert.deepEqual([upgraded?.kind, upgraded?.before?.slice(0, 15)], ['changed', 'acme/tiny@1.4.1']);
  assert.equal((await references(ground.customer)).length, 1, 'nothing is installed by locking');
  await install(ground);
  assert.match((await references(ground.customer)).join(), /1\.5\.0/);
});

test(
  'a moved tag: other content than the lock has is refused, naming both',
  needsRegistry,
  async (context) => {
    const ground = await withRegistry(context);
    await ground.push('1.4.0', 1);
    write(ground, `models:\n  triage: ${ground.repository}:1.4.0\n`);
    await install(ground);
    const before = locked(ground).get('triage')?.content ?? '';
    await ground.push('1.4.0', 7, true);
    const lockText = read(ground, 'freehold.lock');
    for (const isFrozen of [true, false]) {
      const fresh = await ground.newCustomer();
      await assert.rejects(
        install(ground, fresh, isFrozen),
        refusedWith('LOCK_MISMATCH', new RegExp(before), /has the content sha256:[0-9a-f]{64}/),
      );
      assert.deepEqual(await references(fresh), []);
    }
    assert.equal(read(ground, 'freehold.lock'), lockText);
  },
);

test(
  'adding: the range of today, the key of the package, comments untouched',
  needsRegistry,
  async (context) => {
    const ground = await withRegistry(context);
    await ground.push('1.4.0', 1);
    write(ground, '# Ours.\nmodels: # all of them\n');
    const added = await addModel(ground.customer, ground.repository, options(ground));
    assert.equal(added.key, 'tiny');
    assert.equal(
      read(ground, 'freehold.yaml').replaceAll(ground.repository, 'REPO'),
      '# Ours.\nmodels:\n  # all of them\n  tiny: REPO:^1.4.0\n',
    );
    assert.deepEqual(await references(ground.customer), [], 'not installed yet');
    await install(ground, ground.customer, true);
    assert.equal((await references(ground.customer)).length, 1);
    await assert.rejects(
      addModel(ground.customer, `tiny=${ground.repository}:1.4.0`, options(ground)),
      refusedWith('ALREADY_EXISTS'),
    );
  },
);

test('only what must change in the lock changes', needsRegistry, async (context) => {
  const ground = await withRegistry(context);
  await ground.push('1.4.0', 1);
  await ground.push('1.5.0', 2);
  const models = (triage: string, more = '') => `models:\n  triage: ${ground.repository}:${triage}\n${more}`;
  write(ground, models('~1.4', `  other: ${ground.repository}:1.4.0\n`));
  await lockApp(ground.customer, options(ground));
  const before = locked(ground);
  // A wider range that still holds the locked version asks for nothing new; a model that is gone leaves.
  write(ground, models('^1.4'));
  const changes = await lockApp(ground.customer, options(ground));
  assert.deepEqual(
    changes.map(({ key, kind }) => [key, kind]),
    [
      ['triage', 'kept'],
      ['other', 'removed'],
    ],
  );
  const after = locked(ground).get('triage');
  assert.deepEqual(after, { ...before.get('triage'), from: `${ground.repository}:^1.4` });
  // One that excludes it does.
  write(ground, models('^1.5'));
  assert.equal((await lockApp(ground.customer, options(ground)))[0]?.kind, 'changed');
  assert.equal(locked(ground).get('triage')?.version, '1.5.0');
  await assert.rejects(
    lockApp(ground.customer, { ...options(ground), upgrade: ['triagge'] }),
    refusedWith('NOT_FOUND', /did you mean "triage"/),
  );
});

/** An application that takes its model from an exported folder beside it. */
async function withFolder(context: TestContext): Promise<Ground> {
  const ground = await makeGround(context);
  await exportPackage(ground.publisher, 'acme/tiny', path.join(ground.folder, 'exported'), signal);
  write(ground, 'models:\n  own: file:../exported\n');
  return ground;
}

test('frozen refuses a lock that is missing or does not fit, and writes nothing', async (context) => {
  const ground = await withFolder(context);
  await assert.rejects(
    install(ground, ground.customer, true),
    refusedWith('LOCK_MISMATCH', /there is no freehold\.lock/),
  );
  assert.equal(existsSync(path.join(ground.app, 'freehold.lock')), false);
  await install(ground);
  const text = read(ground, 'freehold.lock');
  write(ground, 'models:\n  own: file:../exported\n  more: catalog:x\n');
  const fresh = await ground.newCustomer();
  await assert.rejects(install(ground, fresh, true), refusedWith('LOCK_MISMATCH', /more is not in the lock/));
  assert.equal(read(ground, 'freehold.lock'), text);
  assert.deepEqual(await references(fresh), []);
});

test('a folder is found from the application, and pinned like everything', async (context) => {
  const ground = await withFolder(context);
  await install(ground);
  assert.equal((await references(ground.customer)).length, 1);
  const fresh = await ground.newCustomer();
  await install(ground, fresh, true);
  assert.deepEqual(await references(fresh), await references(ground.customer));
  // Somebody puts another package into the folder.
  const lock = read(ground, 'freehold.lock');
  writeFileSync(
    path.join(ground.app, 'freehold.lock'),
    lock.replace(/content: sha256:[0-9a-f]{64}/, `content: sha256:${'0'.repeat(64)}`),
  );
  await assert.rejects(
    install(ground, fresh, true),
    refusedWith('LOCK_MISMATCH', /installed with the content/),
  );
  await assert.rejects(
    install(ground, await ground.newCustomer(), true),
    refusedWith('LOCK_MISMATCH', /sha256:0000/),
  );
});

test('without a freehold.yaml there is a hint, and no lock appears', async (context) => {
  const ground = await makeGround(context);
  await assert.rejects(install(ground), refusedWith('NOT_FOUND', /no freehold\.yaml/));
  assert.equal(existsSync(path.join(ground.app, 'freehold.lock')), false);
});
