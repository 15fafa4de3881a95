import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { openTemporaryHome, temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { type MemoryPlace, memoryPlace } from '../../../tests/fixtures/memory-place.ts';
import { installTinyPackage, TINY_KEY } from '../../../tests/fixtures/tiny-package.ts';
import type { ErrorCode } from '../../core/base/error-table.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { ArtifactSource } from '../../core/format/artifact-place.ts';
import { CHANNELS_TAG } from '../../features/updates/channel-artifact.ts';
import {
  adviseVersions,
  createPackageChannels,
  type Notice,
  promoteRelease,
  publishedChannels,
  renewPackageChannels,
  rotateKeys,
  yankVersion,
} from './channel-publish.ts';
import type { ChannelOptions } from './channel-refresh.ts';
import { followChannel, trustRootDigest, trustRootFile } from './channel-trust.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, installedPackages, resolveInstalled } from './installed-packages.ts';
import { addTrust, createKey, publicKeyOf, removeTrust } from './keys-and-trust.ts';
import { listInstalled } from './package-list.ts';
import { pushPackage } from './push-package.ts';
import { type ApplyOptions, type ApplyOutcome, applyUpdates } from './update-apply.ts';
import { checkUpdates } from './update-check.ts';
import { rollBack } from './update-rollback.ts';
import { activateVersion } from './version-activation.ts';

const NAME = 'acme/tiny';
const REPOSITORY = 'oci://registry.acme.example/acme/tiny';
const DAY_MS = 86_400_000;
const { signal } = new AbortController();

/** A publisher, a registry and a customer, with one clock. */
class World {
  readonly publisher: Freehold;
  readonly customer: Freehold;
  readonly registry = memoryPlace('the registry');
  readonly folder: string;
  mirrors: ArtifactSource[] = [];
  nowMs = Date.parse('2026-11-22T12:00:00Z');

  constructor(publisher: Freehold, customer: Freehold, folder: string) {
    this.publisher = publisher;
    this.customer = customer;
    this.folder = folder;
  }

  get options(): ChannelOptions {
    return {
      signal,
      clock: { nowMs: () => this.nowMs },
      access: {
        withSources: (_freehold, _name, work) => work([...this.mirrors, this.registry]),
        withRepository: (_freehold, _name, work) => work(this.registry),
      },
    };
  }

  /** Builds, signs and pushes a version whose licence names it, so that each has other content. */
  async push(version: string): Promise<void> {
    const files = { LICENSE: `The licence of ${version}.\n` };
    await installTinyPackage(this.publisher, path.join(this.folder, version), { name: NAME, version, files });
    await pushPackage(this.publisher, `${NAME}@${version}`, this.registry, 'acme/tiny', {
      signal,
      isReplacing: false,
      isDryRun: false,
      isWithoutChunkMaps: true,
    });
  }

  async offer(version: string, rolloutPercent = 100, channel = 'stable'): Promise<void> {
    await this.push(version);
    await promoteRelease(this.publisher, `${NAME}@${version}`, channel, { rolloutPercent }, this.options);
  }

  apply(texts: readonly string[] = [], options: Partial<ApplyOptions> = {}): Promise<ApplyOutcome[]> {
    return applyUpdates(this.customer, texts, { ...this.options, ...options });
  }

  /** Applies everything, and says what became of the one package. */
  async applied(texts: readonly string[] = [], options: Partial<ApplyOptions> = {}): Promise<string> {
    const [outcome] = await this.apply(texts, options);
    if (outcome?.kind === 'failed') return outcome.failure.code;
    return outcome?.kind === 'unchanged' ? outcome.offer.kind : (outcome?.kind ?? 'nothing');
  }

  async check(options: { now?: boolean } = {}) {
    const [row] = await checkUpdates(this.customer, [], { ...this.options, ...options });
    assert.ok(row !== undefined);
    return row;
  }

  async refuses(code: ErrorCode, hint: RegExp): Promise<void> {
    const { failure } = await this.check();
    assert.equal(failure?.code, code, failure?.message);
    assert.match(failure?.hint ?? '', hint);
  }

  async inUse(freehold = this.customer): Promise<string> {
    const packages = installedPackages(await freehold.store.entries());
    return resolveInstalled(packages, 'tiny', Number.POSITIVE_INFINITY).version;
  }
}

/** Version 1.0.0 is offered, followed and in use. */
async function world(context: TestContext): Promise<World> {
  const [publisher, customer] = await Promise.all([openTemporaryHome(context), openTemporaryHome(context)]);
  const made = new World(publisher, customer, await temporaryFolder(context));
  await made.push('1.0.0');
  await createPackageChannels(publisher, NAME, REPOSITORY, { key: TINY_KEY }, {}, made.options);
  await promoteRelease(publisher, `${NAME}@1.0.0`, 'stable', { rolloutPercent: 100 }, made.options);
  const { publicKeyPem } = await publicKeyOf(publisher, TINY_KEY);
  await addTrust(customer, 'acme/*', publicKeyPem);
  await followChannel(customer, NAME, REPOSITORY, 'stable', made.options);
  assert.equal(await made.applied(), 'updated');
  return made;
}

const codeOf = (code: ErrorCode, hint?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof FreeholdError);
  assert.equal(error.code, code, error.message);
  if (hint !== undefined) assert.match(error.hint, hint);
  return true;
};

