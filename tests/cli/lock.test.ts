import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { exportPackage } from '../../src/surface/app/export-package.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { addTrust, publicKeyOf } from '../../src/surface/app/keys-and-trust.ts';
import { freehold, temporaryFolder } from '../fixtures/freehold-home.ts';
import { servedUrl, startFreehold } from '../fixtures/running-freehold.ts';
import { installTinyPackage, TINY_KEY } from '../fixtures/tiny-package.ts';

describe('an application with a freehold.yaml', () => {
  let folder = '';
  let home = '';
  let app = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;
  const run = (...args: string[]) => freehold(args, { home, cwd: app });
  const file = (name: string) => path.join(app, name);

  before(async () => {
    folder = await temporaryFolder(suite);
    home = path.join(folder, 'customer');
    app = path.join(folder, 'app');
    await mkdir(app);
    const { signal } = new AbortController();
    const publisher = await openFreehold({ env: {}, home: path.join(folder, 'publisher') });
    for (const version of ['1.0.0', '2.0.0']) {
      await installTinyPackage(publisher, path.join(folder, version), { version });
      await exportPackage(publisher, `acme/tiny@${version}`, path.join(folder, `tiny-${version}`), signal);
    }
    const customer = await openFreehold({ env: {}, home });
    await addTrust(customer, 'acme/*', (await publicKeyOf(publisher, TINY_KEY)).publicKeyPem);
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  test('from nothing to a served model, and refusals that leave no trace', async (context) => {
    const nothing = await run('install');
    assert.equal(nothing.code, 3);
    assert.match(nothing.stderr, /no freehold\.yaml.*\[NOT_FOUND\]\n.*freehold add/);

    const added = await run('add', 'triage=file:../tiny-1.0.0');
    assert.equal(added.code, 0, added.stderr);
    assert.match(added.stdout, /^triage is acme\/tiny@1\.0\.0#f32/);
    assert.match(readFileSync(file('freehold.yaml'), 'utf8'), /\n {2}triage: file:\.\.\/tiny-1\.0\.0\n$/);
    const lock = readFileSync(file('freehold.lock'), 'utf8');
    assert.match(lock, /\n {2}triage:\n {4}from: file:\.\.\/tiny-1\.0\.0\n|from: "file:/);

    const frozen = await run('--json', 'install', '--frozen');
    assert.equal(frozen.code, 0, frozen.stderr);
    assert.deepEqual(
      (JSON.parse(frozen.stdout.trim().split('\n').at(-1) ?? '') as { key: string; kind: string }[]).map(
        ({ key, kind }) => [key, kind],
      ),
      [['triage', 'kept']],
    );

    // Another version is installed beside: the key still means the locked one.
    assert.equal((await run('install', 'file:../tiny-2.0.0')).code, 0);
    const serve = startFreehold(context, ['serve', '--listen', '127.0.0.1:0', '--threads', '1'], {
      home,
      cwd: app,
    });
    const url = await servedUrl(serve);
    const listed = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    assert.deepEqual(
      listed.data.map(({ id }) => id),
      ['triage', 'tiny'],
    );
    const answer = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'triage', prompt: 'the', max_tokens: 4 }),
    });
    assert.equal(answer.status, 200, await answer.text());

    writeFileSync(file('freehold.yaml'), 'models:\n  triage: file:../tiny-2.0.0\n');
    const stale = await run('install', '--frozen');
    assert.equal(stale.code, 2);
    assert.match(stale.stderr, /triage: freehold\.yaml says file:\.\.\/tiny-2\.0\.0.*\[LOCK_MISMATCH\]/);
    assert.equal(readFileSync(file('freehold.lock'), 'utf8'), lock);

    const locked = await run('lock');
    assert.equal(locked.code, 0, locked.stderr);
    assert.match(locked.stdout, /triage +acme\/tiny@2\.0\.0#f32 +locked, was acme\/tiny@1\.0\.0#f32/);
  });

  test('wrong usage', async () => {
    assert.equal((await run('install', 'file:../tiny-1.0.0', '--frozen')).code, 2);
    const empty = path.join(folder, 'empty');
    await mkdir(empty);
    const refused = await freehold(['add', 'acme/tiny'], { home, cwd: empty });
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /does not say where the model comes from/);
    assert.equal(existsSync(path.join(empty, 'freehold.yaml')), false);
    assert.equal(existsSync(path.join(empty, 'freehold.lock')), false);
  });

  test('the difference between two versions', async () => {
    await run('install', 'file:../tiny-1.0.0');
    await run('install', 'file:../tiny-2.0.0');
    const { stdout, stderr, code } = await run('diff', 'tiny@1.0.0', 'tiny@2.0.0');
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^acme\/tiny@1\.0\.0#f32 → acme\/tiny@2\.0\.0#f32\nthe same content\n/);
    assert.match(stdout, /an update fetches 0 B of/);
    assert.equal((await run('diff', 'tiny@1.0.0', 'tiny@9.0.0')).code, 3);
  });
});
