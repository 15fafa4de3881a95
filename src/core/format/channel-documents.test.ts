import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import {
  type Advisory,
  type AnyChannelDocument,
  channelContents,
  channelDocumentPath,
  encodeChannelDocument,
  noticesFor,
  parseChannelDocument,
  SEVERITIES,
} from './channel-documents.ts';
import { digestSchema } from './oci.ts';

const NAME = 'acme/triage';
const CHANNEL: AnyChannelDocument = {
  schemaVersion: 1,
  kind: 'channel',
  name: NAME,
  channel: 'stable',
  releases: [
    {
      version: '1.4.0',
      rolloutPercent: 25,
      promoted: '2026-11-22T12:00:00Z',
      variants: [
        { variant: 'q8_0', contentDigest: digestSchema.parse(`sha256:${'a'.repeat(64)}`), sizeBytes: 1000 },
      ],
    },
  ],
};
const ADVISORY: Advisory = {
  schemaVersion: 1,
  kind: 'advisory',
  name: NAME,
  id: 'ACME-2026-001',
  severity: 'high',
  title: 'Sorts burns as minor',
  affected: '>=1.2 <1.4.1',
  fixedIn: '1.4.1',
  action: 'Update to 1.4.1.',
  published: '2026-11-22T12:00:00Z',
};
const YANKED: AnyChannelDocument = {
  schemaVersion: 1,
  kind: 'yanked',
  name: NAME,
  versions: [{ version: '1.3.0', reason: 'broken' }],
};

const refusal = (change: (document: Record<string, unknown>) => void, of: AnyChannelDocument = CHANNEL) => {
  const copy = structuredClone(of) as Record<string, unknown>;
  change(copy);
  try {
    parseChannelDocument(Buffer.from(JSON.stringify(copy)), channelDocumentPath(of), NAME);
    return 'accepted';
  } catch (error) {
    assert.ok(error instanceof FreeholdError);
    assert.equal(error.code, 'CHANNEL_INVALID');
    return error.message;
  }
};

describe('channel documents', () => {
  test('are read as they were written, under the path that follows from them', () => {
    for (const [document, path] of [
      [CHANNEL, 'channels/stable.json'],
      [ADVISORY, 'advisories/ACME-2026-001.json'],
      [YANKED, 'yanked.json'],
    ] as const) {
      assert.equal(channelDocumentPath(document), path);
      assert.deepEqual(parseChannelDocument(encodeChannelDocument(document), path, NAME), document);
    }
  });

  test('of another package, or in the place of another document, are refused', () => {
    assert.match(
      refusal((copy) => Object.assign(copy, { name: 'acme/other' })),
      /about "acme\/other", not acme\/triage/,
    );
    assert.match(
      refusal((copy) => Object.assign(copy, { channel: 'edge' })),
      /holds channels\/edge\.json/,
    );
    assert.match(
      refusal((copy) => Object.assign(copy, { id: 'ACME-2' }), ADVISORY),
      /holds advisories\/ACME-2/,
    );
  });

  test('with anything that is unknown, doubled or out of range are refused', () => {
    const ofRelease = (changes: object) => (copy: Record<string, unknown>) =>
      Object.assign((copy.releases as object[])[0] ?? {}, changes);
    assert.match(
      refusal((copy) => Object.assign(copy, { surprise: 1 })),
      /surprise/,
    );
    assert.match(
      refusal((copy) => Object.assign(copy, { channel: '../stable' })),
      /channel name/,
    );
    assert.match(
      refusal((copy) => (copy.releases as unknown[]).push((copy.releases as unknown[])[0])),
      /twice/,
    );
    for (const rolloutPercent of [-1, 101, 0.5])
      assert.match(refusal(ofRelease({ rolloutPercent })), /rolloutPercent/);
    assert.match(refusal(ofRelease({ version: '1.4' })), /version/);
    assert.match(refusal(ofRelease({ variants: [] })), /variants/);
    assert.match(refusal(ofRelease({ promoted: '2026-13-45T00:00:00Z' })), /time/);
    assert.match(
      refusal((copy) => Object.assign(copy, { affected: 'x'.repeat(300) }), ADVISORY),
      /affected/,
    );
    assert.match(
      refusal((copy) => Object.assign(copy, { affected: 'all' }), ADVISORY),
      /affected/,
    );
    assert.match(
      refusal((copy) => Object.assign(copy, { severity: 'dreadful' }), ADVISORY),
      /severity/,
    );
    assert.match(
      refusal((copy) => Object.assign(copy, { title: 'a\u001b[2J' }), ADVISORY),
      /title/,
    );
    const twice = Buffer.from('{"schemaVersion":1,"schemaVersion":1}');
    assert.throws(() => parseChannelDocument(twice, 'yanked.json', NAME), { code: 'CHANNEL_INVALID' });
  });

  test('notices are for the versions that they affect, the gravest first', () => {
    const advisories = SEVERITIES.toReversed().map(
      (severity): Advisory => ({
        ...ADVISORY,
        severity,
        id: `ACME-${severity.toUpperCase()}`,
      }),
    );
    const contents = channelContents([CHANNEL, ...advisories, YANKED]);
    const idsFor = (version: string) =>
      noticesFor(contents, version).advisories.map(({ severity }) => severity);
    for (const version of ['1.2.0', '1.3.9', '1.4.0', '1.4.1-rc.1'])
      assert.deepEqual(idsFor(version), SEVERITIES, version);
    for (const version of ['1.1.9', '1.4.1', '2.0.0']) assert.deepEqual(idsFor(version), [], version);
    assert.equal(noticesFor(contents, '1.3.0').yankedBecause, 'broken');
    assert.equal(noticesFor(contents, '1.4.0').yankedBecause, undefined);
    assert.deepEqual(noticesFor(contents, undefined), { advisories: [] });
  });
});
