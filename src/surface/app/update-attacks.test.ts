import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { openTemporaryHome, temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage, TINY_KEY } from '../../../tests/fixtures/tiny-package.ts';
import {
  accessTo,
  codeOf,
  UPDATED_NAME as NAME,
  UPDATED_REPOSITORY as REPOSITORY,
  tagOf,
  UpdateWorld,
  updateWorld,
} from '../../../tests/fixtures/update-world.ts';
import type { ArtifactPlace } from '../../core/format/artifact-place.ts';
import { CHANNELS_TAG } from '../../features/updates/channel-artifact.ts';
import {
  adviseVersions,
  createPackageChannels,
  promoteRelease,
  publishedChannels,
  renewPackageChannels,
  rotateKeys,
} from './channel-publish.ts';
import { channelStore, refreshChannels } from './channel-refresh.ts';
import { followChannel, trustRootDigest, trustRootFile } from './channel-trust.ts';
import { installedPackages } from './installed-packages.ts';
import { addTrust, createKey, publicKeyOf, removeTrust } from './keys-and-trust.ts';
import { pushPackage } from './push-package.ts';
import { signPackages } from './sign-package.ts';
import { rollBack } from './update-rollback.ts';
import { activateVersion } from './version-activation.ts';

const { signal } = new AbortController();

