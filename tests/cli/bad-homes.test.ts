import assert from 'node:assert/strict';
import { appendFile, chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { FreeholdError } from '../../src/core/base/errors.ts';
import { buildPackage } from '../../src/surface/app/build-package.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { checkStore } from '../../src/surface/app/store-upkeep.ts';
import {
  freehold,
  freeholdInProcess,
  outcomeOf,
  temporaryFolder,
  temporaryHome,
} from '../fixtures/freehold-home.ts';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { realModel } from '../fixtures/real-models.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { mountSmallDisk, smallDiskMissing } from '../fixtures/small-disk.ts';
import { installTinyPackage, writeTinyProject } from '../fixtures/tiny-package.ts';

const { signal } = new AbortController();
const needsDisk = { skip: skipUnlessCi(smallDiskMissing()) };
const needsDiskAndLibrary = { skip: skipUnlessCi(smallDiskMissing() ?? llamaLibraryMissing()) };
/** The package has 3 MiB of weights: from "not even a home" to "all but the last document". */
const SIZES_KIB = [16, 32, 64, 256, 1024, 2900, 3000, 3008, 3012, 3016, 3020, 3024, 3032, 3048, 3080, 3200];

describe('a home that cannot be used', () => {
  test('because it is a file, or below one', async (context) => {
    const folder = await temporaryFolder(context);
    const file = path.join(folder, 'home');
    await writeFile(file, 'mine');
    for (const home of [file, path.join(file, 'below')]) {
      const refused = await freehold(['list'], { home, cwd: folder });
      assert.equal(outcomeOf(refused), 'ALREADY_EXISTS', refused.stderr);
      assert.equal(refused.code, 2);
      assert.ok(refused.stderr.includes(file));
    }
    assert.equal(await readFile(file, 'utf8'), 'mine');
  });

  test('because others may write there', async (context) => {
    const home = await temporaryFolder(context);
    await chmod(home, 0o777);
    const refused = await freehold(['list'], { home });
    assert.equal(outcomeOf(refused), 'PERMISSION_DENIED');
    assert.match(refused.stderr, /chmod go-w/);
    assert.deepEqual(await readdir(home), []);
  });

  test('because its path holds an unexpanded "~", or is empty', async (context) => {
    const folder = await temporaryFolder(context);
    for (const home of ['~/.freehold', '']) {
      const refused = await freehold(['--home', home, 'list'], { home: folder });
      assert.equal(outcomeOf(refused), 'CONFIG_INVALID', refused.stderr);
      assert.equal(refused.code, 2);
    }
    assert.deepEqual(await readdir(folder), []);
  });

  test('because its trust.yaml or mirrors.yaml is broken: only what needs it is refused, naming file and line', async (context) => {
    const home = await temporaryHome(context);
    await appendFile(path.join(home, 'mirrors.yaml'), 'sorces: {}\n');
    const refused = await freehold(['catalog', 'list'], { home });
    assert.equal(outcomeOf(refused), 'CONFIG_INVALID');
    assert.match(refused.stderr, /mirrors\.yaml line \d+/);
    assert.match(refused.stderr, /did you mean .*sources/);
    assert.equal((await freehold(['list'], { home })).code, 0);
    await writeFile(path.join(home, 'trust.yaml'), 'rules: [\n', { mode: 0o600 });
    const untrusting = await freehold(['trust', 'list'], { home });
    assert.equal(outcomeOf(untrusting), 'CONFIG_INVALID');
    assert.match(untrusting.stderr, /trust\.yaml/);
  });
});

describe('a disk that is read-only', needsDiskAndLibrary, () => {
  test('lists, verifies, checks, inspects and runs what is there; writing is PERMISSION_DENIED', async (context) => {
    const disk = await mountSmallDisk(context, 'size=32m');
    const home = path.join(disk.folder, 'home');
    const folder = await temporaryFolder(context);
    await installTinyPackage(await openFreehold({ env: {}, home }), path.join(folder, 'tiny'));
    disk.remount('ro');
    for (const words of [
      ['list'],
      ['verify', 'tiny'],
      ['check'],
      ['inspect', 'tiny'],
      ['trust', 'list'],
      ['key', 'list'],
      ['catalog', 'list'],
      ['run', 'tiny', '--max-tokens', '2', 'hello'],
      ['export', 'tiny', path.join(folder, 'out')],
    ]) {
      const done = await freeholdInProcess(words, home);
      assert.equal(done.code, 0, `${words.join(' ')}: ${done.stderr}`);
    }
    await writeTinyProject(path.join(folder, 'next'), { version: '2.0.0' });
    for (const words of [
      ['build', path.join(folder, 'next')],
      ['key', 'new', 'x'],
      ['sign', 'tiny', '--key', 'acme'],
      ['remove', 'tiny'],
      ['gc'],
      ['trust', 'remove', 'acme/*'],
      ['install', `file:${path.join(folder, 'out')}`],
    ]) {
      const refused = await freeholdInProcess(words, home);
      assert.equal(outcomeOf(refused), 'PERMISSION_DENIED', `${words.join(' ')}: ${refused.stderr}`);
      assert.equal(refused.code, 7);
    }
    const fresh = await freehold(['list'], { home: path.join(disk.folder, 'other'), cwd: folder });
    assert.equal(outcomeOf(fresh), 'PERMISSION_DENIED', fresh.stderr);
  });
});

describe('a disk that is full', needsDisk, () => {
  test('build: DISK_FULL wherever it happens, nothing half-made, and a larger disk makes it good', async (context) => {
    const project = await writeTinyProject(path.join(await temporaryFolder(context), 'tiny'));
    let refusals = 0;
    for (const sizeKib of SIZES_KIB) {
      const disk = await mountSmallDisk(context, `size=${sizeKib}k`);
      const home = path.join(disk.folder, 'home');
      const outcome = await buildOutcome(home, project);
      if (outcome === 'built') continue;
      refusals++;
      assert.equal(outcome, 'DISK_FULL', `${sizeKib} KiB`);
      disk.remount('size=32m');
      await assertWhole(home, []);
      assert.equal(await buildOutcome(home, project), 'built', `${sizeKib} KiB, then more`);
      await assertWhole(home, ['acme/tiny']);
    }
    assert.ok(refusals >= 6 && refusals < SIZES_KIB.length, `${refusals} refusals`);
  });

  test('build with a variant to be quantized', needsDiskAndLibrary, async (context) => {
    const project = await writeTinyProject(path.join(await temporaryFolder(context), 'tiny'), {
      yaml: ['variants: [q8_0]'],
    });
    const disk = await mountSmallDisk(context, 'size=3300k');
    const home = path.join(disk.folder, 'home');
    const refused = await freehold(['build', project], { home, cwd: project });
    assert.equal(outcomeOf(refused), 'DISK_FULL', refused.stderr);
    assert.deepEqual(await readdir(path.join(home, 'store', 'tmp')), [], 'no scratch folder is left');
    disk.remount('size=32m');
    await assertWhole(home, []);
    const built = await freehold(['build', project], { home, cwd: project });
    assert.equal(built.code, 0, built.stderr);
    await assertWhole(home, ['acme/tiny']);
  });

  test('export: DISK_FULL, no folder appears, and a larger disk makes it good', async (context) => {
    const folder = await temporaryFolder(context);
    const home = path.join(folder, 'home');
    await installTinyPackage(await openFreehold({ env: {}, home }), path.join(folder, 'tiny'));
    for (const size of ['size=1m', 'size=2m', 'nr_inodes=3,size=32m']) {
      const disk = await mountSmallDisk(context, size);
      const target = path.join(disk.folder, 'out');
      const refused = await freeholdInProcess(['export', 'tiny', target], home);
      assert.equal(outcomeOf(refused), 'DISK_FULL', `${size}: ${refused.stderr}`);
      assert.equal(refused.code, 7);
      assert.deepEqual(await readdir(disk.folder), [], size);
      disk.remount('size=32m,nr_inodes=1000');
      assert.equal((await freeholdInProcess(['export', 'tiny', target], home)).code, 0);
      assert.equal((await freeholdInProcess(['verify', `file:${target}`], home)).code, 0);
    }
  });

  test('install from a folder: DISK_FULL, nothing is listed, and a larger disk makes it good', async (context) => {
    const folder = await temporaryFolder(context);
    const publisher = path.join(folder, 'publisher');
    const exported = path.join(folder, 'out');
    await installTinyPackage(await openFreehold({ env: {}, home: publisher }), path.join(folder, 'tiny'));
    await freehold(['export', 'tiny', exported], { home: publisher });
    const disk = await mountSmallDisk(context, 'size=2m');
    const home = path.join(disk.folder, 'home');
    await mkdir(home, { mode: 0o700 });
    await writeFile(path.join(home, 'trust.yaml'), await readFile(path.join(publisher, 'trust.yaml')), {
      mode: 0o600,
    });
    const refused = await freehold(['install', `file:${exported}`], { home });
    assert.equal(outcomeOf(refused), 'DISK_FULL', refused.stderr);
    await assertWhole(home, []);
    disk.remount('size=32m');
    const installed = await freehold(['install', `file:${exported}`], { home });
    assert.equal(installed.code, 0, installed.stderr);
    await assertWhole(home, ['acme/tiny']);
  });

  test('install from the catalog: what was fetched is kept, and a larger disk makes it good', async (context) => {
    await realModel('smollm2-135m-instruct');
    const disk = await mountSmallDisk(context, 'size=60m');
    const home = path.join(disk.folder, 'home');
    const mirrors = path.join(await temporaryHome(context), 'mirrors.yaml');
    const words = ['--mirrors', mirrors, 'install', 'catalog:smollm2-135m-instruct'];
    const refused = await freehold(words, { home, cwd: disk.folder });
    assert.equal(outcomeOf(refused), 'DISK_FULL', refused.stderr);
    assert.equal(refused.code, 7);
    await assertWhole(home, []);
    // The file and its package lie on one disk: it is moved, not copied.
    disk.remount('size=100m');
    const installed = await freehold(words, { home });
    assert.equal(installed.code, 0, installed.stderr);
    await assertWhole(home, ['catalog/smollm2-135m-instruct']);
  });
});

async function buildOutcome(home: string, project: string): Promise<string> {
  try {
    const opened = await openFreehold({ env: {}, home });
    await buildPackage(opened, project, { mayReplace: false, signal });
    return 'built';
  } catch (error) {
    if (error instanceof FreeholdError) return error.code;
    throw error;
  }
}

/** `check` finds no damage, what is listed is what should be, and no temporary file is left. */
async function assertWhole(home: string, names: readonly string[]): Promise<void> {
  const opened = await openFreehold({ env: {}, home });
  assert.deepEqual((await checkStore(opened, signal)).problems, []);
  const entries = (await opened.store.entries()).map(({ annotations }) => annotations?.['org.freehold.name']);
  assert.deepEqual([...new Set(entries)], names);
  assert.deepEqual(await readdir(path.join(home, 'store', 'tmp')).catch(() => []), []);
  assert.equal((await stat(home)).mode & 0o777, 0o700);
}
