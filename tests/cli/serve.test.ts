import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import {
  freehold,
  freeholdInProcess,
  outcomeOf,
  temporaryFolder,
  temporaryHome,
} from '../fixtures/freehold-home.ts';
import { waitUntil } from '../fixtures/processes.ts';
import { servedUrl, startFreehold } from '../fixtures/running-freehold.ts';
import { writeTinyAdapter } from '../fixtures/tiny-adapter.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

const LISTEN = ['serve', '--listen', '127.0.0.1:0', '--threads', '1'];

interface AnswerBody {
  readonly choices?: readonly unknown[];
  readonly error?: { readonly message: string; readonly code: string | null };
}

async function complete(url: string, model = 'tiny') {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, prompt: 'the', max_tokens: 8, temperature: 0 }),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as AnswerBody };
}

describe('freehold serve', () => {
  let home = '';
  let folder = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;

  before(async () => {
    home = await temporaryHome(suite);
    folder = await temporaryFolder(suite);
    const opened = await openFreehold({ env: {}, home });
    await installTinyPackage(opened, path.join(folder, 'tiny'));
    await installTinyPackage(opened, path.join(folder, 'other'), { name: 'acme/other' });
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  test('a pinned model makes it ready, and stays when others are unloaded after their time', async (context) => {
    const serve = startFreehold(context, [...LISTEN, '--pin', 'tiny', '--keep-alive', '1s'], { home });
    const url = await servedUrl(serve);
    const readiness = async () => {
      const response = await fetch(`${url}/readyz`);
      return { status: response.status, text: await response.text() };
    };
    const early = await readiness();
    if (early.status !== 200) assert.match(early.text, /the pinned model tiny is not loaded yet/);
    await serve.waitFor(/pinned-model-loaded model=tiny/);
    assert.deepEqual((await readiness()).status, 200);

    assert.equal((await complete(url, 'other')).status, 200);
    await serve.waitFor(/model-unloaded model=acme\/other@1\.0\.0#\S+ reason=idle/);
    assert.equal((await complete(url, 'tiny')).status, 200);
    assert.equal((await complete(url, 'other')).status, 200);
    await waitUntil(
      () => serve.stderr().match(/model-unloaded/g)?.length === 2,
      10_000,
      () => serve.stderr(),
    );
    assert.doesNotMatch(serve.stderr(), /model-unloaded model=acme\/tiny/);
    assert.equal((await serve.stop()).code, 0);
  });

  test('the number of threads is measured at the first load of a model, and remembered', async (context) => {
    const serve = startFreehold(context, ['serve', '--listen', '127.0.0.1:0'], { home });
    const url = await servedUrl(serve);
    assert.equal((await complete(url)).status, 200);
    await serve.waitFor(/threads-measured model=tiny/);
    const choices = async () =>
      JSON.parse(await readFile(path.join(home, 'cache', 'threads.json'), 'utf8')).choices;
    await waitUntil(async () => (await choices().catch(() => [])).length === 1, 5000, 'nothing was written');
    assert.equal((await serve.stop()).code, 0);
    const [first] = await choices();
    const again = startFreehold(context, ['serve', '--listen', '127.0.0.1:0'], { home });
    assert.equal((await complete(await servedUrl(again))).status, 200);
    await again.waitFor(/engine-started model=tiny/);
    assert.doesNotMatch(again.stderr(), /threads-measured/);
    assert.deepEqual(await choices(), [first]);
    assert.equal((await again.stop()).code, 0);
  });

  test('a model that cannot fit is refused with numbers, by serve and by run', async (context) => {
    const serve = startFreehold(context, [...LISTEN, '--memory', '0.1'], { home });
    const { status, headers, body } = await complete(await servedUrl(serve));
    assert.equal(status, 503);
    assert.equal(body.error?.code, 'out_of_memory');
    assert.match(
      String(body.error?.message),
      /^acme\/tiny@1\.0\.0#\S+ needs \d+ MiB \(weights 3 MiB, .*\); the budget is 103 MiB/,
    );
    assert.equal(headers.get('x-should-retry'), 'false');
    await serve.stop();

    const run = await freehold(['run', 'tiny', '--memory', '0.1', 'hello'], { home });
    assert.equal(outcomeOf(run), 'OUT_OF_MEMORY');
    assert.match(run.stderr, /the budget is 103 MiB/);
    assert.match(run.stderr, /hint: +.*--memory raises the budget/);
  });

  test('two models that do not fit together take turns', async (context) => {
    const serve = startFreehold(context, [...LISTEN, '--memory', '0.15'], { home });
    const url = await servedUrl(serve);
    for (const model of ['tiny', 'other', 'tiny']) assert.equal((await complete(url, model)).status, 200);
    assert.equal(serve.stderr().match(/model-unloaded .* reason=room/g)?.length, 2, serve.stderr());
    await serve.stop();
  });

  test('adapters are listed beside their model, and answer under their name over the one load', async (context) => {
    const file = await writeTinyAdapter(path.join(folder, 'ward7.gguf'));
    const serve = startFreehold(context, [...LISTEN, '--adapter', `tiny+ward7=${file}`], { home });
    const url = await servedUrl(serve);
    const response = await fetch(`${url}/v1/models`);
    const { data } = (await response.json()) as { data: { id: string }[] };
    assert.deepEqual(
      data.map(({ id }) => id),
      ['other', 'tiny', 'tiny+ward7'],
    );
    const [plain, adapted] = [await complete(url, 'tiny'), await complete(url, 'tiny+ward7')];
    assert.deepEqual([plain.status, adapted.status], [200, 200]);
    assert.notDeepEqual(plain.body.choices, adapted.body.choices);
    const unknown = await complete(url, 'tiny+ward8');
    assert.deepEqual([unknown.status, unknown.body.error?.code], [404, 'model_not_found']);
    assert.equal(serve.stderr().match(/engine-started/g)?.length, 1);
    await serve.stop();

    const run = await freehold(['run', 'tiny+ward7', '--adapter', `tiny+ward7=${file}`, 'the'], { home });
    assert.equal(outcomeOf(run), 'success');
  });

  test('what it is told to load must be there before it serves', async () => {
    for (const [args, code] of [
      [['--pin', 'tinny'], 'MODEL_NOT_FOUND'],
      [['--adapter', 'tiny+ward7=missing.gguf'], 'NOT_FOUND'],
      [['--adapter', 'nothing'], 'USAGE'],
      [['--keep-alive', '5'], 'USAGE'],
      [['--parallel', '0'], 'USAGE'],
      [['--memory', '0'], 'USAGE'],
      [['--queue-timeout', '-1'], 'USAGE'],
    ] as const) {
      const result = await freeholdInProcess([...LISTEN, ...args], home);
      assert.equal(outcomeOf(result), code, args.join(' '));
      assert.equal(result.stdout, '');
    }
    assert.equal(outcomeOf(await freeholdInProcess(['run', 'tiny', '--parallel', '4', 'x'], home)), 'USAGE');
  });
});
