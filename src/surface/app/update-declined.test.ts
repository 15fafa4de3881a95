import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { codeOf, UPDATED_NAME as NAME, updateWorld } from '../../../tests/fixtures/update-world.ts';
import { DeclinedVersions } from '../../io/home/declined-versions.ts';
import { yankVersion } from './channel-publish.ts';
import { listInstalled } from './package-list.ts';
import { removeInstalled } from './store-upkeep.ts';
import { type ApplyOptions, applyUpdates } from './update-apply.ts';
import { rollBack } from './update-rollback.ts';
import { activateVersion } from './version-activation.ts';

const refusing: ApplyOptions['acceptance'] = async () => async () => ({
  ...{ accepted: false, reason: '0 of 4 cases right', detail: {} },
});

describe('what was declined here', () => {
  test('stays so when it is removed, until it is named or a newer one comes', async (context) => {
    const made = await updateWorld(context);
    await made.offer('1.1.0');
    await made.apply();
    await rollBack(made.customer, NAME);
    await removeInstalled(made.customer, `${NAME}@1.1.0`, false);
    assert.equal(await made.applied(), 'declined');
    assert.equal(await made.applied([`${NAME}@1.1.0`]), 'updated');
    await made.offer('1.2.0');
    assert.equal(await made.applied([], { acceptance: refusing }), 'refused');
    await removeInstalled(made.customer, `${NAME}@1.2.0`, false);
    assert.equal(await made.applied(), 'declined');
    await made.offer('1.3.0');
    assert.equal(await made.applied(), 'updated');
    const file = path.join(made.customer.home.path, 'declined.json');
    await writeFile(file, 'x', { mode: 0o600 });
    await made.refuses('CONFIG_INVALID', /remove the file/);
  });

  test('is remembered up to a number, the newest first', async (context) => {
    const made = await updateWorld(context);
    const declined = new DeclinedVersions(made.folder, (work) => work());
    for (let minor = 0; minor < 40; minor++) {
      await declined.add(NAME, { version: `1.${minor}.0`, reason: 'refused' });
    }
    const known = await declined.of(NAME);
    assert.deepEqual([known.length, known[0]?.version, known.at(-1)?.version], [16, '1.39.0', '1.24.0']);
    await declined.forgetUpTo(NAME, '1.38.0');
    assert.deepEqual(await declined.of(NAME), [{ version: '1.39.0', reason: 'refused' }]);
  });
});

describe('the way back', () => {
  test('to a withdrawn version is taken by its name only, and says so', async (context) => {
    const made = await updateWorld(context);
    await made.offer('1.1.0');
    await made.apply();
    const yank = { kind: 'yank', reason: 'repeats secrets' } as const;
    await yankVersion(made.publisher, `${NAME}@1.0.0`, yank, made.options);
    await made.check();
    for (const text of [NAME, undefined]) {
      await assert.rejects(
        rollBack(made.customer, text),
        codeOf('CHANNEL_ROLLBACK', /1\.1\.0 goes on; freehold update rollback acme\/tiny@1\.0\.0/),
      );
    }
    assert.equal(await made.inUse(), '1.1.0');
    assert.equal(await made.applied(), 'current');
    const back = await rollBack(made.customer, `${NAME}@1.0.0`);
    assert.deepEqual(back, { name: NAME, from: '1.1.0', to: '1.0.0', yankedBecause: 'repeats secrets' });
    assert.equal(await made.inUse(), '1.0.0');
  });

  test('goes to any version in the store by its name', async (context) => {
    const made = await updateWorld(context);
    for (const version of ['1.1.0', '1.2.0']) {
      await made.offer(version);
      await made.apply();
    }
    assert.equal((await rollBack(made.customer, `${NAME}@1.0.0`)).to, '1.0.0');
    assert.equal(await made.inUse(), '1.0.0');
    assert.equal((await rollBack(made.customer, `${NAME}@1.1.0`)).to, '1.1.0');
    assert.deepEqual(
      (await listInstalled(made.customer)).map(({ held }) => held),
      ['rolled-back', undefined, 'rolled-back'],
    );
    await assert.rejects(rollBack(made.customer, `${NAME}@1.1.0`), codeOf('MODEL_NOT_FOUND'));
  });
});

test('of two updates at once the second finds nothing to do', async (context) => {
  const made = await updateWorld(context);
  await made.offer('1.1.0');
  const acceptance: ApplyOptions['acceptance'] = async () => async () => {
    // The first comes to its end while the second tries its candidate.
    await activateVersion(made.customer, NAME, '1.1.0');
    return { accepted: true, reason: '4 of 4 cases right', detail: {} };
  };
  assert.equal(await made.applied([], { acceptance }), 'current');
});

test('a first install that is refused does not speak of a version in use', async (context) => {
  const made = await updateWorld(context);
  const packages = await listInstalled(made.customer);
  await removeInstalled(made.customer, NAME, false);
  const [outcome] = await applyUpdates(made.customer, [], { ...made.options, acceptance: refusing });
  assert.ok(outcome?.kind === 'refused' && !('current' in outcome));
  await removeInstalled(made.customer, NAME, false);
  const other = packages[0];
  assert.ok(other !== undefined);
  const wrong = { ...other, contentDigest: 'sha256:0', entry: { annotations: {} } };
  const install = async () => wrong as never;
  const [failed] = await applyUpdates(made.customer, [`${NAME}@1.0.0`], { ...made.options, install });
  assert.ok(failed?.kind === 'failed');
  assert.match(failed.failure.hint, /^nothing was put into use; /);
});
