import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import OpenAI from 'openai';
import { freehold, outcomeOf, temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { descendantsOf, isRunning, processStatus, waitUntil } from '../fixtures/processes.ts';
import { realModel } from '../fixtures/real-models.ts';
import { type RunningFreehold, servedUrl, startFreehold } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';

const STARTER = 'smollm2-135m-instruct';
const LISTEN = ['--listen', '127.0.0.1:0'];
/** The promise is 3 s on an idle machine; tests share theirs with other tests. */
const SECOND_START_MS_MAX = 15_000;
/** Temperature 0 and an answer that nobody could know. */
const SECRET = '7261';
const SECRET_QUESTION = `The access code is ${SECRET}. What is the access code?`;
const WAIT_MS = 10_000;

const UNSHARE_MISSING =
  process.getuid?.() === 0 && spawnSync('unshare', ['--net', 'true']).status === 0
    ? undefined
    : 'needs root and unshare, to cut the network';

describe('freehold up', () => {
  let home = '';
  let folder = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;

  before(async () => {
    await realModel(STARTER);
    home = await temporaryHome(suite);
    folder = await temporaryFolder(suite);
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  test('on an empty home: fetches with progress, asks, answers, serves, and stops clean', async (context) => {
    const up = startFreehold(context, ['up', ...LISTEN], { home });
    const url = await servedUrl(up);
    await up.waitFor(/Ctrl-C stops/);
    context.diagnostic(`first start: ${Math.round(performance.now() - up.startedAtMs)} ms`);
    assert.match(up.stderr(), new RegExp(`^${STARTER}: from file `, 'm'));
    assert.match(up.stderr(), /100 % {2}93\.8 MiB of 93\.8 MiB {2}[\d.]+ [KMG]iB\/s/);
    assert.match(up.stderr(), /is now installed, signature and digests verified/);
    assert.match(up.stderr(), /✓ loaded, in a sandbox /);
    assert.match(up.stderr(), /^> \S.+$/m, 'the question is shown');
    assert.match(up.stderr(), /^\d+ tokens, \d+\.\d tokens\/s, prompt \d+ tokens in \d+\.\d s$/m);
    const answer = up.stdout().slice(0, up.stdout().indexOf('\n\nserving'));
    assert.match(answer, /\w+ \w+ \w+/);

    await assertCurlLineWorks(up);
    await assertClientWorks(url);
    await assertStopsClean(up, url);
    assert.match(await listedText(), /catalog\/smollm2-135m-instruct +1\.0\.0 +q4_1/);
  });

  test('the second time: nothing is fetched, and it is quick', async (context) => {
    const up = startFreehold(context, ['up', ...LISTEN], { home });
    await up.waitFor(/✓ loaded/);
    const loadedMs = performance.now() - up.startedAtMs;
    await servedUrl(up);
    const servingMs = performance.now() - up.startedAtMs;
    context.diagnostic(
      `second start: loaded after ${Math.round(loadedMs)} ms, serving after ${Math.round(servingMs)} ms`,
    );
    assert.ok(servingMs < SECOND_START_MS_MAX, `${servingMs} ms`);
    assert.doesNotMatch(up.stderr(), / from |%/);
    assert.match(up.stderr(), /is installed, signature/);
    assert.deepEqual(await up.stop('SIGINT'), { code: 0, signal: null });
  });

  test('a question whose answer stands only in the prompt is answered from it, by run and over HTTP', async (context) => {
    const asked = await freehold(
      ['run', STARTER, '--temperature', '0', '--max-tokens', '30', SECRET_QUESTION],
      { home },
    );
    assert.equal(asked.code, 0, asked.stderr);
    assert.match(asked.stdout, new RegExp(SECRET));
    const other = await freehold(
      ['run', STARTER, '--temperature', '0', '--max-tokens', '30', SECRET_QUESTION.replace(SECRET, '4938')],
      { home },
    );
    assert.match(other.stdout, /4938/);
    assert.doesNotMatch(other.stdout, new RegExp(SECRET));

    const serve = startFreehold(context, ['serve', ...LISTEN], { home });
    const client = clientOf(await servedUrl(serve));
    const completion = await client.chat.completions.create({
      model: STARTER,
      messages: [{ role: 'user', content: SECRET_QUESTION }],
      temperature: 0,
      max_tokens: 30,
    });
    assert.match(completion.choices[0]?.message.content ?? '', new RegExp(SECRET));
    await serve.stop();
  });

  test('with the network cut it starts and answers again', {
    skip: skipUnlessCi(UNSHARE_MISSING),
  }, async (context) => {
    for (const options of [[], ['--offline']]) {
      const cut = ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];
      const up = startFreehold(context, ['up', ...LISTEN, ...options], { home, behind: cut });
      const url = await servedUrl(up);
      await up.waitFor(/Ctrl-C stops/);
      const inside = (command: string) =>
        spawnSync('nsenter', ['-t', `${up.pid}`, '-n', 'sh', '-c', command], { encoding: 'utf8' });
      assert.match(inside('ip -o link').stdout, /^1: lo: [^\n]*\n$/, 'there is no other interface');
      assert.match(inside(`curl -sS ${url}/healthz`).stdout, /ok/);
      const answered = inside(`${curlLineOf(up)} -sS --fail-with-body`);
      assert.match(answered.stdout, /"content":"[^"]+/, answered.stdout + answered.stderr);
      assert.deepEqual(await up.stop(), { code: 0, signal: null });
    }
  });

  test('offline and with an empty home it says so at once', async (context) => {
    const empty = await temporaryFolder(context);
    const up = await freehold(['up', '--offline'], { home: path.join(empty, 'home'), cwd: empty });
    assert.equal(outcomeOf(up), 'OFFLINE');
    assert.equal(up.code, 6);
    assert.equal(up.stdout, '');
    const listed = await freehold(['list', '--json'], { home: path.join(empty, 'home'), cwd: empty });
    assert.equal(listed.stdout, '[]\n');
  });

  test('with --json every line of stdout is one JSON event, and the last one says where it serves', async (context) => {
    const up = startFreehold(context, ['--json', 'up', ...LISTEN], { home });
    await up.waitFor(/"kind":"serving".*\n/);
    const events = up
      .stdout()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; url?: string });
    assert.match(events.at(-1)?.url ?? '', /^http:\/\/127\.0\.0\.1:\d+\/v1$/);
    assert.ok(events.some(({ kind }) => kind === 'text'));
    await up.stop();
  });

  test('the engine child runs without rights, without environment and filtered', async (context) => {
    const serve = startFreehold(context, ['serve', ...LISTEN], { home, env: { SECRET_OF_PARENT: 'x' } });
    const client = clientOf(await servedUrl(serve));
    await client.completions.create({ model: STARTER, prompt: 'Once', max_tokens: 1 });
    const [child, ...more] = descendantsOf(serve.pid);
    assert.ok(child !== undefined);
    assert.deepEqual(more, []);
    assert.equal(processStatus(child, 'NoNewPrivs'), '1');
    assert.equal(processStatus(child, 'Seccomp'), '2');
    const { size } = await stat(`/proc/${child}/environ`);
    assert.equal(size, 0);
    const files = await readdir(`/proc/${child}/fd`).catch(() => []);
    assert.ok(files.length < 64, `${files.length} descriptors`);
    await serve.stop();
  });

  async function listedText(): Promise<string> {
    return (await freehold(['list'], { home })).stdout;
  }

  /** The line that it prints, given to a shell as a user would. */
  async function assertCurlLineWorks(up: RunningFreehold): Promise<void> {
    const curl = spawn('sh', ['-c', `${curlLineOf(up)} -sS --fail-with-body`], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = (await curl.stdout.setEncoding('utf8').toArray()).join('');
    const answer = JSON.parse(output) as OpenAI.ChatCompletion;
    assert.equal(answer.object, 'chat.completion', output);
    assert.match(answer.choices[0]?.message.content ?? '', /\w+ \w+/);
  }
});

