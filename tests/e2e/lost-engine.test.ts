import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import OpenAI from 'openai';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { descendantsOf, isRunning, waitUntil } from '../fixtures/processes.ts';
import { servedUrl, startFreehold } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

/** What is promised for an engine whose parent was killed. */
const ORPHAN_MS_MAX = 2_000;
const WAIT_MS = 10_000;
/** So long a stop waits for running answers. */
const GRACE_MS = 5_000;
const MESSAGES = [{ role: 'user' as const, content: 'hello' }];
/** Random weights say anything, so the tokens that end an answer (0 to 2) are forbidden: an answer of seconds. */
const LONG = {
  model: 'tiny',
  messages: MESSAGES,
  temperature: 1,
  max_tokens: 8000,
  logit_bias: { '0': -100, '1': -100, '2': -100 },
};
const SHORT = { model: 'tiny', messages: MESSAGES, temperature: 0, max_tokens: 3 };

describe('processes that are killed', { skip: skipUnlessCi(llamaLibraryMissing()) }, () => {
  let home = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;

  before(async () => {
    home = await temporaryHome(suite);
    await installTinyPackage(await openFreehold({ env: {}, home }), await temporaryFolder(suite), {
      model: { contextTokens: 8192 },
    });
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  async function serve(context: TestContext) {
    const running = startFreehold(context, ['serve', '--listen', '127.0.0.1:0'], { home });
    const url = await servedUrl(running);
    const client = new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0 });
    return { running, url, client };
  }

  test('kill -9 of the server in the middle of an answer leaves no engine', async (context) => {
    const { running, client } = await serve(context);
    const stream = await client.chat.completions.create({ ...LONG, stream: true });
    const events = stream[Symbol.asyncIterator]();
    await events.next();
    const family = descendantsOf(running.pid);
    assert.equal(family.length, 1);
    await running.stop('SIGKILL');
    const tookMs = await waitUntil(
      () => !family.some(isRunning),
      ORPHAN_MS_MAX,
      'the engine outlived its parent',
    );
    context.diagnostic(`the engine ended after ${Math.round(tookMs)} ms`);
    await assert.rejects(async () => {
      for (;;) if ((await events.next()).done === true) break;
    });
  });

  test('kill -9 of the engine ends the stream with an error event, and the next request works', async (context) => {
    const { running, client } = await serve(context);
    const stream = await client.chat.completions.create({ ...LONG, stream: true });
    let error: unknown;
    let chunks = 0;
    let finish: string | null | undefined;
    try {
      for await (const chunk of stream) {
        finish = chunk.choices[0]?.finish_reason;
        if (++chunks === 3) killEngine(running.pid);
      }
    } catch (thrown) {
      error = thrown;
    }
    assert.ok(error instanceof OpenAI.APIError, `${error}, after ${chunks} chunks, finish_reason ${finish}`);
    assert.equal(error.code, 'engine_lost');
    assert.equal((await client.chat.completions.create(SHORT)).usage?.completion_tokens, 3);
    await running.stop();
  });

  test('kill -9 of the engine answers 503 with retry-after, and the next request works', async (context) => {
    const { running, client, url } = await serve(context);
    await client.chat.completions.create(SHORT);
    const asked = fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(LONG),
    });
    await new Promise((resolve) => setTimeout(resolve, 150));
    killEngine(running.pid);
    const response = await asked;
    const body = (await response.json()) as { error: { code: string; message: string } };
    assert.equal(response.status, 503, JSON.stringify(body));
    assert.equal(body.error.code, 'engine_lost');
    assert.match(response.headers.get('retry-after') ?? '', /^\d+$/);
    assert.equal((await client.chat.completions.create(SHORT)).usage?.completion_tokens, 3);

    // Between two requests nobody is hurt.
    killEngine(running.pid);
    await waitUntil(() => descendantsOf(running.pid).length === 0, WAIT_MS, 'the engine is still there');
    assert.equal((await client.chat.completions.create(SHORT)).usage?.completion_tokens, 3);
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
    await running.stop();
  });

  test('a client that goes away frees the engine for the next one', async (context) => {
    const { running, client } = await serve(context);
    await client.chat.completions.create(SHORT);
    for (let round = 0; round < 3; round++) {
      const gone = new AbortController();
      const stream = await client.chat.completions.create({ ...LONG, stream: true }, { signal: gone.signal });
      for await (const _ of stream) break;
      gone.abort();
    }
    const startMs = performance.now();
    await client.chat.completions.create(SHORT);
    const tookMs = performance.now() - startMs;
    assert.ok(tookMs < 3_000, `${tookMs} ms behind answers that nobody reads`);
    // A client of this kind has opened a connection ahead of its next request.
    const stoppedAtMs = performance.now();
    await running.stop();
    const stopMs = performance.now() - stoppedAtMs;
    assert.ok(stopMs < GRACE_MS, `stopped after ${stopMs} ms`);
  });

  test('SIGTERM lets a running answer end; a second one does not wait', async (context) => {
    const { running, client } = await serve(context);
    const answer = client.chat.completions.create({ ...LONG, max_tokens: 40 });
    await waitUntil(() => descendantsOf(running.pid).length > 0, WAIT_MS, 'no engine');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ended = running.stop('SIGTERM');
    assert.equal((await answer).usage?.completion_tokens, 40);
    assert.deepEqual(await ended, { code: 0, signal: null });

    const { running: impatient, client: other } = await serve(context);
    const stream = await other.chat.completions.create({ ...LONG, stream: true });
    await stream[Symbol.asyncIterator]().next();
    const family = descendantsOf(impatient.pid);
    impatient.process.kill('SIGTERM');
    await impatient.waitFor(/stopping/);
    const { code } = await impatient.stop('SIGTERM');
    assert.equal(code, 130);
    await waitUntil(() => !family.some(isRunning), WAIT_MS, 'the engine is left');
  });
});

function killEngine(serverPid: number): void {
  const [engine] = descendantsOf(serverPid);
  assert.ok(engine !== undefined, 'there is an engine');
  process.kill(engine, 'SIGKILL');
}
