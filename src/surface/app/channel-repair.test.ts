import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { openTemporaryHome } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import {
  codeOf,
  UPDATED_NAME as NAME,
  UPDATED_REPOSITORY as REPOSITORY,
  tagOf,
  updateWorld,
} from '../../../tests/fixtures/update-world.ts';
import { CHANNELS_TAG } from '../../features/updates/channel-artifact.ts';
import {
  createPackageChannels,
  promoteRelease,
  publishedChannels,
  renewPackageChannels,
  rotateKeys,
  yankVersion,
} from './channel-publish.ts';
import { channelStore, refreshChannels } from './channel-refresh.ts';
import { followChannel } from './channel-trust.ts';
import { addTrust, createKey, publicKeyOf } from './keys-and-trust.ts';

const FROM = { host: 'registry.acme.example', repository: 'acme/tiny' };

describe('a publisher repairs channels', () => {
  test('that are lost, overwritten by something else, or put back to an older state', async (context) => {
    const made = await updateWorld(context);
    const older = tagOf(made.registry);
    await made.offer('1.1.0');
    const { tagged } = made.registry;
    const somethingElse = tagged.get('1.0.0');
    assert.ok(somethingElse !== undefined);
    const damages = [
      { code: 'NOT_FOUND', damage: () => void tagged.delete(CHANNELS_TAG) },
      { code: 'CHANNEL_INVALID', damage: () => void tagged.set(CHANNELS_TAG, somethingElse) },
      { code: 'CHANNEL_ROLLBACK', damage: () => void tagged.set(CHANNELS_TAG, older) },
    ] as const;
    for (const { code, damage } of damages) {
      damage();
      const shown = publishedChannels(made.publisher, NAME, made.options);
      await assert.rejects(shown, codeOf(code, /freehold channel renew acme\/tiny publishes again/));
      const yanked = yankVersion(
        made.publisher,
        `${NAME}@1.0.0`,
        { kind: 'yank', reason: 'x' },
        made.options,
      );
      await assert.rejects(yanked, codeOf(code));
      const { repaired, contents } = await renewPackageChannels(made.publisher, NAME, made.options);
      assert.ok(repaired !== undefined);
      assert.equal(contents.channels.get('stable')?.releases[0]?.version, '1.1.0');
      assert.equal((await made.check()).offer?.kind, 'update', code);
    }
    assert.equal((await renewPackageChannels(made.publisher, NAME, made.options)).repaired, undefined);
  });

  test('after a theft, also where the tag is lost', async (context) => {
    const made = await updateWorld(context);
    made.registry.tagged.delete(CHANNELS_TAG);
    await createKey(made.publisher, 'new');
    const choice = { isRecovery: true, targets: ['new'], online: ['new'] };
    await rotateKeys(made.publisher, NAME, choice, made.options);
    assert.equal((await made.check()).failure, undefined);
  });

  test('with what this home published, not with what a thief did and it followed', async (context) => {
    const made = await updateWorld(context);
    // The thief has the keys and a home of his own.
    const thief = await openTemporaryHome(context);
    const key = path.join('keys', 'acme.key');
    await createKey(thief, 'acme');
    await writeFile(
      path.join(thief.home.path, key),
      await readFile(path.join(made.publisher.home.path, key)),
      { mode: 0o600 },
    );
    await addTrust(thief, 'acme/*', (await publicKeyOf(thief, 'acme')).publicKeyPem);
    await refreshChannels(thief, NAME, FROM, made.options);
    await writeFile(path.join(thief.home.path, 'channels.yaml'), `published: { ${NAME}: '${REPOSITORY}' }\n`);
    await yankVersion(thief, `${NAME}@1.0.0`, { kind: 'yank', reason: 'the thief says so' }, made.options);
    // The publisher's home follows its own channels, and a timer renews them.
    await followChannel(made.publisher, NAME, REPOSITORY, 'stable', made.options);
    await renewPackageChannels(made.publisher, NAME, made.options);
    const before = await publishedChannels(made.publisher, NAME, made.options);
    assert.equal(before.contents.yanked.length, 1);
    await createKey(made.publisher, 'new');
    const choice = { isRecovery: true, targets: ['new'], online: ['new'] };
    const { contents } = await rotateKeys(made.publisher, NAME, choice, made.options);
    assert.deepEqual(contents.yanked, []);
    assert.equal((await made.check()).failure, undefined);
  });

  test('and cannot make second ones, which everybody would refuse', async (context) => {
    const made = await updateWorld(context);
    made.registry.tagged.delete(CHANNELS_TAG);
    const create = (home = made.publisher) =>
      createPackageChannels(home, NAME, REPOSITORY, { key: 'acme' }, {}, made.options);
    await assert.rejects(create(), codeOf('ALREADY_EXISTS', /freehold channel renew acme\/tiny/));
    await createKey(made.customer, 'acme');
    await assert.rejects(create(made.customer), codeOf('ALREADY_EXISTS', /channels\.yaml/));
    // A root that was pinned is no state to publish: it offers nothing.
    const files = (await channelStore(made.publisher).load(NAME)) ?? new Map();
    const rootOnly = new Map([...files].filter(([title]) => title.endsWith('root.json')));
    await rm(path.join(made.publisher.home.path, 'published'), { recursive: true });
    await channelStore(made.publisher).save(NAME, rootOnly, () => true);
    const everything = { ...made.options, isEverything: true };
    await assert.rejects(renewPackageChannels(made.publisher, NAME, everything), codeOf('NOT_FOUND'));
    await createKey(made.publisher, 'new');
    const choice = { isRecovery: true, targets: ['new'], online: ['new'] };
    await assert.rejects(rotateKeys(made.publisher, NAME, choice, made.options), codeOf('NOT_FOUND'));
    // A home that has lost its memory is told where its channels are.
    await rm(path.join(made.publisher.home.path, 'channels'), { recursive: true });
    const renewed = renewPackageChannels(made.publisher, NAME, made.options);
    await assert.rejects(
      renewed,
      codeOf('NOT_FOUND', /create acme\/tiny oci:\/\/registry\.acme\.example\/acme\/tiny$/),
    );
  });
});

