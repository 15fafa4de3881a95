import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  install,
  locked,
  needsRegistry,
  options,
  publish,
  references,
  refusedWith,
  signal,
  withRegistry,
  write,
} from '../../../tests/fixtures/app-ground.ts';
import { TINY_KEY } from '../../../tests/fixtures/tiny-package.ts';
import { createPackageChannels, promoteRelease, yankVersion } from './channel-publish.ts';
import { lockApp } from './lock-models.ts';
import { pushPackage } from './push-package.ts';
import { withRepository } from './registry-places.ts';

test('what moves by its nature is pinned to what it was: latest', needsRegistry, async (context) => {
  const ground = await withRegistry(context);
  const { host, repository } = {
    host: ground.repository.slice(6).split('/')[0] ?? '',
    repository: 'acme/tiny',
  };
  const pushLatest = (text: string) =>
    withRepository(ground.publisher, { host, repository }, (place) =>
      pushPackage(ground.publisher, text, place, repository, { signal, tags: ['latest'] }),
    );
  await pushLatest('acme/tiny@1.4.0');
  write(ground, `models:\n  triage: ${ground.repository}:latest\n`);
  await install(ground);
  await publish(ground.publisher, ground.folder, '1.5.0', 9);
  await pushLatest('acme/tiny@1.5.0');
  const fresh = await ground.newCustomer();
  await install(ground, fresh, true);
  assert.match((await references(fresh)).join(), /^acme\/tiny@1\.4\.0#[^,]*$/);
});

test('a channel: what it offers to all, not what is newest', needsRegistry, async (context) => {
  const ground = await withRegistry(context);
  const { publisher, customer, repository } = ground;
  for (const [index, version] of ['1.4.0', '1.5.0', '1.6.0', '1.7.0'].entries())
    await ground.push(version, index + 1);
  const channelOptions = { signal };
  await createPackageChannels(publisher, 'acme/tiny', repository, { key: TINY_KEY }, {}, channelOptions);
  const promote = (version: string, rolloutPercent: number) =>
    promoteRelease(publisher, `acme/tiny@${version}`, 'stable', { rolloutPercent }, channelOptions);
  for (const version of ['1.4.0', '1.5.0']) await promote(version, 100);
  await promote('1.6.0', 50);
  const lockedVersion = async (model: string) => {
    write(ground, `models:\n  triage: { from: "${repository}${model}", channel: stable }\n`);
    await lockApp(customer, { ...options(ground), upgrade: 'all' });
    return locked(ground).get('triage')?.version;
  };
  assert.equal(await lockedVersion(''), '1.5.0', 'neither the newest tag nor a rollout that is not complete');
  assert.equal(await lockedVersion(':1.7.0'), '1.7.0', 'an exact version is nobody else’s to decide');
  await assert.rejects(lockedVersion(':~1.4'), refusedWith('NOT_FOUND', /has no version for ~1\.4/));
  await ground.push('1.5.0', 99, true);
  await assert.rejects(
    lockedVersion(''),
    refusedWith('CHANNEL_INVALID', /sha256:.*the channel stable says sha256:/),
  );
  await yankVersion(publisher, 'acme/tiny@1.5.0', { kind: 'yank', reason: 'wrong' }, channelOptions);
  await assert.rejects(lockedVersion(''), refusedWith('NOT_FOUND', /has no version/));
});