function curlLineOf(up: RunningFreehold): string {
  return /^curl http.*$/m.exec(up.stdout())?.[0] ?? assert.fail(`no curl line:\n${up.stdout()}`);
}

function clientOf(url: string): OpenAI {
  return new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0 });
}

async function assertClientWorks(url: string): Promise<void> {
  const client = clientOf(url);
  const models = (await client.models.list()).data.map(({ id }) => id);
  assert.deepEqual(models, [STARTER]);
  const request = {
    model: STARTER,
    messages: [{ role: 'user' as const, content: 'Count from one to five.' }],
    temperature: 0,
    max_tokens: 24,
  };
  const whole = await client.chat.completions.create(request);
  const text = whole.choices[0]?.message.content ?? '';
  assert.notEqual(text, '');
  assert.ok((whole.usage?.completion_tokens ?? 0) > 1);
  let streamed = '';
  let chunks = 0;
  for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
    streamed += chunk.choices[0]?.delta.content ?? '';
    chunks++;
  }
  assert.equal(streamed, text, 'the same answer, piece by piece');
  assert.ok(chunks > 3, `${chunks} chunks`);
  const completion = await client.completions.create({
    model: STARTER,
    prompt: 'The capital of France is',
    temperature: 0,
    max_tokens: 4,
  });
  assert.match(completion.choices[0]?.text ?? '', /Paris/);
  await assert.rejects(
    client.embeddings.create({ model: STARTER, input: 'hello' }),
    (error: unknown) => error instanceof OpenAI.BadRequestError && /embed/.test(error.message),
  );
}

async function assertStopsClean(up: RunningFreehold, url: string): Promise<void> {
  const family = descendantsOf(up.pid);
  assert.equal(family.length, 1, 'one model, one child process');
  const ending = await up.stop('SIGTERM');
  assert.deepEqual(ending, { code: 0, signal: null }, up.stderr());
  await waitUntil(() => family.every((pid) => !isRunning(pid)), WAIT_MS, 'a child process is left');
  const { port, hostname } = new URL(url);
  const refused = await new Promise<string | undefined>((resolve) => {
    const socket = connect(Number(port), hostname, () => resolve(undefined));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  assert.equal(refused, 'ECONNREFUSED');
}
