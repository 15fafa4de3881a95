import { withFileLock } from '../files/file-lock.ts';

/** Whoever holds the lock writes a file or two of a few hundred bytes; a slow disk may take seconds to sync. */
const LOCK_TIMEOUT_MS = 15_000;

/** Runs work as the only writer of one home's keys, trust, channels and feeds, in this process and in others. */
export type HomeLock = <Result>(work: () => Promise<Result>) => Promise<Result>;

/** @throws BUSY after 15 s, PERMISSION_DENIED, PLATFORM_UNSUPPORTED where the file system cannot lock */
export function homeLock(file: string): HomeLock {
  return (work) => withFileLock(file, 'exclusive', LOCK_TIMEOUT_MS, work);
}
