import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { descendantsOf, isRunning, waitUntil } from '../fixtures/processes.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import {
  answerOf,
  heldFiles,
  homeWithModels,
  killEngine,
  LONG,
  ORPHAN_MS_MAX,
  openDescriptors,
  requireNothingLeft,
  SHORT,
  serveHome,
  WAIT_MS,
} from './killed-server.ts';

/** A third death of one model within a minute would make its next start wait. */
const KILLS_OF_A_MODEL = 2;

export interface KilledServerOptions {
  /** Of which each one's engine is killed twice; at least two. */
  readonly models: number;
  /** So long after the first process of a load has been seen, the server or that process is killed. */
  readonly delaysMs: readonly number[];
}

export function killedServerSuite({ models, delaysMs }: KilledServerOptions): void {
  describe('a killed server leaves nothing', { skip: skipUnlessCi(llamaLibraryMissing()) }, () => {
    let home = '';
    const cleanups: (() => unknown)[] = [];

    before(async () => {
      home = await homeWithModels({ after: (cleanup) => cleanups.push(cleanup as () => unknown) }, models);
    });
    after(async () => {
      for (const cleanup of cleanups.toReversed()) await cleanup();
    });

    test('kill -9 with loaded models', async (context) => {
      const { running, client, url } = await serveHome(context, home);
      await answerOf(client, 'tiny-0');
      await answerOf(client, 'tiny-1');
      const family = descendantsOf(running.pid);
      const held = heldFiles([running.pid, ...family], home);
      assert.ok(held.size > 0, 'an engine holds its weights');
      await running.stop('SIGKILL');
      await requireNothingLeft(context, { home, url, family, held });
    });

    test('kill -9 while a model is being loaded', async (context) => {
      for (const delayMs of delaysMs) {
        const { running, client, url } = await serveHome(context, home);
        const asked = client.chat.completions.create({ ...SHORT, model: 'tiny-0' }).catch(() => {});
        const family = await familyWhileLoading(running.pid, delayMs);
        const held = heldFiles([running.pid, ...family], home);
        await running.stop('SIGKILL');
        await asked;
        await requireNothingLeft(context, { home, url, family, held });
      }
    });

    test('a launcher that is killed is a clear error, and the next request loads', async (context) => {
      for (const delayMs of delaysMs) {
        const { running, client } = await serveHome(context, home);
        const asked = client.chat.completions.create({ ...SHORT, model: 'tiny-0' }).then(
          () => undefined,
          (error: unknown) => error,
        );
        await familyWhileLoading(running.pid, delayMs);
        // Whichever stage it has come to.
        await killEngine(running);
        const error = await asked;
        // It was started once more, or: SIGKILL during a load is how the kernel ends who takes too much memory.
        if (error !== undefined) {
          assert.ok(error instanceof OpenAI.APIError, String(error));
          assert.match(String(error.code), /^(engine_lost|engine_failed|out_of_memory)$/);
        }
        await answerOf(client, 'tiny-0');
        await running.stop();
      }
    });

    test('descriptors stay flat over kills of engines, and none becomes a zombie', async (context) => {
      const { running, client } = await serveHome(context, home);
      const counts: number[] = [];
      for (let number = 0; number < models; number++) {
        await answerOf(client, `tiny-${number}`);
        for (let kill = 0; kill < KILLS_OF_A_MODEL; kill++) {
          await killEngine(running);
          counts.push(openDescriptors(running.pid).length);
          if (kill + 1 < KILLS_OF_A_MODEL) await answerOf(client, `tiny-${number}`);
        }
      }
      context.diagnostic(`descriptors after each kill: ${counts.join(' ')}`);
      const [first = 0] = counts;
      // One more may be a connection of the client that has not ended yet.
      assert.ok(Math.max(...counts) <= first + 1, counts.join(' '));
      await running.stop();
    });

    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      test(`${signal} while a model is being loaded, and in the middle of a stream`, async (context) => {
        const loading = await serveHome(context, home);
        const asked = loading.client.chat.completions.create({ ...SHORT, model: 'tiny-0' }).catch(() => {});
        const starting = await familyWhileLoading(loading.running.pid, 50);
        await stopTwice(loading, signal);
        await asked;
        await requireEnded(starting);

        const streaming = await serveHome(context, home);
        const stream = await streaming.client.chat.completions.create({
          ...LONG,
          model: 'tiny-0',
          stream: true,
        });
        await stream[Symbol.asyncIterator]().next();
        const family = descendantsOf(streaming.running.pid);
        assert.ok(family.length > 0);
        await stopTwice(streaming, signal);
        await requireEnded(family);
      });
    }
  });
}

/** Once is a request that answers may end in; twice is an order. */
async function stopTwice({ running }: Awaited<ReturnType<typeof serveHome>>, signal: NodeJS.Signals) {
  running.process.kill(signal);
  await running.waitFor(/stopping/);
  await running.stop(signal);
}

async function requireEnded(family: readonly number[]): Promise<void> {
  await waitUntil(() => !family.some(isRunning), ORPHAN_MS_MAX, 'an engine outlived its server');
}

/** The processes of a server that has just been asked for a model, so long after the first of them was seen. */
async function familyWhileLoading(pid: number, delayMs: number): Promise<number[]> {
  await waitUntil(() => descendantsOf(pid).length > 0, WAIT_MS, 'nothing was started');
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  return descendantsOf(pid);
}