describe('updates', () => {
  test('from a channel, one version after the other, and back as far as there are any', async (context) => {
    const made = await world(context);
    assert.equal(await made.inUse(), '1.0.0');
    assert.equal((await made.check()).offer?.kind, 'current');
    await made.offer('1.1.0');
    const row = await made.check();
    assert.equal(row.offer?.kind, 'update');
    assert.equal(row.installed, '1.0.0');
    assert.ok(row.offer.kind === 'update' && (row.offer.release.variants[0]?.sizeBytes ?? 0) > 1000);
    assert.equal(await made.applied(['tiny']), 'updated');
    await made.offer('1.2.0');
    assert.equal(await made.applied(), 'updated');
    assert.equal(await made.inUse(), '1.2.0');
    assert.deepEqual(await rollBack(made.customer, 'tiny'), { name: NAME, from: '1.2.0', to: '1.1.0' });
    assert.deepEqual(await rollBack(made.customer, undefined), { name: NAME, from: '1.1.0', to: '1.0.0' });
    assert.equal(await made.inUse(), '1.0.0');
    await assert.rejects(rollBack(made.customer, NAME), codeOf('MODEL_NOT_FOUND', /NAME@VERSION|@VERSION/));
    const listed = await listInstalled(made.customer);
    assert.deepEqual(
      listed.map(({ version, held }) => [version, held]),
      [
        ['1.2.0', 'rolled-back'],
        ['1.1.0', 'rolled-back'],
        ['1.0.0', undefined],
      ],
    );
    // Still there by name.
    const packages = installedPackages(await made.customer.store.entries());
    assert.equal(resolveInstalled(packages, `${NAME}@1.2.0`, 1e9).version, '1.2.0');
  });

  test('what was rolled back is not taken again, unless by its version, or something newer comes', async (context) => {
    const made = await world(context);
    await made.offer('1.1.0');
    await made.apply();
    await rollBack(made.customer, NAME);
    assert.equal(await made.applied(), 'declined');
    assert.equal(await made.applied(['tiny']), 'declined');
    assert.equal(await made.inUse(), '1.0.0');
    assert.equal(await made.applied(['tiny@1.1.0']), 'updated');
    assert.equal(await made.inUse(), '1.1.0');
    await rollBack(made.customer, NAME);
    await made.offer('1.2.0');
    assert.equal(await made.applied(), 'updated');
    assert.equal((await rollBack(made.customer, NAME)).to, '1.0.0');
  });

  test('an older version is refused, also from the publisher, and taken by name; rollback undoes that as well', async (context) => {
    const made = await world(context);
    await made.offer('1.1.0');
    await made.apply();
    await promoteRelease(made.publisher, `${NAME}@1.0.0`, 'stable', { rolloutPercent: 100 }, made.options);
    assert.equal((await made.check()).offer?.kind, 'ahead');
    const [outcome] = await made.apply();
    assert.ok(outcome?.kind === 'failed');
    assert.ok(codeOf('CHANNEL_ROLLBACK', /--allow-downgrade/)(outcome.failure));
    assert.equal(await made.inUse(), '1.1.0');
    assert.equal(await made.applied([], { mayDowngrade: true }), 'updated');
    assert.equal(await made.inUse(), '1.0.0');
    assert.deepEqual(await rollBack(made.customer, NAME), { name: NAME, from: '1.0.0', to: '1.1.0' });
    assert.deepEqual(await rollBack(made.customer, NAME), { name: NAME, from: '1.1.0', to: '1.0.0' });
    await assert.rejects(rollBack(made.customer, NAME), codeOf('MODEL_NOT_FOUND'));
  });

  test('a yanked version is not offered; where it is in use, the way back is', async (context) => {
    const made = await world(context);
    await made.offer('1.1.0', 50);
    await made.apply([], { now: true });
    assert.equal(await made.inUse(), '1.1.0');
    const reason = 'answers in the wrong language';
    await yankVersion(made.publisher, `${NAME}@1.1.0`, { kind: 'yank', reason }, made.options);
    const row = await made.check();
    assert.equal(row.yankedBecause, reason);
    assert.equal(row.offer?.kind, 'retreat');
    await assert.rejects(
      promoteRelease(made.publisher, `${NAME}@1.1.0`, 'edge', { rolloutPercent: 100 }, made.options),
      codeOf('USAGE'),
    );
    assert.equal(await made.applied(['tiny@1.1.0']), 'current');
    assert.equal(await made.applied(), 'updated');
    assert.equal(await made.inUse(), '1.0.0');
    assert.equal(await made.applied(['tiny@1.1.0']), 'CHANNEL_INVALID');
    const listed = await listInstalled(made.customer);
    assert.equal(listed.find(({ version }) => version === '1.1.0')?.yankedBecause, reason);
    await yankVersion(made.publisher, `${NAME}@1.1.0`, { kind: 'undo' }, made.options);
    assert.equal((await made.check({ now: true })).offer?.kind, 'update');
  });

  test('advisories are shown from what is known, without a network too', async (context) => {
    const made = await world(context);
    const advisory: Notice = {
      ...{ id: 'ACME-2026-001', severity: 'high', affected: '<1.0.1', fixedIn: '1.0.1' },
      ...{ title: 'Repeats what it was told before', action: 'Update.' },
    };
    await adviseVersions(made.publisher, NAME, { kind: 'advise', advisory }, made.options);
    assert.deepEqual(
      (await made.check()).advisories.map(({ id }) => id),
      ['ACME-2026-001'],
    );
    const offline = { ...made.customer, isOffline: true };
    const [row] = await checkUpdates(offline, ['tiny'], made.options);
    assert.deepEqual([row?.advisories.length, row?.isStored, row?.offer?.kind], [1, true, 'current']);
    assert.equal((await listInstalled(offline))[0]?.advisories[0]?.severity, 'high');
    const [outcome] = await applyUpdates(offline, [], made.options);
    assert.ok(outcome?.kind === 'failed' && outcome.failure.code === 'OFFLINE');
    await adviseVersions(made.publisher, NAME, { kind: 'withdraw', id: 'ACME-2026-001' }, made.options);
    assert.deepEqual((await made.check()).advisories, []);
  });

  test('a staged rollout waits for its turn', async (context) => {
    const made = await world(context);
    await made.offer('1.1.0', 0);
    assert.equal((await made.check()).offer?.kind, 'waiting');
    assert.equal(await made.applied(), 'waiting');
    // Who comes new meanwhile gets what everybody has.
    assert.equal(await made.inUse(), '1.0.0');
    assert.equal(await made.applied([], { now: true }), 'updated');
    assert.equal(await made.inUse(), '1.1.0');
    assert.match(
      await readFile(path.join(made.customer.home.path, 'device.json'), 'utf8'),
      /"id": "[0-9a-f]{32}"/,
    );
  });

  test('what the suite refuses stays held, and the version in use goes on', async (context) => {
    const made = await world(context);
    await made.offer('1.1.0');
    const seen: string[] = [];
    const acceptance: ApplyOptions['acceptance'] = async () => async (candidate, current) => {
      seen.push(`${fullReference(candidate)} after ${current === undefined ? '' : fullReference(current)}`);
      assert.equal(await made.inUse(), '1.0.0');
      return { accepted: seen.length > 1, reason: '3 of 4 cases right', detail: {} };
    };
    assert.equal(await made.applied([], { acceptance }), 'refused');
    assert.equal(await made.inUse(), '1.0.0');
    assert.match(seen[0] ?? '', /^acme\/tiny@1\.1\.0#\S+ after acme\/tiny@1\.0\.0#/);
    assert.equal((await listInstalled(made.customer))[0]?.held, 'refused');
    assert.equal(await made.applied([], { acceptance }), 'declined');
    assert.equal(await made.applied(['tiny@1.1.0'], { acceptance }), 'updated');
    assert.equal(await made.inUse(), '1.1.0');
  });

  test('expiry blocks updates, and nothing else', async (context) => {
    const made = await world(context);
    await made.offer('1.1.0');
    made.nowMs += 31 * DAY_MS;
    await made.refuses('CHANNEL_EXPIRED', /clock/);
    assert.equal(await made.applied(), 'CHANNEL_EXPIRED');
    assert.equal(await made.inUse(), '1.0.0');
    await renewPackageChannels(made.publisher, NAME, made.options);
    assert.equal(await made.applied(), 'updated');
    made.nowMs += 180 * DAY_MS;
    await made.refuses('CHANNEL_EXPIRED', /clock/);
    assert.equal((await rollBack(made.customer, NAME)).to, '1.0.0');
    await renewPackageChannels(made.publisher, NAME, { ...made.options, isEverything: true });
    assert.equal((await made.check()).failure, undefined);
    made.nowMs += 366 * DAY_MS;
    await rotateKeys(made.publisher, NAME, {}, made.options);
    assert.equal((await made.check()).failure, undefined);
  });
});

describe('attacks on updates', () => {
  test('a mirror that serves an old artifact is passed over, and named when nobody has a newer one', async (context) => {
    const made = await world(context);
    const old = made.registry.copy('the old mirror');
    await made.offer('1.1.0');
    await made.check();
    made.mirrors = [old];
    assert.equal((await made.check()).offer?.kind, 'update');
    for (const digest of [...made.registry.tagged.keys()]) {
      if (digest === CHANNELS_TAG) made.registry.tagged.set(CHANNELS_TAG, tagOf(old));
    }
    await made.refuses('CHANNEL_ROLLBACK', /mirror/);
    const { failure } = await made.check();
    assert.match(failure?.message ?? '', /before that: .*older than those seen before/);
    assert.equal(await made.applied(), 'CHANNEL_ROLLBACK');
  });

  test('an altered layer, and one that never ends', async (context) => {
    const made = await world(context);
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
    Object.assign(made, { registry: spoiled });
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
    Object.assign(made, { registry: endless });
    await made.refuses('CHANNEL_INVALID', /mirror/);
    assert.ok(sentBytes < 100_000, `${sentBytes} bytes were taken`);
    made.mirrors = [endless, spoiled];
    Object.assign(made, { registry });
    assert.equal((await made.check()).failure, undefined);
  });

  test('a version that was pushed again with other content after it was promoted', async (context) => {
    const made = await world(context);
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
    const { signPackages } = await import('./sign-package.ts');
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
    const made = await world(context);
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
    const made = new World(publisher, customer, await temporaryFolder(context));
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
    const made = await world(context);
    const honest = made.registry.copy('before');
    for (let step = 0; step < 5; step++) await renewPackageChannels(made.publisher, NAME, made.options);
    const thiefs = tagOf(made.registry);
    await made.check();
    // The publisher's home has seen none of it.
    const { channelStore, refreshChannels } = await import('./channel-refresh.ts');
    const fresh = {
      ...made.options,
      access: { ...made.options.access, withSources: async (_f, _n, work) => work([honest]) } as NonNullable<
        ChannelOptions['access']
      >,
    };
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
    const made = await world(context);
    const old = tagOf(made.registry);
    await made.offer('1.1.0');
    made.registry.tagged.set(CHANNELS_TAG, old);
    await assert.rejects(
      adviseVersions(made.publisher, NAME, { kind: 'withdraw', id: 'ACME-1' }, made.options),
      codeOf('CHANNEL_ROLLBACK'),
    );
  });

  test('two publishers at once: the second is told', async (context) => {
    const made = await world(context);
    const { registry } = made;
    let isFirst = true;
    const racing: MemoryPlace = {
      ...registry,
      async putBlob(...args) {
        if (isFirst) {
          isFirst = false;
          const access = {
            ...made.options.access,
            withRepository: (_f, _n, work) => work(registry),
          } as NonNullable<ChannelOptions['access']>;
          await renewPackageChannels(made.publisher, NAME, { ...made.options, access });
        }
        return registry.putBlob(...args);
      },
    };
    const access = { ...made.options.access, withRepository: (_f, _n, work) => work(racing) } as NonNullable<
      ChannelOptions['access']
    >;
    await assert.rejects(
      renewPackageChannels(made.publisher, NAME, {
        ...made.options,
        nowMs: 1,
        clock: { nowMs: () => made.nowMs + 5000 },
        access,
      } as ChannelOptions),
      codeOf('BUSY', /channel list/),
    );
    assert.equal((await made.check()).failure, undefined);
  });

  test('what is held does not come into use by being signed or fetched again', async (context) => {
    const made = await world(context);
    await made.offer('1.1.0');
    await made.apply();
    await rollBack(made.customer, NAME);
    await createKey(made.customer, 'ours');
    const { signPackages } = await import('./sign-package.ts');
    await signPackages(made.customer, `${NAME}@1.1.0`, 'ours', signal);
    assert.equal(await made.inUse(), '1.0.0');
    await activateVersion(made.customer, NAME, '1.1.0');
    await signPackages(made.customer, `${NAME}@1.1.0`, 'ours', signal);
    assert.equal((await rollBack(made.customer, NAME)).to, '1.0.0');
  });
});

const tagOf = (place: MemoryPlace) => {
  const digest = place.tagged.get(CHANNELS_TAG);
  assert.ok(digest !== undefined);
  return digest;
};
