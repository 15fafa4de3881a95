import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FreeholdError } from '../../core/base/errors.ts';
import { makeFolder } from './folder.ts';
import { isSystemError, systemRefusal } from './system-refusal.ts';

/** Any number of holders, or exactly one. */
export type LockMode = 'shared' | 'exclusive';

/** Polling begins here, since an index update takes about a millisecond, … */
const POLL_MS_MIN = 2;
/** … and slows down to this, since a gc may take seconds. */
const POLL_MS_MAX = 100;

// flock(2), "sys/file.h": the same numbers on Linux, macOS and the BSDs.
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

export interface LockWaiting {
  readonly signal?: AbortSignal;
  /** Called once when somebody else holds the lock. */
  readonly onWait?: () => void;
}

/** flock(2), with what it says when it fails. */
interface Flock {
  call(fd: number, operation: number): number;
  /** Of the last call. */
  errno(): number;
  /** Numbers that mean: held by somebody, or interrupted. Anything else will not go away by waiting. */
  readonly contended: readonly (number | undefined)[];
}

let loadedFlock: Promise<Flock> | undefined;

/**
 * Runs `work` while holding flock(2) on `file`. The kernel gives the lock up when the process dies, however it dies,
 * so none is ever stale and the file is never removed (removing it would let two processes lock two files of one
 * name). Each call opens the file anew: two calls in one process exclude each other as two processes do.
 * @param timeoutMs may be infinite where `waiting` has a signal
 * @throws BUSY when it is not free within `timeoutMs`, PERMISSION_DENIED, DISK_FULL, PLATFORM_UNSUPPORTED where the file
 *   system cannot lock; the signal's reason
 */
export async function withFileLock<T>(
  file: string,
  mode: LockMode,
  timeoutMs: number,
  work: () => Promise<T>,
  waiting: LockWaiting = {},
): Promise<T> {
  loadedFlock ??= loadFlock();
  const flock = await loadedFlock;
  const handle = await openLockFile(file);
  try {
    await waitForLock(flock, handle.fd, { ...waiting, file, mode, timeoutMs });
    return await work();
  } finally {
    // Explicitly, not only by close: a child that is being forked right now shares the open file until its exec.
    flock.call(handle.fd, LOCK_UN);
    await handle.close();
  }
}

async function openLockFile(file: string): Promise<FileHandle> {
  try {
    await makeFolder(path.dirname(file));
    return await open(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (thrown) {
    const refusal = systemRefusal(thrown, 'lock', file);
    if (refusal !== undefined || !isSystemError(thrown, 'ELOOP', 'EISDIR', 'ENOTDIR'))
      throw refusal ?? thrown;
    throw new FreeholdError('PERMISSION_DENIED', `cannot lock ${file}: something else lies in its place`, {
      cause: thrown,
      hint: 'move it away',
      detail: { path: file },
    });
  }
}

interface LockOrder extends LockWaiting {
  readonly file: string;
  readonly mode: LockMode;
  readonly timeoutMs: number;
}

async function waitForLock(flock: Flock, fd: number, order: LockOrder): Promise<void> {
  const { file, mode, timeoutMs, signal, onWait } = order;
  const operation = (mode === 'shared' ? LOCK_SH : LOCK_EX) | LOCK_NB;
  const deadline = performance.now() + timeoutMs;
  for (
    let pauseMs = POLL_MS_MIN;
    flock.call(fd, operation) !== 0;
    pauseMs = Math.min(pauseMs * 2, POLL_MS_MAX)
  ) {
    requireContention(flock, file);
    if (pauseMs === POLL_MS_MIN) onWait?.();
    if (performance.now() >= deadline) throw await busyError(file, mode, timeoutMs);
    // Half fixed, half random, so that waiting processes do not step in unison.
    await sleep(
      pauseMs / 2 + (Math.random() * pauseMs) / 2,
      undefined,
      signal === undefined ? {} : { signal },
    ).catch(() => signal?.throwIfAborted());
  }
}

function requireContention(flock: Flock, file: string): void {
  const errno = flock.errno();
  if (flock.contended.includes(errno)) return;
  throw new FreeholdError('PLATFORM_UNSUPPORTED', `the file system cannot lock ${file} (errno ${errno})`, {
    hint: 'put the home on a local file system',
    detail: { path: file, errno },
  });
}

async function busyError(file: string, mode: LockMode, timeoutMs: number): Promise<FreeholdError> {
  const holders = await lockHolders(file);
  const who = holders.length === 0 ? 'another process' : `process ${holders.join(', ')}`;
  return new FreeholdError('BUSY', `${file} is locked by ${who}; waited ${timeoutMs} ms`, {
    detail: { lock: file, mode, waitedMs: timeoutMs, holders: holders.join(' ') },
  });
}

/** The processes that hold the lock, as far as Linux tells (`/proc/locks`); for the message only. */
async function lockHolders(file: string): Promise<number[]> {
  try {
    const [table, handle] = [await readFile('/proc/locks', 'utf8'), await open(file)];
    const { ino } = await handle.stat().finally(() => handle.close());
    const held = table.split('\n').filter((line) => line.includes(' FLOCK ') && line.includes(`:${ino} `));
    const processes = held.map((line) => Number(/(\d+) [0-9a-f]+:[0-9a-f]+:\d+ /.exec(line)?.[1] ?? 0));
    return [...new Set(processes)].filter((id) => id > 0);
  } catch {
    return [];
  }
}

/** Loaded with the first lock: whoever only reads a home needs none, and it takes a tenth of his start. */
async function loadFlock(): Promise<Flock> {
  try {
    const { default: koffi } = await import('koffi');
    // The C library that this process runs with already, whichever it is (glibc, musl, libSystem).
    const call = koffi.load(null).func('int flock(int fd, int operation)') as Flock['call'];
    const { EAGAIN, EINTR } = koffi.os.errno;
    return { call, errno: () => koffi.errno(), contended: [EAGAIN, EINTR] };
  } catch (cause) {
    throw new FreeholdError('PLATFORM_UNSUPPORTED', 'this system has no flock(2)', { cause });
  }
}
