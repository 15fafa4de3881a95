import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { systemRefusal } from '../files/system-refusal.ts';

/**
 * Runs work on the disk and turns what the operating system throws into an error that names the path.
 * Only the store's own system calls may run inside: an error of a caller's stream must pass through unchanged.
 * @param action what was tried, for the message: `write`
 * @throws DISK_FULL, PERMISSION_DENIED, STORE_CORRUPT, or the original error
 */
export async function onDisk<T>(action: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw diskError(thrown, action, path);
  }
}

function diskError(thrown: unknown, action: string, path: string): unknown {
  if (thrown instanceof FreeholdError) return thrown;
  const refusal = systemRefusal(thrown, action, path);
  if (refusal !== undefined) return refusal;
  const reason = systemErrorCode(thrown);
  switch (reason) {
    case 'EIO':
    // Whoever expects an absent file deals with it before it comes here: somebody removed a part of the store.
    case 'ENOENT':
    case 'EISDIR':
    case 'ENOTDIR':
    case 'ENOTEMPTY':
    case 'ELOOP':
      return corrupt(path, `cannot ${action} it (${reason})`, thrown);
    default:
      return thrown;
  }
}

/** The store is not as it must be: STORE_CORRUPT with path and reason. */
export function corrupt(file: string, reason: string, cause?: unknown): FreeholdError {
  return new FreeholdError('STORE_CORRUPT', `${file}: ${reason}`, { cause, detail: { path: file, reason } });
}
