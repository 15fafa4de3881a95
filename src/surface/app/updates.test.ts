import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { codeOf, UPDATED_NAME as NAME, updateWorld } from '../../../tests/fixtures/update-world.ts';
import { MEDIA_TYPE } from '../../core/format/oci.ts';
import {
  adviseVersions,
  type Notice,
  promoteRelease,
  renewPackageChannels,
  rotateKeys,
  yankVersion,
} from './channel-publish.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, installedPackages, resolveInstalled } from './installed-packages.ts';
import { listInstalled } from './package-list.ts';
import { type ApplyOptions, applyUpdates } from './update-apply.ts';
import { checkUpdates } from './update-check.ts';
import { rollBack } from './update-rollback.ts';

const DAY_MS = 86_400_000;

describe('updates', () => {
  test('from a channel, one version after the other, and back as far as there are any', async (context) => {
    const made = await updateWorld(context);
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
    await assert.rejects(rollBack(made.customer, NAME), codeOf('MODEL_NOT_FOUND', /@VERSION/));
    // What a store says of a version for itself is no part of the version.
    assert.deepEqual(await indexesOf(made.customer), await indexesOf(made.publisher));
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
    const made = await updateWorld(context);
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
    const made = await updateWorld(context);
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
    const made = await updateWorld(context);
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
    const made = await updateWorld(context);
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
    const made = await updateWorld(context);
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
    const made = await updateWorld(context);
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
    const made = await updateWorld(context);
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

/** The image indexes of the versions in a store. */
const indexesOf = async ({ store }: Freehold) =>
  (await store.entries())
    .filter(({ mediaType }) => mediaType === MEDIA_TYPE.index)
    .map(({ digest }) => digest)
    .sort();
