import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  allKeys,
  channelKeys,
  DAY_MS,
  NOW_MS,
  PACKAGE,
  publisherKeys,
  TestPublisher,
} from '../../../tests/fixtures/channels.ts';
import type { ErrorCode } from '../../core/base/error-table.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { generatePrivateKey } from '../../core/crypto/keys.ts';
import { CHANNEL_DOCUMENT_BYTES_MAX } from '../../core/format/channel-documents.ts';
import { documentsOf } from './channel-editing.ts';
import { type ChannelFiles, filesSource } from './channel-files.ts';
import { publishDocuments, renewChannels, rotateRoot } from './channel-publishing.ts';
import { ChannelSession } from './channel-session.ts';
import { earliestExpiry } from './channel-signing.ts';

const rootOf = (files: ChannelFiles, version = 1): ChannelFiles => {
  const title = `${version}.root.json`;
  return new Map([[title, files.get(title) ?? Buffer.alloc(0)]]);
};

/** A customer who keeps what was verified, also after a refusal. */
class Customer {
  trusted: ChannelFiles;
  nowMs = NOW_MS;

  constructor(trusted: ChannelFiles) {
    this.trusted = trusted;
  }

  async refresh(files: ChannelFiles, name = PACKAGE) {
    const session = new ChannelSession({ name, trusted: this.trusted, nowMs: this.nowMs });
    try {
      await session.refresh(filesSource(files, 'the mirror'));
    } finally {
      this.trusted = session.trusted;
    }
    return session;
  }

  async refuses(files: ChannelFiles, code: ErrorCode, message: RegExp, hint: RegExp): Promise<void> {
    await assert.rejects(this.refresh(files), (error: unknown) => {
      assert.ok(error instanceof FreeholdError);
      assert.equal(error.code, code, error.message);
      assert.equal(error.exitCode, 4);
      assert.match(error.message, message);
      assert.match(error.hint, hint);
      return true;
    });
  }
}

const without = (files: ChannelFiles, title: string): ChannelFiles =>
  new Map([...files].filter(([name]) => name !== title));
const withFile = (files: ChannelFiles, title: string, bytes: Buffer): ChannelFiles =>
  new Map([...files, [title, bytes]]);
const titleLike = (files: ChannelFiles, pattern: RegExp): string => {
  const found = [...files.keys()].find((title) => pattern.test(title));
  assert.ok(found !== undefined, `no ${pattern}`);
  return found;
};
const MIRROR = /mirror/;

describe('channels that are as they should be', () => {
  test('a customer follows from the first root to what is offered, and again from what was kept', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    const first = await customer.refresh(publisher.files);
    assert.equal(first.contents.channels.get('stable')?.releases[0]?.version, '1.0.0');
    assert.equal(earliestExpiry(customer.trusted), '2026-12-22T12:00:00Z');
    await customer.refresh(publisher.files);
    publisher.promote('1.1.0');
    const later = await customer.refresh(publisher.files);
    assert.equal(later.contents.channels.get('stable')?.releases[0]?.version, '1.1.0');
    assert.deepEqual([...customer.trusted.keys()].sort(), [...publisher.files.keys()].sort());
  });

  test('roots are followed one by one, and the keys of each role may change', async () => {
    const publisher = new TestPublisher(publisherKeys(2));
    const customer = new Customer(rootOf(publisher.files));
    publisher.promote('1.0.0');
    for (let step = 0; step < 3; step++) {
      const next = publisherKeys(2);
      publisher.files = rotateRoot(publisher.files, documentsOf(PACKAGE, publisher.contents), {
        ...publisher.options({ keys: [...allKeys(publisher.keys), ...allKeys(next)] }),
        roles: channelKeys(next),
      });
      Object.assign(publisher, { keys: next });
    }
    const { contents } = await customer.refresh(publisher.files);
    assert.equal(contents.channels.get('stable')?.releases[0]?.version, '1.0.0');
    assert.ok(customer.trusted.has('4.root.json'));
    publisher.promote('1.1.0');
    await customer.refresh(publisher.files);
  });

  test('a renewal lasts longer and says the same', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    await customer.refresh(publisher.files);
    customer.nowMs = NOW_MS + 31 * DAY_MS;
    await customer.refuses(publisher.files, 'CHANNEL_EXPIRED', /ended on 2026-12-22/, /clock/);
    const renewed = renewChannels(publisher.files, publisher.options({ nowMs: NOW_MS + 25 * DAY_MS }));
    const { contents } = await customer.refresh(renewed);
    assert.equal(contents.channels.get('stable')?.releases[0]?.version, '1.0.0');
  });
});

