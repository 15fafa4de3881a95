import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { release } from '../../../tests/fixtures/channels.ts';
import { compareVersions } from '../../core/base/ids.ts';
import { type ChannelContents, NO_CONTENTS, type Release } from '../../core/format/channel-documents.ts';
import { promote, yank } from './channel-editing.ts';
import { decideOffer, HELD_REASONS, type OfferQuestion } from './update-offer.ts';

const TARGET = { name: 'acme/triage', channel: 'stable' };

/** The versions were promoted in this order. */
function channel(...releases: readonly Release[]): ChannelContents {
  return releases.reduce<ChannelContents>((contents, each) => promote(contents, TARGET, each), NO_CONTENTS);
}

function offered(changes: Partial<OfferQuestion>): string {
  const offer = decideOffer({
    contents: channel(release('1.0.0'), release('1.1.0')),
    channel: 'stable',
    active: '1.0.0',
    known: [],
    bucket: () => 50,
    ...changes,
  });
  return 'release' in offer ? `${offer.kind} ${offer.release.version}` : offer.kind;
}

const staged = channel(release('1.0.0'), release('1.1.0', { rolloutPercent: 10 }));

describe('what a channel offers', () => {
  test('the newest release to whoever has an older one or none', () => {
    assert.equal(offered({}), 'update 1.1.0');
    assert.equal(offered({ active: undefined }), 'update 1.1.0');
    assert.equal(offered({ active: '1.1.0' }), 'current');
    assert.equal(offered({ contents: NO_CONTENTS }), 'nothing');
    assert.equal(offered({ channel: 'edge' }), 'nothing');
  });

  test('in a staged rollout the one behind it to everybody else', () => {
    assert.equal(offered({ contents: staged, bucket: () => 9 }), 'update 1.1.0');
    assert.equal(offered({ contents: staged, bucket: () => 10 }), 'waiting 1.1.0');
    assert.equal(offered({ contents: staged, active: undefined }), 'update 1.0.0');
    assert.equal(offered({ contents: staged, active: '0.9.0' }), 'update 1.0.0');
    assert.equal(offered({ contents: staged, active: '1.1.0' }), 'current');
    assert.equal(offered({ contents: staged, now: true }), 'update 1.1.0');
    const first = channel(release('1.0.0', { rolloutPercent: 10 }));
    assert.equal(offered({ contents: first, active: undefined }), 'waiting 1.0.0');
  });

  test('no older version, unless the one in use was yanked', () => {
    const back = channel(release('1.1.0'), release('1.0.0'));
    assert.equal(offered({ contents: back, active: '1.1.0' }), 'ahead 1.0.0');
    const yanked = yank(staged, '1.1.0', 'broken');
    assert.equal(offered({ contents: yanked, active: '1.1.0' }), 'retreat 1.0.0');
    assert.equal(offered({ contents: yanked }), 'current');
    assert.equal(offered({ contents: yank(yanked, '1.0.0', 'broken too') }), 'nothing');
  });

  test('nothing that was declined here', () => {
    for (const held of HELD_REASONS) {
      const expected = held === 'rolled-back' || held === 'refused' ? 'declined' : 'update';
      assert.equal(offered({ known: [{ version: '1.1.0', held }] }), `${expected} 1.1.0`);
    }
    assert.equal(offered({ known: [{ version: '1.0.5', held: 'refused' }] }), 'update 1.1.0');
  });

  test('whatever the channel says: no yanked version, and an older one only where that is said', () => {
    const version = fc.constantFrom<string>('1.0.0', '1.1.0', '1.2.0', '2.0.0');
    const releases = fc.uniqueArray(fc.tuple(version, fc.integer({ min: 0, max: 100 })), {
      selector: ([text]) => text,
    });
    const question = fc.tuple(
      releases,
      fc.uniqueArray(version),
      fc.option(version, { nil: undefined }),
      fc.nat(99),
    );
    fc.assert(
      fc.property(question, ([offers, yanks, active, bucket]) => {
        const all = offers.map(([text, rolloutPercent]) => release(text, { rolloutPercent }));
        const contents = yanks.reduce((each, text) => yank(each, text, 'why'), channel(...all));
        const offer = decideOffer({ contents, channel: 'stable', active, known: [], bucket: () => bucket });
        if (offer.kind !== 'update' && offer.kind !== 'retreat') return;
        assert.ok(!yanks.includes(offer.release.version));
        assert.ok(bucket < offer.release.rolloutPercent);
        const isOlder = active !== undefined && compareVersions(offer.release.version, active) < 0;
        assert.equal(offer.kind === 'retreat', isOlder);
        if (isOlder) assert.ok(yanks.includes(active));
      }),
    );
  });
});

describe('what stays in a channel', () => {
  const versions = (contents: ChannelContents) =>
    contents.channels.get('stable')?.releases.map((each) => `${each.version} ${each.rolloutPercent}`);

  test('a release for everybody ends what was behind it', () => {
    assert.deepEqual(versions(staged), ['1.1.0 10', '1.0.0 100']);
    assert.deepEqual(versions(promote(staged, TARGET, release('1.1.0', { rolloutPercent: 60 }))), [
      '1.1.0 60',
      '1.0.0 100',
    ]);
    assert.deepEqual(versions(promote(staged, TARGET, release('1.1.0'))), ['1.1.0 100']);
  });

  test('and so many staged ones that a document can be read again', () => {
    let contents = staged;
    for (let minor = 2; minor < 30; minor++) {
      contents = promote(contents, TARGET, release(`1.${minor}.0`, { rolloutPercent: 1 }));
    }
    assert.equal(versions(contents)?.length, 8);
    assert.equal(versions(contents)?.[0], '1.29.0 1');
    assert.equal(versions(contents)?.at(-1), '1.0.0 100');
  });
});
