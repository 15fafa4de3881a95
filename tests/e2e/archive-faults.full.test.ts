import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { FreeholdError } from '../../src/core/base/errors.ts';
import { openArchive } from '../../src/io/archive/archive.ts';
import { writeArchive } from '../../src/io/archive/archive-writer.ts';
import { restoreArchive } from '../../src/surface/app/archive-restore.ts';
import { saveArchive } from '../../src/surface/app/archive-save.ts';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { installedPackages } from '../../src/surface/app/installed-packages.ts';
import { temporaryFolder } from '../fixtures/freehold-home.ts';
import { startFreehold } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { mountSmallDisk, smallDiskMissing } from '../fixtures/small-disk.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

const { signal } = new AbortController();
/** A document as large as weights: random, so that no two blobs are one. */
const PADDING_BYTES = 24 << 20;
const KILLS = 12;

const code =
  (wanted: string, hint = /./) =>
  (error: unknown) =>
    error instanceof FreeholdError && error.code === wanted && hint.test(error.hint);

async function publisherHome(folder: string): Promise<Freehold> {
  const freehold = await openFreehold({ env: {}, home: path.join(folder, 'publisher') });
  const padding = Array.from({ length: PADDING_BYTES / 1024 }, (_, index) =>
    String(index).padEnd(1024, 'x'),
  ).join('');
  await installTinyPackage(freehold, path.join(folder, 'project'), { files: { 'DATA.txt': padding } });
  return freehold;
}

const save = (freehold: Freehold, file: string, options = {}) =>
  saveArchive(freehold, file, [], { signal, isWithoutProgram: true, ...options });
const restore = (freehold: Freehold, file: string) =>
  restoreArchive(freehold, file, { signal, approved: { kind: 'all' } });

