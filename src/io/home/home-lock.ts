import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import koffi from 'koffi';
import { FreeholdError } from '../../core/base/errors.ts';
import { onFile } from './durable-file.ts';

/** Whoever holds the lock writes a file or two of a few hundred bytes; a slow disk may take seconds to sync. */
const LOCK_TIMEOUT_MS = 15_000;
const POLL_MS_MIN = 2;
const POLL_MS_MAX = 50;

// flock(2), "sys/file.h": the same numbers on Linux, macOS and the BSDs.
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

/** Runs work as the only writer of one home's keys and trust. */
export type HomeLock = <Result>(work: () => Promise<Result>) => Promise<Result>;

/**
 * Runs `work` as the only writer of keys and trust, in this process and in others. The kernel releases the lock when
 * a process dies, so it is never stale; the file stays.
 * @throws BUSY after 15 s, PERMISSION_DENIED, PLATFORM_UNSUPPORTED where the file system cannot lock
 */
export async function withHomeLock<Result>(file: string, work: () => Promise<Result>): Promise<Result> {
  const flock = koffi.load(null).func('int flock(int fd, int operation)') as (
    fd: number,
    operation: number,
  ) => number;
  // Opened anew by each call: two calls in one process exclude each other as two processes do.
  const handle = await onFile('lock', file, () =>
    open(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600),
  );
  try {
    const deadline = performance.now() + LOCK_TIMEOUT_MS;
    for (
      let pauseMs = POLL_MS_MIN;
      flock(handle.fd, LOCK_EX | LOCK_NB) !== 0;
      pauseMs = Math.min(pauseMs * 2, POLL_MS_MAX)
    ) {
      requireContention(file);
      if (performance.now() >= deadline) {
        throw new FreeholdError('BUSY', `${file} is locked by another process; waited ${LOCK_TIMEOUT_MS} ms`);
      }
      await sleep(pauseMs);
    }
    return await work();
  } finally {
    // Not only by close: a child that is being forked right now shares the open file until its exec.
    flock(handle.fd, LOCK_UN);
    await handle.close();
  }
}

/** Only "held by somebody" and "interrupted" go away by waiting. */
function requireContention(file: string): void {
  const errno = koffi.errno();
  if (errno === koffi.os.errno.EAGAIN || errno === koffi.os.errno.EINTR) return;
  throw new FreeholdError('PLATFORM_UNSUPPORTED', `the file system cannot lock ${file} (errno ${errno})`, {
    hint: 'put the home on a local file system',
  });
}
