import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { Freehold } from '../../src/surface/app/freehold.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { installFromSources } from '../../src/surface/app/install-registry.ts';
import { addTrust, publicKeyOf } from '../../src/surface/app/keys-and-trust.ts';
import { pushPackage } from '../../src/surface/app/push-package.ts';
import { withRepository } from '../../src/surface/app/registry-places.ts';
import { collectGarbage } from '../../src/surface/app/store-upkeep.ts';
import { verifyReference } from '../../src/surface/app/verify-package.ts';
import { type DistributionGround, makeDistributionGround } from '../fixtures/distribution-ground.ts';
import { freehold } from '../fixtures/freehold-home.ts';
import { memoryPlace } from '../fixtures/memory-place.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { mountSmallDisk, smallDiskMissing } from '../fixtures/small-disk.ts';
import { startTestRegistry } from '../fixtures/test-registry.ts';
import { TINY_KEY } from '../fixtures/tiny-package.ts';

const signal = new AbortController().signal;
const REPOSITORY = 'acme/tiny';
const REFERENCE = { host: 'registry.example', repository: REPOSITORY, selector: { kind: 'newest' } } as const;

async function pushedPlace(ground: DistributionGround) {
  const place = memoryPlace('registry');
  await pushPackage(ground.publisher, REPOSITORY, place, REPOSITORY, { signal });
  return place;
}

async function customerAt(ground: DistributionGround, home: string): Promise<Freehold> {
  const customer = await openFreehold({ env: {}, home });
  await addTrust(customer, 'acme/*', (await publicKeyOf(ground.publisher, TINY_KEY)).publicKeyPem);
  return customer;
}

describe('pulling where something is wrong', () => {
  test('a full disk: said before the first byte, with both numbers, and a larger one goes on', {
    skip: skipUnlessCi(smallDiskMissing()),
  }, async (context) => {
    const ground = await makeDistributionGround(context);
    const place = await pushedPlace(ground);
    const disk = await mountSmallDisk(context, 'size=512k');
    const customer = await customerAt(ground, path.join(disk.folder, 'home'));
    const before = place.readBytes();
    await assert.rejects(installFromSources(customer, [place], REFERENCE, { signal }), {
      code: 'DISK_FULL',
      message: /bytes are still to come, and \d+ are free/,
    });
    assert.ok(place.readBytes() - before < 20_000, 'only documents were read');
    assert.deepEqual(await customer.store.entries(), []);
    disk.remount('size=16m');
    await installFromSources(customer, [place], REFERENCE, { signal });
    await verifyReference(customer, REPOSITORY, signal);
  });

  test('a disk that fills up on the way: what arrived is kept, nothing is installed', {
    skip: skipUnlessCi(smallDiskMissing()),
  }, async (context) => {
    const ground = await makeDistributionGround(context);
    const place = await pushedPlace(ground);
    const disk = await mountSmallDisk(context, 'size=512k');
    const customer = await customerAt(ground, path.join(disk.folder, 'home'));
    // As on a disk that others fill meanwhile.
    const store = { ...customer.store, freeBytes: async () => undefined };
    await assert.rejects(installFromSources({ ...customer, store }, [place], REFERENCE, { signal }), {
      code: 'DISK_FULL',
    });
    assert.deepEqual(await customer.store.entries(), []);
    disk.remount('size=16m');
    await installFromSources(customer, [place], REFERENCE, { signal });
    await verifyReference(customer, REPOSITORY, signal);
  });

  test('a registry that lost a blob: found by check --remote, mended by push --repair', async (context) => {
    const ground = await makeDistributionGround(context);
    const registry = await startTestRegistry(context);
    const target = `oci://${registry.host}/${REPOSITORY}`;
    const run = (...args: string[]) => freehold(args, { home: ground.publisherHome });
    assert.equal((await run('push', REPOSITORY, target)).code, 0);
    assert.equal((await run('check', '--remote', target)).code, 0);
    const blobs = registry.repositories.get(REPOSITORY)?.blobs;
    const [lost] = [...(blobs ?? [])].toSorted(([, left], [, right]) => right.length - left.length)[0] ?? [];
    assert.ok(lost !== undefined);
    blobs?.delete(lost);
    const checked = await run('check', '--remote', target);
    assert.equal(checked.code, 4);
    assert.match(checked.stdout, new RegExp(`1\\.0\\.0.*gguf, ${lost} is missing`));
    const repaired = await run('push', '--repair', REPOSITORY, target);
    assert.equal(repaired.code, 0, repaired.stdout + repaired.stderr);
    assert.ok(blobs?.has(lost));
  });

  test('two machines push other content under one version at once: one is told, and what is there is whole', async (context) => {
    const registry = await startTestRegistry(context);
    const grounds = await Promise.all(
      ['one', 'two'].map((text) => makeDistributionGround(context, { files: { LICENSE: text } })),
    );
    const name = { host: registry.host, repository: REPOSITORY };
    const push = ({ publisher }: DistributionGround) =>
      withRepository(publisher, name, (place) =>
        pushPackage(publisher, REPOSITORY, place, REPOSITORY, { signal }),
      );
    const outcomes = await Promise.allSettled(grounds.map(push));
    const refused = outcomes.filter(({ status }) => status === 'rejected');
    assert.ok(refused.length <= 1, 'at least one got through');
    for (const outcome of refused) {
      assert.match(String((outcome as PromiseRejectedResult).reason), /other content|keep writing/);
    }
    const winners = await Promise.allSettled(
      grounds.map(async (ground) => {
        const { freehold: customer } = await ground.customer('customer');
        return withRepository(customer, name, (place) =>
          installFromSources(customer, [place], { ...REFERENCE, host: registry.host }, { signal }),
        );
      }),
    );
    assert.equal(winners.filter(({ status }) => status === 'fulfilled').length, 1);
  });

  test('Ctrl-C in the middle of a pull: nothing visible, and it goes on', async (context) => {
    await stoppedPull(context);
  });
});

async function stoppedPull(context: TestContext): Promise<void> {
  const ground = await makeDistributionGround(context);
  const place = await pushedPlace(ground);
  const { freehold: customer } = await ground.customer('customer');
  const controller = new AbortController();
  const reason = new Error('enough');
  const stopping = {
    ...place,
    label: 'stopping',
    async *blob(...[blob, range, abort]: Parameters<typeof place.blob>) {
      if (blob.sizeBytes < 100_000) return yield* place.blob(blob, range, abort);
      yield* place.blob(blob, { startBytes: range.startBytes, endBytes: 50_000 }, abort);
      controller.abort(reason);
      yield* place.blob(blob, { startBytes: 50_000 }, abort);
    },
  };
  await assert.rejects(
    installFromSources(customer, [stopping], REFERENCE, { signal: controller.signal }),
    (error) => error === reason,
  );
  assert.deepEqual(await customer.store.entries(), []);
  await installFromSources(customer, [place], REFERENCE, { signal });
  await verifyReference(customer, REPOSITORY, signal);
  const { freedBytes } = await collectGarbage(customer, true);
  assert.ok(freedBytes < 10_000, `${freedBytes} bytes of an unfinished download are left`);
}