test('a dry run publishes nothing and remembers nothing', async (context) => {
  const made = await updateWorld(context);
  await made.push('1.1.0');
  const before = tagOf(made.registry);
  const stored = await channelStore(made.publisher).load(NAME);
  const options = { ...made.options, isDryRun: true };
  const shown = await promoteRelease(
    made.publisher,
    `${NAME}@1.1.0`,
    'stable',
    { rolloutPercent: 5 },
    options,
  );
  assert.equal(shown.contents.channels.get('stable')?.releases[0]?.version, '1.1.0');
  await rotateKeys(made.publisher, NAME, {}, options);
  assert.equal(tagOf(made.registry), before);
  assert.deepEqual(await channelStore(made.publisher).load(NAME), stored);
  await installTinyPackage(made.publisher, path.join(made.folder, 'other'), { name: 'acme/other' });
  made.registry.tagged.delete(CHANNELS_TAG);
  await createPackageChannels(made.publisher, 'acme/other', REPOSITORY, { key: 'acme' }, {}, options);
  assert.equal(made.registry.tagged.has(CHANNELS_TAG), false);
  const renewed = renewPackageChannels(made.publisher, 'acme/other', made.options);
  await assert.rejects(renewed, codeOf('NOT_FOUND', /channel create acme\/other/));
});

test('only what exists somewhere is withdrawn by a slip of the pen', async (context) => {
  const made = await updateWorld(context);
  const yank = (version: string, isUnseen = false) =>
    yankVersion(made.publisher, `${NAME}@${version}`, { kind: 'yank', reason: 'x', isUnseen }, made.options);
  await assert.rejects(yank('7.7.7'), codeOf('NOT_FOUND', /offered: 1\.0\.0; .*--unseen/));
  // Offered by no channel any more.
  await made.offer('1.1.0');
  assert.equal((await yank('1.0.0')).contents.yanked.length, 1);
  assert.equal((await yank('7.7.7', true)).contents.yanked.length, 2);
});
