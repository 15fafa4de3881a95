import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { publisherKeys, release, TestPublisher } from '../../../tests/fixtures/channels.ts';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { installTinyPackage } from '../../../tests/fixtures/tiny-package.ts';
import { promote } from '../../features/updates/channel-editing.ts';
import { restoreArchive } from './archive-restore.ts';
import { saveArchive } from './archive-save.ts';
import { channelStore } from './channel-refresh.ts';
import { openFreehold } from './freehold.ts';
import { addTrust } from './keys-and-trust.ts';

const NAME = 'acme/tiny';
const { signal } = new AbortController();

test('channels travel, are verified by their own root, and an older archive does not bring older ones back', async (context) => {
  const folder = await temporaryFolder(context);
  const home = (name: string) => openFreehold({ env: {}, home: path.join(folder, name) });
  const [publisher, customer] = [await home('publisher'), await home('customer')];
  await installTinyPackage(publisher, path.join(folder, 'project'));
  const keys = publisherKeys();
  const source = new TestPublisher(keys, NAME, Date.now());
  const [older, newer] = [path.join(folder, 'older.tar'), path.join(folder, 'newer.tar')];
  for (const [version, file] of [
    ['1.0.0', older],
    ['1.1.0', newer],
  ] as const) {
    const contents = promote(source.contents, { name: NAME, channel: 'stable' }, release(version));
    const files = source.publish(contents, { nowMs: Date.now() });
    await channelStore(publisher).save(NAME, files, () => true);
    await saveArchive(publisher, file, [], { signal, isWithoutProgram: true });
  }
  const restore = (file: string) => restoreArchive(customer, file, { signal, approved: { kind: 'all' } });

  const { remarks } = await restore(newer);
  assert.match(remarks.join(), /^channels of acme\/tiny: .*\[SIGNER_UNTRUSTED\]$/);
  assert.equal(await channelStore(customer).load(NAME), undefined);

  const { publicKey } = keys.root[0] ?? assert.fail();
  await addTrust(customer, 'acme/*', publicKey.pem);
  assert.deepEqual((await restore(newer)).remarks, []);
  const known = await channelStore(customer).load(NAME);
  assert.deepEqual(known, await channelStore(publisher).load(NAME));

  assert.match((await restore(older)).remarks.join(), /\[CHANNEL_ROLLBACK\]$/);
  assert.deepEqual(await channelStore(customer).load(NAME), known);
});
