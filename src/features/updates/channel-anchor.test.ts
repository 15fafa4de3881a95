import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { channelKeys, PACKAGE, publisherKeys, TestPublisher } from '../../../tests/fixtures/channels.ts';
import { Digest } from '../../core/base/digest.ts';
import type { PublicKey } from '../../core/crypto/keys.ts';
import { parseTrustPattern } from '../../core/crypto/trust-policy.ts';
import { findAnchor, rootFacts } from './channel-anchor.ts';
import { type ChannelFiles, filesSource } from './channel-files.ts';
import { rotateRoot } from './channel-publishing.ts';

const policyOf = (keys: readonly PublicKey[], pattern = 'acme/*') => ({
  kind: 'policy' as const,
  policy: { rules: [{ pattern: parseTrustPattern(pattern), keys }] },
});
const anchorOf = async (files: ChannelFiles, anchor: Parameters<typeof findAnchor>[2], name = PACKAGE) => [
  ...(await findAnchor(filesSource(files, 'the mirror'), name, anchor)).keys(),
];
const publicKeys = ({ keys: { root } }: TestPublisher) => root.map(({ publicKey }) => publicKey);

/** The same channels, with a second root that has other keys. */
function rotated(publisher: TestPublisher) {
  const next = publisherKeys(2);
  const files = rotateRoot(publisher.files, [], {
    ...publisher.options({ keys: [...publisher.keys.root, ...next.root, ...next.targets, ...next.online] }),
    roles: channelKeys(next),
  });
  return { files, keys: next.root.map(({ publicKey }) => publicKey) };
}

describe('the first root', () => {
  test('is the newest that enough trusted keys have signed', async () => {
    const publisher = new TestPublisher(publisherKeys(2));
    const { files, keys } = rotated(publisher);
    assert.deepEqual(await anchorOf(files, policyOf(keys)), ['2.root.json']);
    assert.deepEqual(await anchorOf(files, policyOf(publicKeys(publisher))), ['1.root.json']);
    assert.deepEqual(await anchorOf(files, policyOf([...keys, ...publicKeys(publisher)])), ['2.root.json']);
    const half = policyOf([...keys.slice(1), ...publicKeys(publisher).slice(1)]);
    await assert.rejects(anchorOf(files, half), {
      code: 'SIGNER_UNTRUSTED',
      hint: /trust add acme\/triage KEYFILE/,
    });
    const elsewhere = policyOf(keys, 'other/*');
    await assert.rejects(anchorOf(files, elsewhere), { code: 'SIGNER_UNTRUSTED' });
  });

  test('is not one that only names a trusted key, and was signed by a stranger', async () => {
    const publisher = new TestPublisher();
    const stranger = publisherKeys();
    const [trusted] = publicKeys(publisher);
    assert.ok(trusted !== undefined);
    // The stranger lists the publisher's key beside an own one, and needs only one signature.
    const roles = channelKeys(stranger);
    const root = { keys: [...roles.root.keys, trusted], threshold: 1 };
    const forger = new TestPublisher(stranger);
    const files = rotateRoot(forger.files, [], { ...forger.options(), roles: { root } });
    await assert.rejects(anchorOf(files, policyOf([trusted])), { code: 'SIGNER_UNTRUSTED' });
    const honest = rotateRoot(forger.files, [], {
      ...forger.options({
        keys: [...publisher.keys.root, ...stranger.root, ...stranger.targets, ...stranger.online],
      }),
      roles: { root },
    });
    assert.deepEqual(await anchorOf(honest, policyOf([trusted])), ['2.root.json']);
  });

  test('may be named by its digest instead, whoever signed it', async () => {
    const publisher = new TestPublisher();
    const { files } = rotated(publisher);
    const bytes = files.get('1.root.json') ?? Buffer.alloc(0);
    const { digest, threshold, version } = rootFacts(bytes, PACKAGE);
    assert.deepEqual([digest, threshold, version], [Digest.of(bytes), 1, 1]);
    assert.deepEqual(await anchorOf(files, { kind: 'digest', digest }), ['1.root.json']);
    const other = { kind: 'digest', digest: Digest.of('other') } as const;
    await assert.rejects(anchorOf(files, other), { code: 'SIGNER_UNTRUSTED', hint: /channel show/ });
    await assert.rejects(anchorOf(new Map(), other), { code: 'SIGNER_UNTRUSTED' });
    await assert.rejects(anchorOf(new Map(), policyOf([])), { code: 'NOT_FOUND' });
  });

  test('of another package, or under a number that is not its own, is refused', async () => {
    const publisher = new TestPublisher();
    const keys = policyOf(publicKeys(publisher));
    await assert.rejects(anchorOf(publisher.files, keys, 'acme/other'), { code: 'CHANNEL_INVALID' });
    const renamed = new Map([['7.root.json', publisher.files.get('1.root.json') ?? Buffer.alloc(0)]]);
    await assert.rejects(anchorOf(renamed, keys), { code: 'SIGNER_UNTRUSTED' });
  });
});
