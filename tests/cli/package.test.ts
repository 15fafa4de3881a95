import assert from 'node:assert/strict';
import { access, appendFile, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { freehold, outcomeOf, temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { writeTinyModel } from '../fixtures/tiny-model.ts';

describe('a publisher builds and signs, a customer verifies and installs', () => {
  let publisher = '';
  let customer = '';
  let folder = '';
  let exported = '';
  const cleanups: (() => Promise<void>)[] = [];

  before(async () => {
    const context = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as never;
    publisher = await temporaryHome(context);
    customer = await temporaryHome(context);
    folder = await temporaryFolder(context);
    exported = path.join(folder, 'exported');
    await mkdir(path.join(folder, 'model'));
    await writeTinyModel(path.join(folder, 'model', 'tiny-f32.gguf'));
    await writeFile(path.join(folder, 'model', 'LICENSE'), 'All rights reserved.\n');
  });
  test.after(async () => {
    for (const cleanup of cleanups) await cleanup();
  });

  test('init model writes a model.yaml that names the weights it found', async () => {
    const made = await freehold(['init', 'model', path.join(folder, 'model'), '--name', 'acme/tiny'], {
      home: publisher,
    });
    assert.equal(made.code, 0, made.stderr);
    const text = await readFile(path.join(folder, 'model', 'model.yaml'), 'utf8');
    assert.match(text, /^name: acme\/tiny$/m);
    assert.match(text, /^weights: "tiny-f32.gguf"/m);
    const again = await freehold(['init', 'model', path.join(folder, 'model')], { home: publisher });
    assert.equal(outcomeOf(again), 'ALREADY_EXISTS');
    assert.equal(await readFile(path.join(folder, 'model', 'model.yaml'), 'utf8'), text);
    await appendFile(
      path.join(folder, 'model', 'model.yaml'),
      'variants: [q8_0, q4_0, { name: full }]\nfiles: [LICENSE]\n',
    );
  });

  test('build makes one package per variant, twice the same', async () => {
    const first = await freehold(['build', path.join(folder, 'model'), '--json', '--quiet'], {
      home: publisher,
    });
    assert.equal(first.code, 0, first.stderr);
    const second = await freehold(['build', path.join(folder, 'model'), '--json', '--quiet'], {
      home: publisher,
    });
    assert.equal(second.stdout, first.stdout);
    const elsewhere = await freehold(['build', path.join(folder, 'model'), '--json', '--quiet'], {
      home: customer,
    });
    assert.equal(elsewhere.stdout, first.stdout, 'another home gives the same digests');
    await freehold(['remove', 'acme/tiny'], { home: customer });
    const built = JSON.parse(first.stdout) as { variants: { reference: string; bitsPerWeight: number }[] };
    assert.deepEqual(
      built.variants.map((variant) => variant.reference),
      ['acme/tiny@0.1.0#q8_0', 'acme/tiny@0.1.0#q4_0', 'acme/tiny@0.1.0#full'],
    );
    assert.deepEqual(
      built.variants.map((variant) => Math.round(variant.bitsPerWeight)),
      [9, 5, 32],
    );
  });

  test('an unsigned package is not run, exported or verified: exit 4', async () => {
    for (const args of [
      ['run', 'tiny', 'hello'],
      ['verify', 'tiny'],
      ['export', 'tiny', exported],
    ]) {
      const refused = await freehold(args, { home: publisher });
      assert.equal(refused.code, 4, args.join(' '));
      assert.equal(outcomeOf(refused), 'SIGNATURE_MISSING');
      assert.equal(refused.stdout, '');
    }
    await assert.rejects(access(exported));
  });

  test('signing needs trust on top: deny by default, then anchored patterns', async () => {
    const made = await freehold(['key', 'new', 'acme'], { home: publisher });
    assert.match(made.stdout, /fingerprint SHA256:([0-9a-f]{4} ?){16}/);
    assert.doesNotMatch(made.stdout + made.stderr, /PRIVATE KEY/);
    const signed = await freehold(['sign', 'acme/tiny', '--key', 'acme'], { home: publisher });
    assert.equal(signed.code, 0, signed.stderr);
    assert.equal(outcomeOf(await freehold(['verify', 'tiny'], { home: publisher })), 'SIGNER_UNTRUSTED');
    const { stdout: pem } = await freehold(['key', 'show', 'acme'], { home: publisher });
    await writeFile(path.join(folder, 'acme.pub'), pem);
    await freehold(['trust', 'add', 'acme/tin', path.join(folder, 'acme.pub')], { home: publisher });
    assert.equal(outcomeOf(await freehold(['verify', 'tiny'], { home: publisher })), 'SIGNER_UNTRUSTED');
    const trusted = await freehold(['trust', 'add', 'acme/*', path.join(folder, 'acme.pub')], {
      home: publisher,
    });
    assert.match(trusted.stdout, /fingerprint SHA256:/);
    const verified = await freehold(['verify', 'tiny'], { home: publisher });
    assert.equal(verified.code, 0, verified.stderr);
    assert.match(verified.stdout, /^verified acme\/tiny@0\.1\.0#q8_0$/m);
  });

  test('a rebuild keeps the signatures of the same content, and refuses other content', async () => {
    const rebuilt = await freehold(['build', path.join(folder, 'model'), '--json', '--quiet'], {
      home: publisher,
    });
    assert.ok(
      (JSON.parse(rebuilt.stdout) as { variants: { isSigned: boolean }[] }).variants.every(
        ({ isSigned }) => isSigned,
      ),
    );
    assert.equal((await freehold(['verify', 'tiny'], { home: publisher })).code, 0);
    await cp(path.join(folder, 'model'), path.join(folder, 'other'), { recursive: true });
    await writeFile(path.join(folder, 'other', 'LICENSE'), 'Something else.\n');
    const refused = await freehold(['build', path.join(folder, 'other')], { home: publisher });
    assert.equal(outcomeOf(refused), 'ALREADY_EXISTS');
    assert.equal((await freehold(['verify', 'tiny'], { home: publisher })).code, 0);
  });

  test('export and install carry the package to another home, unchanged', async () => {
    const out = await freehold(['export', 'tiny#q8_0', exported], { home: publisher });
    assert.equal(out.code, 0, out.stderr);
    assert.deepEqual((await readdir(exported)).sort(), [
      'LICENSE',
      'freehold.json',
      'model.sig',
      'tiny-q8_0.gguf',
    ]);
    const refused = await freehold(['install', `file:${exported}`], { home: customer });
    assert.equal(outcomeOf(refused), 'SIGNER_UNTRUSTED');
    assert.doesNotMatch((await freehold(['list'], { home: customer })).stdout, /tiny/);
    await freehold(['trust', 'add', 'acme/*', path.join(folder, 'acme.pub')], { home: customer });
    const installed = await freehold(['install', `file:${exported}`], { home: customer });
    assert.equal(installed.code, 0, installed.stderr);
    const [there, here] = await Promise.all(
      [publisher, customer].map(async (home) => {
        const rows = JSON.parse((await freehold(['list', '--json'], { home })).stdout) as Record<
          string,
          unknown
        >[];
        return rows.find((row) => row.variant === 'q8_0' && row.name === 'acme/tiny');
      }),
    );
    assert.deepEqual(here, there);
    assert.match(
      (await freehold(['install', `file:${exported}`], { home: customer })).stdout,
      /^already installed/,
    );
  });

  test('an exported folder with one changed, added, missing or swapped file is refused, naming it', async () => {
    const cases: [string, (copy: string) => Promise<void>, RegExp][] = [
      ['flipped', async (copy) => flipByte(path.join(copy, 'LICENSE'), 3), /LICENSE/],
      ['weights', async (copy) => flipByte(path.join(copy, 'tiny-q8_0.gguf'), 700_000), /tiny-q8_0\.gguf/],
      ['descriptor', async (copy) => flipByte(path.join(copy, 'freehold.json'), 60), /freehold\.json/],
      ['added', async (copy) => writeFile(path.join(copy, 'extra.txt'), 'x'), /extra\.txt/],
      ['truncated', async (copy) => truncateFile(path.join(copy, 'tiny-q8_0.gguf'), 100), /tiny-q8_0\.gguf/],
    ];
    for (const [name, damage, file] of cases) {
      const copy = path.join(folder, `damaged-${name}`);
      await cp(exported, copy, { recursive: true });
      await damage(copy);
      for (const verb of ['verify', 'install']) {
        const refused = await freehold([verb, `file:${copy}`], { home: customer });
        assert.equal(refused.code, 4, `${verb} ${name}: ${refused.stderr}`);
        assert.match(refused.stderr, file, `${verb} ${name}`);
      }
    }
  });

  test('inspect shows what is in force, remove frees what nothing else uses', async () => {
    const inspected = await freehold(['inspect', 'tiny'], { home: customer });
    assert.match(inspected.stdout, /verified.*trusted for acme\/\*/);
    assert.match(inspected.stdout, /lineage {5}quantize Q8_0/);
    const removed = await freehold(['remove', 'tiny'], { home: customer });
    assert.match(removed.stdout, /removed acme\/tiny@0\.1\.0#q8_0/);
    assert.deepEqual(await readdir(path.join(customer, 'store', 'blobs', 'sha256')), []);
    assert.equal(outcomeOf(await freehold(['inspect', 'tiny'], { home: customer })), 'MODEL_NOT_FOUND');
  });
});

async function flipByte(file: string, offset: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  await writeFile(file, bytes);
}

async function truncateFile(file: string, bytes: number): Promise<void> {
  await writeFile(file, (await readFile(file)).subarray(0, -bytes));
}
