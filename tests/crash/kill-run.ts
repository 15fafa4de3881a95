import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { withFileLock } from '../../src/io/files/file-lock.ts';
import { descendantsOf, isRunning, waitUntil } from '../fixtures/processes.ts';
import { homeIn, makeWorld } from './crash-run.ts';
import { watchFileCalls } from './file-calls.ts';
import { contentOf, type HomeContent, verifyCrashedHome } from './home-oracle.ts';
import type { CrashGround, CrashOperation } from './operations.ts';

const CHILD = path.join(import.meta.dirname, 'operation-child.ts');
const KILL_AT = path.join(import.meta.dirname, 'kill-at.ts');
/** What is promised for the child of a process that was killed. */
const ORPHAN_MS_MAX = 2_000;

/** When a process is killed. */
export type KillMoment =
  /** Before or during its Nth call that changes the disk. */
  | { readonly kind: 'call'; readonly call: number; readonly when: 'before' | 'during' }
  /** So long after its start. */
  | { readonly kind: 'time'; readonly delayMs: number }
  /** So long after it has started a child of its own. */
  | { readonly kind: 'grandchild'; readonly delayMs: number };

/** What an operation does when nobody kills it. */
export interface UndisturbedRun {
  readonly before: HomeContent;
  readonly after: HomeContent;
  /** That change the disk. */
  readonly calls: number;
}

/** Runs an operation in this process, to its end. */
export async function runUndisturbed(
  operation: CrashOperation,
  ground: CrashGround,
  folder: string,
): Promise<UndisturbedRun> {
  const world = await makeWorld(operation, ground, folder);
  const before = await contentOf(homeIn(world));
  let calls = 0;
  const stop = await watchFileCalls({
    root: world,
    observer: {
      began: () => calls++,
    },
  });
  try {
    await operation.run(ground, homeIn(world));
  } finally {
    stop();
  }
  const after = await contentOf(homeIn(world));
  fs.rmSync(world, { recursive: true });
  return { before, after, calls };
}

/**
 * Runs an operation in a process, kills that with SIGKILL, and demands of the home what `verifyCrashedHome` does; besides
 * that no lock is held and no child of the process is left.
 * @returns whether the kill came before its end
 */
export async function killOperation(
  operation: CrashOperation,
  ground: CrashGround,
  folder: string,
  { before, after }: UndisturbedRun,
  moment: KillMoment,
): Promise<boolean> {
  const world = await makeWorld(operation, ground, folder);
  const home = homeIn(world);
  const child = startOperation(operation, ground, home, moment);
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const family = await killAt(child, moment);
  const [code, signal] = await closed;
  const isKilled = signal === 'SIGKILL';
  const label = `${operation.name}, killed ${JSON.stringify(moment)}`;
  assert.ok(isKilled || code === 0, `${label}: ended with ${code ?? signal}`);
  await waitUntil(() => !family.some(isRunning), ORPHAN_MS_MAX, `${label}: a child is left`);
  try {
    await requireFreeLocks(home);
    const expected = { operation, ground, before: [before], after, home, isOtherRun: true };
    await verifyCrashedHome({ ...expected, isAtEnd: !isKilled, next: 'retry' });
  } catch (cause) {
    throw new Error(`${label}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  fs.rmSync(world, { recursive: true });
  return isKilled;
}

function startOperation(
  operation: CrashOperation,
  ground: CrashGround,
  home: string,
  moment: KillMoment,
): ChildProcess {
  const preload = pathToFileURL(KILL_AT);
  if (moment.kind === 'call') {
    preload.searchParams.set('root', path.dirname(home));
    preload.searchParams.set('call', String(moment.call));
    preload.searchParams.set('when', moment.when);
  }
  return spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      ...(moment.kind === 'call' ? ['--import', preload.href] : []),
      ...[CHILD, ground.folder, ground.url, home, operation.name],
    ],
    {
      stdio: ['ignore', 'inherit', 'inherit'],
      // Reading our sources takes most of the time otherwise.
      env: { ...process.env, NODE_COMPILE_CACHE: path.join(ground.folder, 'compiled') },
    },
  );
}

/** @returns the children that it had when it was killed */
async function killAt(child: ChildProcess, moment: KillMoment): Promise<number[]> {
  if (moment.kind === 'call') return [];
  const { pid = 0 } = child;
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  let family: number[] = [];
  if (moment.kind === 'grandchild') {
    const look = () => {
      family = descendantsOf(pid);
      return family.length > 0 || hasEnded();
    };
    await waitUntil(look, 30_000, 'it started no child');
  }
  await new Promise((resolve) => setTimeout(resolve, moment.delayMs));
  family = [...family, ...descendantsOf(pid)];
  child.kill('SIGKILL');
  return family;
}

/** The kernel has given up every lock of the dead: each can be had at once, alone. */
async function requireFreeLocks(home: string): Promise<void> {
  if (!fs.existsSync(home)) return;
  for (const name of fs.readdirSync(home, { recursive: true }) as string[]) {
    if (name.endsWith('.lock')) await withFileLock(path.join(home, name), 'exclusive', 0, async () => {});
  }
}
