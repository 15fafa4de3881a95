import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, readdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { freehold as command, outcomeOf, temporaryFolder } from '../fixtures/freehold-home.ts';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { seededRandom } from '../fixtures/random.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';
import { flipped, type PackagePart, partsOf, refusalOf, withBytes } from './installed-package.ts';
import { attackGround, STORE_ATTACKS, undoAttack } from './store-attacks.ts';

/** Prime, so that all kinds of characters are hit; the full tier takes every byte. */
const DOCUMENT_STRIDE_BYTES = 31;
const WEIGHTS_OFFSETS = 16;
/** A verification record is kept when the file has not been touched for two seconds. */
const RECORD_AGE_MS = 2_100;

describe('an installed package that somebody tampered with', () => {
  let home = '';
  let freehold: Freehold;
  let parts: readonly PackagePart[] = [];
  const cleanups: (() => Promise<void>)[] = [];

  before(async () => {
    const folder = await temporaryFolder({
      after: (cleanup: () => Promise<void>) => cleanups.push(cleanup),
    } as never);
    home = path.join(folder, 'home');
    freehold = await openFreehold({ env: {}, home });
    await installTinyPackage(freehold, path.join(folder, 'tiny'), { chatTemplate: 'hello' });
    await installTinyPackage(freehold, path.join(folder, 'other'), {
      name: 'acme/other',
      model: { seed: 2 },
    });
    parts = await partsOf(freehold);
  });
  after(async () => {
    for (const cleanup of cleanups) await cleanup();
  });

  const part = (name: string | RegExp) =>
    parts.find((candidate) =>
      typeof name === 'string' ? candidate.name === name : name.test(candidate.name),
    ) ?? assert.fail(`no ${name}`);

  async function assertRefused(what: string, names: string): Promise<void> {
    const refusal = await refusalOf(home);
    assert.equal(refusal?.exitCode, 4, `${what}: ${refusal?.message ?? 'it runs'}`);
    assert.ok(refusal.message.includes(names), `${what}: ${refusal.message}`);
  }

  test('runs as long as nobody does', async () => {
    assert.equal(await refusalOf(home), undefined);
    assert.deepEqual(
      parts.map(({ name }) => name),
      [
        'the image index',
        'the manifest',
        'the config',
        'freehold.json',
        'LICENSE',
        'chat.jinja',
        'tiny-f32.gguf',
        'model.sig',
        'index.json',
        'oci-layout',
      ],
    );
  });

  test('one flipped byte of any file is refused, naming the file', async () => {
    const random = seededRandom(5);
    for (const candidate of parts) {
      const { length } = candidate.bytes;
      const offsets = candidate.name.endsWith('.gguf')
        ? [0, 8, length - 1, ...Array.from({ length: WEIGHTS_OFFSETS }, () => random.below(length))]
        : Array.from(
            { length: Math.ceil(length / DOCUMENT_STRIDE_BYTES) },
            (_, at) => at * DOCUMENT_STRIDE_BYTES,
          );
      for (const offset of [...offsets, length - 1]) {
        const mask = [0x01, 0x20, 0x80][offset % 3] ?? 1;
        await withBytes(candidate, flipped(candidate.bytes, offset, mask), () =>
          assertRefused(`byte ${offset} of ${candidate.name}`, candidate.name),
        );
      }
    }
    assert.equal(await refusalOf(home), undefined);
  });

  test('a flipped byte is found on a warm start, even when the time of the change was set back', async () => {
    const weights = part(/\.gguf$/);
    // With nanoseconds, which Node's own call does not take.
    const reference = path.join(path.dirname(home), 'times');
    const copyTimes = (from: string, to: string) =>
      assert.equal(spawnSync('touch', ['-r', from, to]).status, 0);
    copyTimes(weights.path, reference);
    await new Promise((resolve) => setTimeout(resolve, RECORD_AGE_MS));
    assert.equal(await refusalOf(home), undefined);
    const records = await readdir(path.join(freehold.store.folder, 'verified'));
    assert.ok(records.includes(`${path.basename(weights.path)}.json`), 'the next start would be a warm one');
    await withBytes(weights, flipped(weights.bytes, 2_000_000, 1), async () => {
      copyTimes(reference, weights.path);
      await assertRefused('set back', weights.name);
    });
    // Another file in its place, with the same size and times.
    await rename(weights.path, `${weights.path}.right`);
    await writeFile(weights.path, flipped(weights.bytes, 2_000_000, 1));
    copyTimes(reference, weights.path);
    await assertRefused('exchanged', weights.name);
    await rename(`${weights.path}.right`, weights.path);
    assert.equal(await refusalOf(home), undefined);
  });

  test('a file that is shorter, longer, empty, gone or no plain file is refused, naming it', async () => {
    for (const candidate of parts) {
      const { name, path: file, bytes } = candidate;
      const changes: [string, () => Promise<unknown>][] = [
        ['shorter', () => truncate(file, bytes.length - 1)],
        ['longer', () => writeFile(file, Buffer.concat([bytes, Buffer.from([0])]))],
        ['empty', () => truncate(file, 0)],
        ['gone', () => rm(file)],
        ['a folder', () => rm(file).then(() => mkdir(file))],
        ['a link', () => rename(file, `${file}.right`).then(() => symlink(`${file}.right`, file))],
        // Opening one without a writer would wait for ever.
        ['a pipe', () => rm(file).then(() => spawnSync('mkfifo', [file]))],
      ];
      for (const [what, change] of changes) {
        await change();
        const refusal = await refusalOf(home);
        const shown = `${name} is ${what}: ${refusal?.code} ${refusal?.message}`;
        assert.ok(refusal?.exitCode === 4, shown);
        assert.ok(refusal.message.includes(name), shown);
        await rm(file, { recursive: true, force: true });
        await rm(`${file}.right`, { force: true });
        await writeFile(file, bytes, { mode: 0o644 });
      }
    }
    assert.equal(await refusalOf(home), undefined);
  });

  test('two files with their contents exchanged are refused, whichever two', async () => {
    const blobs = parts.filter(({ path: file }) => file.includes('blobs'));
    for (const [index, left] of blobs.entries()) {
      for (const right of blobs.slice(index + 1)) {
        const swap = () =>
          withBytes(left, right.bytes, () =>
            withBytes(right, left.bytes, async () => {
              const refusal = await refusalOf(home);
              const shown = `${left.name} and ${right.name}: ${refusal?.message}`;
              assert.equal(refusal?.exitCode, 4, shown);
              assert.ok(refusal.message.includes(left.name) || refusal.message.includes(right.name), shown);
            }),
          );
        await swap();
      }
    }
    assert.equal(await refusalOf(home), undefined);
  });

  for (const attack of STORE_ATTACKS) {
    test(`${attack.name}, with every digest put right, is ${attack.code}`, async () => {
      const ground = await attackGround(freehold, 'acme/tiny', 'acme/other');
      try {
        await attack.carryOut(ground);
        const refusal = await refusalOf(home);
        assert.equal(refusal?.code, attack.code, refusal?.message ?? 'it runs');
        assert.equal(refusal?.exitCode, 4);
        assert.match(refusal?.message ?? '', attack.names);
      } finally {
        await undoAttack(ground);
      }
      assert.equal(await refusalOf(home), undefined);
    });
  }

  test('the trust policy decides by name: no other name is lent to a good signature', async () => {
    await command(['trust', 'remove', 'acme/*'], { home });
    const { stdout } = await command(['key', 'show', 'acme'], { home });
    await writeFile(path.join(home, 'acme.pub'), stdout);
    await command(['trust', 'add', 'acme/other', 'acme.pub'], { home });
    assert.equal((await refusalOf(home))?.code, 'SIGNER_UNTRUSTED');
    assert.equal(await refusalOf(home, 'acme/other'), undefined);
    await command(['trust', 'add', 'acme/*', 'acme.pub'], { home });
    assert.equal(await refusalOf(home), undefined);
  });

  test('the command line says so, exits with 4 and answers nothing', {
    skip: skipUnlessCi(llamaLibraryMissing()),
  }, async () => {
    const weights = part(/\.gguf$/);
    const licence = part('LICENSE');
    const run = () => command(['run', 'acme/tiny', '--max-tokens', '4', 'hello'], { home });
    const assertSaid = async (code: string, names: RegExp) => {
      const refused = await run();
      assert.deepEqual([outcomeOf(refused), refused.code, refused.stdout], [code, 4, ''], refused.stderr);
      assert.match(refused.stderr, names);
      assert.match(refused.stderr, /^hint: {2}\S/m);
    };
    assert.equal(outcomeOf(await run()), 'success');
    await withBytes(weights, flipped(weights.bytes, 1_500_000, 1), () =>
      assertSaid('DIGEST_MISMATCH', /tiny-f32\.gguf/),
    );
    await withBytes(weights, weights.bytes.subarray(0, -1), () =>
      assertSaid('SIZE_MISMATCH', /tiny-f32\.gguf/),
    );
    await withBytes(part('model.sig'), flipped(part('model.sig').bytes, 700, 1), () =>
      assertSaid('DIGEST_MISMATCH', /model\.sig/),
    );
    await withBytes(weights, licence.bytes, () =>
      withBytes(licence, weights.bytes, () => assertSaid('SIZE_MISMATCH', /LICENSE|tiny-f32\.gguf/)),
    );
    const ground = await attackGround(freehold, 'acme/tiny', 'acme/other');
    for (const name of ["another package's signature", 'manifest: another annotation']) {
      const attack = STORE_ATTACKS.find((candidate) => candidate.name === name) ?? assert.fail(name);
      await attack.carryOut(ground);
      await assertSaid(attack.code, attack.names);
      await undoAttack(ground);
    }
    assert.equal(outcomeOf(await run()), 'success');
  });
});
