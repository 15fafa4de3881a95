import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  allKeys,
  channelKeys,
  PACKAGE,
  publisherKeys,
  TestPublisher,
} from '../../../tests/fixtures/channels.ts';
import { contentsOf, isAtLeastAsNew, rootsOf } from './channel-contents.ts';
import { documentsOf } from './channel-editing.ts';
import { renewChannels, rotateRoot } from './channel-publishing.ts';

test('of two states the one with the later root is newer, then the one with the later timestamp', () => {
  const publisher = new TestPublisher();
  const first = publisher.promote('1.0.0');
  const second = renewChannels(first, publisher.options());
  const next = publisherKeys();
  const recovered = rotateRoot(first, documentsOf(PACKAGE, publisher.contents), {
    ...publisher.options({ keys: [...allKeys(publisher.keys), ...allKeys(next)], restartVersions: true }),
    roles: channelKeys(next),
  });
  const rootOnly = new Map([...first].filter(([title]) => title === '1.root.json'));
  const order = [rootOnly, first, second, recovered];
  for (const [index, files] of order.entries()) {
    for (const [other, others] of order.entries()) {
      assert.equal(isAtLeastAsNew(files, others), index >= other, `${index} and ${other}`);
    }
  }
  assert.deepEqual(
    rootsOf(recovered).map(({ version }) => version),
    [1, 2],
  );
});

test('stored files say the same as when they were verified, and a part of them says less', () => {
  const publisher = new TestPublisher();
  const files = publisher.promote('1.0.0');
  assert.deepEqual(contentsOf(files, PACKAGE), publisher.contents);
  const rootOnly = new Map([...files].filter(([title]) => title === '1.root.json'));
  assert.equal(contentsOf(rootOnly, PACKAGE).channels.size, 0);
});