describe('attacks on channels', () => {
  test('rollback: an older timestamp than the one seen before', async () => {
    const publisher = new TestPublisher();
    const old = publisher.promote('1.0.0');
    const now = publisher.promote('1.1.0');
    const customer = new Customer(rootOf(publisher.files));
    await customer.refresh(now);
    await customer.refuses(old, 'CHANNEL_ROLLBACK', /older than those seen before/, MIRROR);
    await customer.refresh(now);
  });

  test('rollback: a new timestamp over an older snapshot, and over older targets, with the online key stolen', async () => {
    const publisher = new TestPublisher();
    const before = publisher.promote('1.0.0');
    const now = publisher.promote('1.1.0');
    const customer = new Customer(rootOf(publisher.files));
    await customer.refresh(now);
    // The thief signs old targets into snapshots and timestamps of the newest numbers.
    const oldTargets = new Map(before);
    let forged: ChannelFiles = oldTargets;
    for (let step = 0; step < 3; step++) {
      forged = renewChannels(forged, publisher.options({ keys: publisher.keys.online }));
    }
    await customer.refuses(forged, 'CHANNEL_ROLLBACK', /targets\.json is less than current/, MIRROR);
    const oldSnapshot = renewChannels(before, {
      ...publisher.options({ keys: publisher.keys.online }),
      restartVersions: true,
    });
    await customer.refuses(oldSnapshot, 'CHANNEL_ROLLBACK', /older than those seen before/, MIRROR);
  });

  test('freeze: the same channels for longer than they last', async () => {
    const publisher = new TestPublisher();
    const frozen = publisher.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    await customer.refresh(frozen);
    customer.nowMs = NOW_MS + 29 * DAY_MS;
    await customer.refresh(frozen);
    customer.nowMs = NOW_MS + 30 * DAY_MS;
    await customer.refuses(frozen, 'CHANNEL_EXPIRED', /timestamp/, /hold|ask another mirror/);
    const newcomer = new Customer(rootOf(publisher.files));
    newcomer.nowMs = customer.nowMs;
    await newcomer.refuses(frozen, 'CHANNEL_EXPIRED', /timestamp/, /publisher/);
    // A clock before all of this judges by itself: nothing in between takes the machine's own.
    newcomer.nowMs = 0;
    await newcomer.refresh(frozen);
  });

  test('freeze: a root that ended blocks as well, and a newer one does not', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    customer.nowMs = NOW_MS + 366 * DAY_MS;
    await customer.refuses(publisher.files, 'CHANNEL_EXPIRED', /root/, /publisher/);
    const renewed = rotateRoot(
      publisher.files,
      documentsOf(PACKAGE, publisher.contents),
      publisher.options({ nowMs: customer.nowMs }),
    );
    await customer.refresh(renewed);
  });

  test('mix-and-match: parts of two states, each properly signed', async () => {
    const publisher = new TestPublisher();
    const old = publisher.promote('1.0.0');
    const now = publisher.promote('1.1.0');
    for (const role of ['snapshot', 'targets']) {
      const customer = new Customer(rootOf(publisher.files));
      const oldTitle = titleLike(old, new RegExp(`\\.${role}\\.json$`));
      const title = titleLike(now, new RegExp(`\\.${role}\\.json$`));
      const mixed = withFile(now, title, old.get(oldTitle) ?? Buffer.alloc(0));
      await customer.refuses(mixed, 'CHANNEL_INVALID', new RegExp(role), /mirror/);
      await customer.refresh(now);
    }
  });

  test('wrong and insufficient signatures', async () => {
    const publisher = new TestPublisher(publisherKeys(2));
    publisher.promote('1.0.0');
    const stranger = new TestPublisher(publisherKeys(2));
    stranger.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    await customer.refuses(stranger.files, 'CHANNEL_INVALID', /signed by 0\/1 keys/, /mirror/);
    // Of two root keys one was stolen.
    const [stolen] = publisher.keys.root;
    assert.ok(stolen !== undefined);
    const forgedKeys = publisherKeys(1);
    const forged = rotateRoot(publisher.files, [], {
      ...publisher.options({ keys: [...allKeys(publisher.keys), ...allKeys(forgedKeys)] }),
      roles: channelKeys(forgedKeys),
    });
    const root = JSON.parse(forged.get('2.root.json')?.toString() ?? '') as {
      signatures: { keyid: string }[];
    };
    const [, other] = publisher.keys.root;
    assert.ok(other !== undefined);
    const known = JSON.parse(publisher.files.get('1.root.json')?.toString() ?? '') as {
      signed: { keys: Record<string, { keyval: { public: string } }> };
    };
    root.signatures = root.signatures.filter(
      ({ keyid }) => known.signed.keys[keyid]?.keyval.public !== other.publicKey.pem,
    );
    const half = withFile(forged, '2.root.json', Buffer.from(JSON.stringify(root)));
    await customer.refuses(half, 'CHANNEL_INVALID', /signed by 1\/2 keys/, /publisher/);
    await customer.refresh(forged);
  });

  test('one key under two ids does not reach a threshold of two', async () => {
    const publisher = new TestPublisher();
    const root = JSON.parse(publisher.files.get('1.root.json')?.toString() ?? '') as {
      signed: { keys: Record<string, unknown> };
    };
    const [key] = Object.values(root.signed.keys);
    root.signed.keys['ab'.repeat(32)] = key;
    const customer = () =>
      new Customer(new Map([['1.root.json', Buffer.from(JSON.stringify(root))]])).refresh(publisher.files);
    await assert.rejects(customer, { code: 'CHANNEL_INVALID', message: /lists one key twice/ });
  });

  test('a root that does not follow from the one before it', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const stranger = new TestPublisher();
    const rotated = rotateRoot(stranger.files, [], stranger.options());
    const customer = new Customer(rootOf(publisher.files));
    const forged = withFile(publisher.files, '2.root.json', rotated.get('2.root.json') ?? Buffer.alloc(0));
    await customer.refuses(forged, 'CHANNEL_INVALID', /root.*signed by 0\/1/, /publisher/);
    const again = withFile(
      publisher.files,
      '2.root.json',
      publisher.files.get('1.root.json') ?? Buffer.alloc(0),
    );
    await customer.refuses(again, 'CHANNEL_INVALID', /version 2, got 1/, /publisher/);
  });

  test('fast-forward: versions driven up with a stolen key count no more once the key was exchanged', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    const honest = publisher.files;
    // The thief has targets and online keys, and takes the highest numbers that there are.
    let forged: ChannelFiles = honest;
    for (let step = 0; step < 50; step++) forged = renewChannels(forged, publisher.options());
    await customer.refresh(forged);
    await customer.refuses(honest, 'CHANNEL_ROLLBACK', /older/, MIRROR);
    const next = { ...publisher.keys, targets: [generatePrivateKey()], online: [generatePrivateKey()] };
    const recovered = rotateRoot(honest, documentsOf(PACKAGE, publisher.contents), {
      ...publisher.options({ keys: [...allKeys(publisher.keys), ...allKeys(next)], restartVersions: true }),
      roles: channelKeys(next),
    });
    const { contents } = await customer.refresh(recovered);
    assert.equal(contents.channels.get('stable')?.releases[0]?.version, '1.0.0');
    // The stolen key signs for nobody any more.
    const late = renewChannels(forged, publisher.options());
    await customer.refuses(
      withFile(late, '2.root.json', recovered.get('2.root.json') ?? Buffer.alloc(0)),
      'CHANNEL_INVALID',
      /signed by 0\/1/,
      /mirror/,
    );
  });

  test('fast-forward: also where the old key stays beside the new one', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const honest = publisher.files;
    const customer = new Customer(rootOf(honest));
    await customer.refresh(renewChannels(renewChannels(honest, publisher.options()), publisher.options()));
    const next = { ...publisher.keys, online: [...publisher.keys.online, generatePrivateKey()] };
    const recovered = rotateRoot(honest, documentsOf(PACKAGE, publisher.contents), {
      ...publisher.options({ keys: allKeys(next), restartVersions: true }),
      roles: channelKeys(next),
    });
    await customer.refresh(recovered);
  });

  test('a root stays rotated when what follows is refused', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    await customer.refresh(publisher.files);
    const rotated = rotateRoot(publisher.files, [], publisher.options());
    await customer.refuses(
      without(rotated, 'timestamp.json'),
      'CHANNEL_INVALID',
      /no "timestamp.json"/,
      /copy/,
    );
    assert.ok(customer.trusted.has('2.root.json'));
  });

  test('endless data: sizes are bounded before anything is believed', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const customer = new Customer(rootOf(publisher.files));
    const long = Buffer.alloc(CHANNEL_DOCUMENT_BYTES_MAX * 4, ' ');
    for (const title of ['2.root.json', 'timestamp.json', titleLike(publisher.files, /snapshot/)]) {
      await customer.refuses(
        withFile(publisher.files, title, long),
        'CHANNEL_INVALID',
        /bytes, at most|hash|length/i,
        /mirror/,
      );
    }
    const roots = new Map(publisher.files);
    for (let version = 2; version < 2000; version++) {
      roots.set(`${version}.root.json`, publisher.files.get('1.root.json') ?? Buffer.alloc(0));
    }
    await customer.refuses(roots, 'CHANNEL_INVALID', /version 2, got 1/, /publisher/);
  });

  test('an altered layer: one byte of any file', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    for (const [title, bytes] of publisher.files) {
      if (title === '1.root.json') continue;
      const altered = Buffer.from(bytes);
      const at = altered.indexOf('1');
      altered[at] = '2'.charCodeAt(0);
      const customer = new Customer(rootOf(publisher.files));
      await customer.refuses(
        withFile(publisher.files, title, altered),
        'CHANNEL_INVALID',
        /./,
        /mirror|copied/,
      );
      await customer.refuses(
        without(publisher.files, title),
        'CHANNEL_INVALID',
        /has no/,
        /copy the whole artifact/,
      );
    }
  });

  test('the channels of another package of the same publisher', async () => {
    const publisher = new TestPublisher();
    publisher.promote('1.0.0');
    const other = new TestPublisher(publisher.keys, 'acme/other');
    for (let step = 0; step < 5; step++) other.promote('2.0.0');
    const customer = new Customer(rootOf(publisher.files));
    await customer.refuses(other.files, 'CHANNEL_INVALID', /is about "acme\/other"/, /another package/);
    // And not by their documents alone either.
    const [document] = documentsOf('acme/other', other.contents);
    assert.ok(document !== undefined);
    const mixed = publishDocuments(publisher.files, [document], publisher.options());
    await customer.refuses(mixed, 'CHANNEL_INVALID', /is about "acme\/other"/, /another package/);
  });
});