describe('attacks on updates', () => {
  test('a mirror that serves an old artifact is passed over, and named when nobody has a newer one', async (context) => {
    const made = await updateWorld(context);
    const old = made.registry.copy('the old mirror');
    await made.offer('1.1.0');
    await made.check();
    made.mirrors = [old];
    assert.equal((await made.check()).offer?.kind, 'update');
    made.registry.tagged.set(CHANNELS_TAG, tagOf(old));
    await made.refuses('CHANNEL_ROLLBACK', /mirror/);
    const { failure } = await made.check();
    assert.match(failure?.message ?? '', /before that: .*older than those seen before/);
    assert.equal(await made.applied(), 'CHANNEL_ROLLBACK');
  });

  test('an altered layer, and one that never ends', async (context) => {
    const made = await updateWorld(context);
    const spoiled = made.registry.copy('the mirror');
    const manifest = spoiled.manifests.get(tagOf(spoiled));
    const layers = (
      JSON.parse(manifest?.bytes.toString() ?? '') as {
        layers: { digest: string; annotations: Record<string, string> }[];
      }
    ).layers;
    const timestamp = layers.find(({ annotations }) => Object.values(annotations).includes('timestamp.json'));
    const digest = timestamp?.digest as Parameters<typeof spoiled.blobs.get>[0];
    const bytes = spoiled.blobs.get(digest) ?? Buffer.alloc(0);
    const registry = made.registry;
    spoiled.blobs.set(digest, Buffer.from(bytes.toString().replace('"version": 2', '"version": 9')));
    made.registry = spoiled;
    await made.refuses('CHANNEL_INVALID', /mirror/);
    let sentBytes = 0;
    const endless = {
      ...spoiled,
      async *blob() {
        for (;;) {
          sentBytes += 1000;
          yield Buffer.alloc(1000);
        }
      },
    };
    made.registry = endless;
    await made.refuses('CHANNEL_INVALID', /mirror/);
    assert.ok(sentBytes < 100_000, `${sentBytes} bytes were taken`);
    made.mirrors = [endless, spoiled];
    made.registry = registry;
    assert.equal((await made.check()).failure, undefined);
  });

  test('a version that was pushed again with other content after it was promoted', async (context) => {
    const made = await updateWorld(context);
    await made.offer('1.1.0');
    const other = await openTemporaryHome(context);
    const key = path.join('keys', `${TINY_KEY}.key`);
    await createKey(other, TINY_KEY);
    const pem = await readFile(path.join(made.publisher.home.path, key));
    await writeFile(path.join(other.home.path, key), pem, { mode: 0o600 });
    const { publicKeyPem } = await publicKeyOf(other, TINY_KEY);
    await addTrust(other, 'acme/*', publicKeyPem);
    const files = { LICENSE: 'Another licence.\n' };
    await installTinyPackage(other, path.join(made.folder, 'again'), { name: NAME, version: '1.1.0', files });
    await signPackages(other, `${NAME}@1.1.0`, TINY_KEY, signal);
    await pushPackage(other, `${NAME}@1.1.0`, made.registry, 'acme/tiny', {
      ...{ signal, isReplacing: true, isDryRun: false, isWithoutChunkMaps: true },
    });
    const [outcome] = await made.apply();
    assert.ok(outcome?.kind === 'failed');
    assert.ok(codeOf('CHANNEL_INVALID', /pushed again after it was promoted/)(outcome.failure));
    assert.equal(await made.inUse(), '1.0.0');
  });

  test('a first root that nobody vouches for, and one that is pinned by hand', async (context) => {
    const made = await updateWorld(context);
    const stranger = await openTemporaryHome(context);
    const follow = () => followChannel(stranger, NAME, REPOSITORY, 'stable', made.options);
    await assert.rejects(follow, codeOf('SIGNER_UNTRUSTED', /channel trust acme\/tiny --root FILE/));
    const { roots, newestRoot } = await publishedChannels(made.publisher, NAME, made.options);
    const wrong = `sha256:${'0'.repeat(64)}`;
    const pin = (digest: string) => trustRootDigest(stranger, NAME, REPOSITORY, digest, made.options);
    await assert.rejects(pin(wrong), codeOf('SIGNER_UNTRUSTED', /channel show/));
    await pin(roots[0]?.digest ?? '');
    await follow();
    const third = await openTemporaryHome(context);
    await trustRootFile(third, NAME, newestRoot);
    await followChannel(third, NAME, REPOSITORY, 'stable', made.options);
    await assert.rejects(
      trustRootFile(third, 'acme/other', newestRoot),
      codeOf('CHANNEL_INVALID', /another package/),
    );
    await assert.rejects(
      followChannel(third, NAME, REPOSITORY, 'edge', made.options),
      codeOf('NOT_FOUND', /it has stable/),
    );
  });

  test('a first root needs as many trusted keys as it demands itself', async (context) => {
    const [publisher, customer] = await Promise.all([openTemporaryHome(context), openTemporaryHome(context)]);
    const made = new UpdateWorld(publisher, customer, await temporaryFolder(context));
    await made.push('1.0.0');
    await createKey(publisher, 'safe');
    const keys = { root: ['acme', 'safe'], rootThreshold: 2, targets: ['acme'], online: ['acme'] };
    await createPackageChannels(publisher, NAME, REPOSITORY, keys, {}, made.options);
    await promoteRelease(publisher, `${NAME}@1.0.0`, 'stable', { rolloutPercent: 100 }, made.options);
    await addTrust(customer, NAME, (await publicKeyOf(publisher, 'acme')).publicKeyPem);
    const follow = () => followChannel(customer, NAME, REPOSITORY, 'stable', made.options);
    await assert.rejects(follow, codeOf('SIGNER_UNTRUSTED', /trust add/));
    await addTrust(customer, NAME, (await publicKeyOf(publisher, 'safe')).publicKeyPem);
    await follow();
    // From here on the chain of roots counts: a key that goes out of use does not stop updates.
    await createKey(publisher, 'next');
    await rotateKeys(publisher, NAME, { root: ['next'] }, made.options);
    await removeTrust(customer, NAME, (await publicKeyOf(publisher, 'safe')).fingerprint);
    assert.equal((await made.check()).failure, undefined);
  });

  test('stolen online keys are taken out of use, whatever their thief has published', async (context) => {
    const made = await updateWorld(context);
    const honest = made.registry.copy('before');
    for (let step = 0; step < 5; step++) await renewPackageChannels(made.publisher, NAME, made.options);
    const thiefs = tagOf(made.registry);
    await made.check();
    // The publisher's home has seen none of it.
    const fresh = { ...made.options, access: accessTo([honest], honest) };
    const files = (await channelStore(made.customer).load(NAME)) ?? new Map();
    await channelStore(made.publisher).save(
      NAME,
      new Map([...files].filter(([title]) => title.includes('root'))),
      () => true,
    );
    await refreshChannels(made.publisher, NAME, { host: 'x', repository: 'x' }, fresh);
    await createKey(made.publisher, 'new');
    const choice = { isRecovery: true, targets: ['new'], online: ['new'] };
    await assert.rejects(
      rotateKeys(made.publisher, NAME, { isRecovery: true }, made.options),
      codeOf('USAGE'),
    );
    const recovered = await rotateKeys(made.publisher, NAME, choice, made.options);
    assert.equal(recovered.contents.channels.get('stable')?.releases[0]?.version, '1.0.0');
    assert.equal((await made.check()).failure, undefined);
    made.registry.tagged.set(CHANNELS_TAG, thiefs);
    await made.refuses('CHANNEL_INVALID', /mirror|publisher/);
  });

  test('a registry cannot get a document signed by changing it there', async (context) => {
    const made = await updateWorld(context);
    const old = tagOf(made.registry);
    await made.offer('1.1.0');
    made.registry.tagged.set(CHANNELS_TAG, old);
    await assert.rejects(
      adviseVersions(made.publisher, NAME, { kind: 'withdraw', id: 'ACME-1' }, made.options),
      codeOf('CHANNEL_ROLLBACK'),
    );
  });

  test('two publishers at once: the second is told', async (context) => {
    const made = await updateWorld(context);
    const { registry } = made;
    let isFirst = true;
    const racing: ArtifactPlace = {
      ...registry,
      async putBlob(...args) {
        if (isFirst) {
          isFirst = false;
          await renewPackageChannels(made.publisher, NAME, made.options);
        }
        return registry.putBlob(...args);
      },
    };
    const slower = {
      ...made.options,
      access: accessTo([], racing),
      clock: { nowMs: () => made.nowMs + 5000 },
    };
    await assert.rejects(renewPackageChannels(made.publisher, NAME, slower), codeOf('BUSY', /channel list/));
    assert.equal((await made.check()).failure, undefined);
  });

  test('an installer that brings something else than what was promised', async (context) => {
    const made = await updateWorld(context);
    await made.offer('1.1.0');
    const [other] = installedPackages(await made.customer.store.entries());
    assert.ok(other !== undefined);
    const [outcome] = await made.apply([], { install: async () => other });
    assert.ok(outcome?.kind === 'failed');
    assert.ok(codeOf('CHANNEL_INVALID', /version in use goes on/)(outcome.failure));
    assert.equal(await made.inUse(), '1.0.0');
  });

  test('what is held does not come into use by being signed or fetched again', async (context) => {
    const made = await updateWorld(context);
    await made.offer('1.1.0');
    await made.apply();
    await rollBack(made.customer, NAME);
    await createKey(made.customer, 'ours');
    await signPackages(made.customer, `${NAME}@1.1.0`, 'ours', signal);
    assert.equal(await made.inUse(), '1.0.0');
    await activateVersion(made.customer, NAME, '1.1.0');
    await activateVersion(made.customer, NAME, '1.0.0');
    // Nor does what was in use before get lost.
    await signPackages(made.customer, `${NAME}@1.0.0`, 'ours', signal);
    assert.equal((await rollBack(made.customer, NAME)).to, '1.1.0');
    assert.equal((await rollBack(made.customer, NAME)).to, '1.0.0');
  });
});
