import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { FreeholdError } from '../../core/base/errors.ts';

const POLL_MS = 150;
const SQLITE_BUSY = 5;

/**
 * Waits until no other process and no other caller in this one holds the lock.
 *
 * It is the file lock of an empty SQLite database: Node has no file locks of its own, and this one the kernel lets go
 * when its holder dies, so that there is never a stale lock to judge. The file stays; deleting it would let two
 * processes lock two different files of one name.
 *
 * @param onWait called once when somebody else holds it
 * @throws the signal's reason; BUSY when the file system knows no locks
 */
export async function takeFetchLock(
  path: string,
  signal: AbortSignal,
  onWait: () => void,
): Promise<Disposable> {
  const database = openDatabase(path);
  try {
    for (let isWaiting = false; !tryLock(database, path); isWaiting = true) {
      if (!isWaiting) onWait();
      await sleep(POLL_MS, undefined, { signal });
    }
  } catch (error) {
    database.close();
    throw signal.aborted ? signal.reason : error;
  }
  return { [Symbol.dispose]: () => database.close() };
}

function openDatabase(path: string): DatabaseSync {
  try {
    return new DatabaseSync(path, { timeout: 0 });
  } catch (error) {
    throw new FreeholdError('PERMISSION_DENIED', `cannot create ${path}`, { cause: error });
  }
}

function tryLock(database: DatabaseSync, path: string): boolean {
  try {
    // Nothing is ever written; a journal on disk would fail where the disk is full, and stay after a crash.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    return true;
  } catch (error) {
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return false;
    throw new FreeholdError('BUSY', `cannot lock ${path}`, {
      cause: error,
      hint: 'the cache folder must lie on a file system with file locks',
    });
  }
}