/** A FAT32 file system in a file, mounted until the test ends. */
async function mountStick(context: TestContext, sizeMib: number): Promise<string> {
  const folder = await temporaryFolder(context, 'freehold-fat-');
  const [image, stick] = [path.join(folder, 'image'), path.join(folder, 'stick')];
  mkdirSync(stick);
  const run = (...[command = '', ...args]: string[]) => {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`);
  };
  run('truncate', '-s', `${sizeMib}M`, image);
  run('mkfs.vfat', '-F', '32', image);
  run('mount', '-o', 'loop', image, stick);
  context.after(() => spawnSync('umount', ['--lazy', stick]));
  return stick;
}

/** Why a FAT file system cannot be mounted here: a container may have the tools and no loop devices. */
function stickMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, to mount a stick';
  if (spawnSync('mkfs.vfat', ['--help']).error !== undefined) return 'needs mkfs.vfat';
  const script = `set -e; d=$(mktemp -d); trap 'umount $d/m 2>/dev/null; rm -rf $d' EXIT
    mkdir $d/m; truncate -s 40M $d/i; mkfs.vfat -F 32 $d/i >/dev/null; mount -o loop $d/i $d/m`;
  return spawnSync('sh', ['-c', script]).status === 0 ? undefined : 'cannot mount a FAT file system here';
}

test('a FAT32 stick: parts fit, a file over 4 GiB is refused before the first byte', {
  // Not a tool that could be installed: some kernels have no FAT.
  skip: stickMissing() ?? false,
}, async (context) => {
  const stick = await mountStick(context, 80);
  const folder = await temporaryFolder(context);
  const publisher = await publisherHome(folder);
  const file = path.join(stick, 'models.tar');
  const huge = [{ name: 'oci-layout', sizeBytes: 5 * 2 ** 30, open: () => assert.fail('a byte was read') }];
  await assert.rejects(writeArchive(file, huge, { signal }), code('DISK_FULL', /--part-size 4GiB-1/));
  assert.deepEqual(readdirSync(stick), []);
  const { files } = await save(publisher, file, { partBytes: 4 << 20 });
  assert.ok(files.length > 6);
  await assert.rejects(save(publisher, file, { partBytes: 4 << 20 }), code('ALREADY_EXISTS'));
  const customer = await openFreehold({ env: {}, home: path.join(folder, 'customer') });
  await restore(customer, file);
  assert.equal(installedPackages(await customer.store.entries()).length, 1);
  await assert.rejects(
    save(publisher, path.join(stick, 'b.tar')).then(() => save(publisher, path.join(stick, 'c.tar'))),
    code('DISK_FULL'),
  );
  assert.ok(!readdirSync(stick).some((name) => name.startsWith('c.tar')), readdirSync(stick).join());
});

test('a file system that holds no file of this size says so, and parts fit', {
  skip: skipUnlessCi(spawnSync('prlimit', ['--version']).error === undefined ? undefined : 'needs prlimit'),
}, async (context) => {
  const folder = await temporaryFolder(context);
  const home = (await publisherHome(folder)).home.path;
  const out = path.join(folder, 'out');
  mkdirSync(out);
  const args = ['archive', 'save', path.join(out, 'a.tar'), '--without-freehold'];
  const behind = ['prlimit', `--fsize=${8 << 20}`];
  const refused = startFreehold(context, args, { home, behind });
  assert.equal((await refused.ended()).code, 7, refused.stderr());
  assert.match(
    refused.stderr(),
    /holds no file as large as .*\[DISK_FULL\]\n[\s\S]*^hint: {2}--part-size 4GiB-1/m,
  );
  assert.deepEqual(readdirSync(out), []);
  const split = startFreehold(context, [...args, '--part-size', '8MiB'], { home, behind });
  assert.equal((await split.ended()).code, 0, split.stderr());
});

test('a disk that fills up while an archive is written: nothing is left, and the next try succeeds', {
  skip: skipUnlessCi(smallDiskMissing()),
}, async (context) => {
  const disk = await mountSmallDisk(context, 'size=60m');
  const publisher = await publisherHome(await temporaryFolder(context));
  for (const partBytes of [undefined, 1 << 20]) {
    const file = path.join(disk.folder, 'a.tar');
    disk.remount('size=60m');
    let isShrunk = false;
    const shrinking: Freehold = {
      ...publisher,
      progress: () => {
        if (!isShrunk) disk.remount('size=8m');
        isShrunk = true;
      },
    };
    await assert.rejects(save(shrinking, file, { partBytes }), code('DISK_FULL'));
    assert.ok(isShrunk);
    assert.deepEqual(readdirSync(disk.folder), []);
    await assert.rejects(save(publisher, file, { partBytes }), code('DISK_FULL', /--since/));
    disk.remount('size=60m');
    const { files } = await save(publisher, file, { partBytes });
    const archive = await openArchive(file);
    await archive.check({ signal });
    await archive.close();
    for (const name of files) spawnSync('rm', [name]);
  }
});

test('a home whose disk fills up while an archive is restored: nothing is visible, and the next try goes on', {
  skip: skipUnlessCi(smallDiskMissing()),
}, async (context) => {
  const folder = await temporaryFolder(context);
  const file = path.join(folder, 'a.tar');
  await save(await publisherHome(folder), file);
  const disk = await mountSmallDisk(context, 'size=16m');
  const customer = await openFreehold({ env: {}, home: path.join(disk.folder, 'home') });
  await assert.rejects(restore(customer, file), code('DISK_FULL'));
  assert.deepEqual(await customer.store.entries(), []);
  disk.remount('size=80m');
  await restore(customer, file);
  assert.equal(installedPackages(await customer.store.entries()).length, 1);
});

/** Runs a command again and again, killed each time a little later, until it ends by itself. */
async function killed(
  context: TestContext,
  args: readonly string[],
  home: string,
  durationMs: number,
  afterKill: () => Promise<void>,
): Promise<number> {
  let kills = 0;
  for (let run = 0; run < KILLS; run++) {
    const running = startFreehold(context, args, { home });
    const delayMs = durationMs * (0.3 + (0.7 * run) / KILLS) * (0.9 + Math.random() * 0.2);
    const timer = setTimeout(() => running.process.kill('SIGKILL'), delayMs);
    const ending = await running.ended();
    clearTimeout(timer);
    if (ending.signal === 'SIGKILL') {
      kills++;
      await afterKill();
    } else if (ending.code === 0) return kills;
    else assert.fail(running.stderr());
  }
  return kills;
}

test('save, killed at random moments: no file looks finished, and the next run overwrites what is left', async (context) => {
  const folder = await temporaryFolder(context);
  const home = (await publisherHome(folder)).home.path;
  const out = path.join(folder, 'out');
  for (const parts of [[], ['--part-size', '2MiB']]) {
    mkdirSync(out, { recursive: true });
    const file = path.join(out, 'a.tar');
    const args = ['archive', 'save', file, '--without-freehold', ...parts];
    const measured = performance.now();
    const first = startFreehold(context, args, { home });
    assert.equal((await first.ended()).code, 0, first.stderr());
    const durationMs = performance.now() - measured;
    const finished = readdirSync(out).sort();
    const whole = await Promise.all(finished.map((name) => readFile(path.join(out, name))));
    spawnSync('rm', ['-r', out]);
    mkdirSync(out);
    const kills = await killed(context, args, home, durationMs, async () => {
      const outcome = await openArchive(file).then(
        (archive) => archive.check({ signal }).finally(() => archive.close()),
        (error: unknown) => error,
      );
      if (outcome === undefined) {
        // Killed after its last step.
        spawnSync('rm', ['-r', out]);
        mkdirSync(out);
      } else assert.ok(code('NOT_FOUND')(outcome) || code('ARCHIVE_INVALID')(outcome), String(outcome));
    });
    assert.ok(kills > 0, 'no kill came in time');
    if (!existsSync(finished.length > 1 ? `${file}.parts.json` : file)) {
      const last = startFreehold(context, args, { home });
      assert.equal((await last.ended()).code, 0, last.stderr());
    }
    assert.deepEqual(readdirSync(out).sort(), finished);
    const again = await Promise.all(finished.map((name) => readFile(path.join(out, name))));
    assert.deepEqual(again, whole);
    spawnSync('rm', ['-r', out]);
  }
});

test('restore, killed at random moments: all or nothing is installed, and what arrived is not brought again', async (context) => {
  const folder = await temporaryFolder(context);
  const file = path.join(folder, 'a.tar');
  const publisher = await publisherHome(folder);
  await save(publisher, file);
  const args = ['archive', 'restore', file, '--trust-archive-keys'];
  const homeOf = (name: string) => {
    const home = path.join(folder, name);
    mkdirSync(home, { mode: 0o700 });
    return home;
  };
  const measured = performance.now();
  const first = startFreehold(context, args, { home: homeOf('first') });
  assert.equal((await first.ended()).code, 0, first.stderr());
  const home = homeOf('second');
  writeFileSync(path.join(home, 'mirrors.yaml'), '');
  const kills = await killed(context, args, home, performance.now() - measured, async () => {
    const { store } = await openFreehold({ env: {}, home });
    const report = await store.check();
    assert.ok(
      report.findings.every(({ isDamage }) => !isDamage),
      JSON.stringify(report.findings),
    );
  });
  assert.ok(kills > 0, 'no kill came in time');
  const last = startFreehold(context, args, { home });
  assert.equal((await last.ended()).code, 0, last.stderr());
  const { store } = await openFreehold({ env: {}, home });
  const digests = (entries: readonly { digest: string }[]) => entries.map(({ digest }) => digest).sort();
  assert.deepEqual(digests(await store.entries()), digests(await publisher.store.entries()));
});
