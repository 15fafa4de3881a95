import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { encodeTarHeader, TAR_END_BYTES, tarEntryBytes } from '../../src/core/format/archive-tar.ts';
import { restoreArchive } from '../../src/surface/app/archive-restore.ts';
import { saveArchive } from '../../src/surface/app/archive-save.ts';
import { verifyArchive } from '../../src/surface/app/archive-verify.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { mirror } from '../../src/surface/app/mirror.ts';
import { temporaryFolder } from '../fixtures/freehold-home.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

const { signal } = new AbortController();

const missing = (...tools: string[]) =>
  tools
    .filter((tool) => spawnSync(tool, ['--version']).error !== undefined)
    .map((tool) => `needs ${tool}`)
    .at(0);

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

test('umoci and skopeo read the layout of an extracted archive; Freehold reads what skopeo makes of it', {
  skip: skipUnlessCi(missing('umoci', 'skopeo', 'tar')),
}, async (context) => {
  const folder = await temporaryFolder(context);
  const at = (name: string) => path.join(folder, name);
  const freehold = await openFreehold({ env: {}, home: at('home') });
  const built = await installTinyPackage(freehold, at('project'), { yaml: ['variants: [q8_0, f16]'] });
  await saveArchive(freehold, at('a.tar'), [], { signal, isWithoutProgram: true });
  mkdirSync(at('layout'));
  run('tar', ['-x', '-f', at('a.tar'), '-C', at('layout')]);
  assert.deepEqual(
    run('umoci', ['ls', '--layout', at('layout')])
      .trim()
      .split('\n')
      .sort(),
    ['acme/tiny:1.0.0', 'acme/tiny:1.0.0-f16', 'acme/tiny:1.0.0-q8_0', 'freehold-archive'],
  );
  const raw = run('skopeo', ['inspect', '--raw', `oci:${at('layout')}:acme/tiny:1.0.0`]);
  assert.equal(JSON.parse(raw).manifests.length, 2);

  const image = `oci:${at('layout')}:acme/tiny:1.0.0`;
  run('skopeo', ['copy', '--quiet', '--all', image, `oci-archive:${at('b.tar')}:1.0.0`]);
  run('skopeo', ['copy', '--quiet', '--all', image, `oci:${at('copied')}:1.0.0`]);
  run('tar', ['-c', '-f', at('c.tar'), '-C', at('copied'), '.']);
  for (const name of ['b.tar', 'c.tar']) {
    const { packages } = await verifyArchive(freehold, at(name), signal);
    assert.deepEqual(
      packages.map(({ outcome }) => outcome),
      ['trusted', 'trusted'],
      name,
    );
    await restoreArchive(freehold, at(name), { signal, approved: { kind: 'none' } });
  }
  const copied = await mirror(freehold, `layout:${at('copied')}`, `archive:${at('d.tar')}`, { signal });
  assert.deepEqual(
    copied.tags.map(({ name }) => name),
    ['1.0.0'],
  );
  const digests = new Set<string>(built.variants.map(({ contentDigest }) => contentDigest));
  assert.equal(digests.size, 2);
});

test('GNU tar and Python read a header of a file over 8 GiB as it was meant', {
  skip: skipUnlessCi(missing('tar', 'python3')),
}, async (context) => {
  const file = path.join(await temporaryFolder(context), 'big.tar');
  const sizeBytes = 9 * 2 ** 30 + 17;
  const handle = openSync(file, 'w');
  writeSync(handle, encodeTarHeader({ name: 'blobs/sha256/big', sizeBytes }));
  // A hole: takes no room.
  ftruncateSync(handle, tarEntryBytes(sizeBytes));
  writeSync(
    handle,
    encodeTarHeader({ name: `${'d/'.repeat(70)}last`, sizeBytes: 0 }),
    0,
    512,
    tarEntryBytes(sizeBytes),
  );
  ftruncateSync(handle, tarEntryBytes(sizeBytes) + 512 + TAR_END_BYTES);
  const listed = run('tar', ['-t', '-v', '-f', file]).trim().split('\n');
  assert.match(listed[0] ?? '', new RegExp(`^-rw-r--r-- 0/0\\s+${sizeBytes} .* blobs/sha256/big$`));
  assert.match(listed[1] ?? '', /d\/last$/);
  const script = 'import sys, tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.size, len(m.name))';
  assert.equal(run('python3', ['-c', script, file]), `${sizeBytes} 16\n0 144\n`);
});
