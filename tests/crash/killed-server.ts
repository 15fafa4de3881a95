import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import OpenAI from 'openai';
import { withFileLock } from '../../src/io/files/file-lock.ts';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { descendantsOf, isRunning, waitUntil } from '../fixtures/processes.ts';
import { type RunningFreehold, servedUrl, startFreehold } from '../fixtures/running-freehold.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

/** What is promised for an engine whose parent was killed. */
export const ORPHAN_MS_MAX = 2_000;
export const WAIT_MS = 20_000;
const MESSAGES = [{ role: 'user' as const, content: 'hello' }];
export const SHORT = { messages: MESSAGES, temperature: 0, max_tokens: 3 };
/** Random weights say anything, so the tokens that end an answer (0 to 2) are forbidden: an answer of seconds. */
export const LONG = {
  messages: MESSAGES,
  temperature: 1,
  max_tokens: 8000,
  logit_bias: { '0': -100, '1': -100, '2': -100 },
};

/** A home with models of the names `tiny-0`, `tiny-1`, …; they share their weights. */
export async function homeWithModels(context: Pick<TestContext, 'after'>, count: number): Promise<string> {
  const home = await temporaryHome(context);
  const freehold = await openFreehold({ env: {}, home });
  const project = await temporaryFolder(context);
  for (let number = 0; number < count; number++) {
    const model = { contextTokens: 8192 };
    await installTinyPackage(freehold, project, { name: `acme/tiny-${number}`, model });
  }
  return home;
}

export interface ServedHome {
  readonly running: RunningFreehold;
  readonly url: string;
  readonly client: OpenAI;
}

export async function serveHome(
  context: TestContext,
  home: string,
  listen = '127.0.0.1:0',
): Promise<ServedHome> {
  const running = startFreehold(context, ['serve', '--listen', listen], { home });
  const url = await servedUrl(running);
  return { running, url, client: new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0 }) };
}

/** Asks for three tokens. */
export async function answerOf(client: OpenAI, model: string): Promise<void> {
  const answer = await client.chat.completions.create({ ...SHORT, model });
  assert.equal(answer.usage?.completion_tokens, 3);
}

/**
 * After a server was killed: its engines are gone, nobody holds a file of its home or its memory files, every lock is
 * free, and another server can take its address and serve.
 * @param held what `heldFiles` said of the server and its engines before
 */
export async function requireNothingLeft(
  context: TestContext,
  {
    home,
    url,
    family,
    held,
  }: { home: string; url: string; family: readonly number[]; held: ReadonlySet<string> },
): Promise<void> {
  await waitUntil(() => !family.some(isRunning), ORPHAN_MS_MAX, 'an engine outlived its server');
  const left = [...heldFiles(everyProcess(), home)].filter((file) => held.has(file));
  assert.deepEqual(left, [], 'files that somebody still holds open');
  for (const name of fs.readdirSync(home, { recursive: true }) as string[]) {
    if (name.endsWith('.lock')) await withFileLock(path.join(home, name), 'exclusive', 0, async () => {});
  }
  const next = await serveHome(context, home, new URL(url).host);
  await answerOf(next.client, 'tiny-0');
  await next.running.stop();
}

/** Open files below a folder, and files in memory (memfd), by device, inode and name. */
export function heldFiles(pids: readonly number[], folder: string): Set<string> {
  const held = new Set<string>();
  for (const pid of pids) {
    for (const fd of openDescriptors(pid)) {
      const link = `/proc/${pid}/fd/${fd}`;
      try {
        const name = fs.readlinkSync(link);
        const { dev, ino } = fs.statSync(link);
        if (name.startsWith(folder) || /^\/(memfd:|dev\/shm\/)/.test(name)) held.add(`${dev}:${ino} ${name}`);
      } catch {
        // Closed meanwhile.
      }
    }
  }
  return held;
}

export function openDescriptors(pid: number): string[] {
  try {
    return fs.readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}

const everyProcess = (): number[] =>
  fs
    .readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0);

/** Kills the engine of a server between two requests, waits until the server has noticed, and leaves no zombie. */
export async function killEngine(running: RunningFreehold): Promise<void> {
  const engines = descendantsOf(running.pid);
  assert.ok(engines.length > 0, 'there is an engine');
  for (const engine of engines) process.kill(engine, 'SIGKILL');
  const isGone = () => engines.every((engine) => !descendantsOf(running.pid).includes(engine));
  await waitUntil(isGone, WAIT_MS, 'the dead engine was not collected');
}
