import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import * as documents from '../src/core/format/channel-documents.ts';
import { CHANNELS_ARTIFACT_TYPE, CHANNELS_TAG } from '../src/features/updates/channel-artifact.ts';
import { METADATA_BYTES_MAX, ROOT_ROTATIONS_MAX } from '../src/features/updates/channel-files.ts';
import { VALID_DAYS_DEFAULT } from '../src/features/updates/channel-signing.ts';
import { rolloutBucket } from '../src/features/updates/rollout.ts';

// What spec/CHANNELS.md and docs/updates.md say in numbers and examples is what the code does.

const ROOT = path.dirname(import.meta.dirname);
const page = readFileSync(path.join(ROOT, 'spec', 'CHANNELS.md'), 'utf8');
const guide = readFileSync(path.join(ROOT, 'docs', 'updates.md'), 'utf8');

/** The JSON block below `<!-- example: NAME -->`. */
function example(name: string): string {
  const block = new RegExp(`<!-- example: ${name} -->\n\`\`\`json\n([\\s\\S]*?)\`\`\``).exec(page)?.[1];
  assert.ok(block !== undefined, `no example ${name}`);
  return block;
}

test('the examples are documents that are read', () => {
  for (const [name, target] of [
    ['channel', 'channels/stable.json'],
    ['advisory', 'advisories/ACME-2026-001.json'],
    ['yanked', 'yanked.json'],
  ] as const) {
    const document = documents.parseChannelDocument(Buffer.from(example(name)), target, 'acme/triage');
    assert.equal(document.kind, name);
  }
  const { id, name, version, bucket } = JSON.parse(example('bucket')) as Record<string, string>;
  assert.equal(rolloutBucket(id ?? '', name ?? '', version ?? ''), bucket);
});

test('the limits and names are those of the code', () => {
  const row = (label: string, value: string) => assert.ok(page.includes(`| ${label} | ${value} |`), label);
  row('`artifactType`', `\`${CHANNELS_ARTIFACT_TYPE}\``);
  assert.ok(page.includes(`\`${CHANNELS_TAG}\``));
  row('`root`', `${METADATA_BYTES_MAX.root.toLocaleString('en')} bytes`);
  row('`targets`', `${METADATA_BYTES_MAX.targets / 1024} KiB`);
  row('`snapshot`, `timestamp`', `${METADATA_BYTES_MAX.snapshot / 1024} KiB each`);
  row('a document', `${documents.CHANNEL_DOCUMENT_BYTES_MAX / 1024} KiB`);
  row('roots followed at once', String(ROOT_ROTATIONS_MAX));
  row('channels; advisories', `${documents.CHANNELS_MAX}; ${documents.ADVISORIES_MAX}`);
  assert.ok(page.includes(`At most ${documents.RELEASES_MAX} releases.`));
  assert.ok(guide.includes(`| root | ${VALID_DAYS_DEFAULT.root} days |`));
  assert.ok(guide.includes(`| targets | ${VALID_DAYS_DEFAULT.targets} days |`));
  assert.ok(guide.includes(`| timestamp, snapshot | ${VALID_DAYS_DEFAULT.timestamp} days |`));
});
