import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { onFile, requirePrivate } from './durable-file.ts';

/**
 * Makes a folder with mode 0700, and those above it, unless there is one.
 * @throws ALREADY_EXISTS when a file is in its place, PERMISSION_DENIED, DISK_FULL
 */
export async function makePrivateFolder(folder: string): Promise<void> {
  await makeWithParents(folder, false);
}

/** @param hasParent known: where a new folder is ENOENT all the same (autofs, `/proc`), that is the answer */
async function makeWithParents(folder: string, hasParent: boolean): Promise<void> {
  try {
    // Not with `recursive`: on a read-only file system that reports ENOENT.
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    const reason = systemErrorCode(error);
    if (reason === 'ENOENT' && !hasParent && path.dirname(folder) !== folder) {
      await makeWithParents(path.dirname(folder), false);
      return makeWithParents(folder, true);
    }
    if (reason === 'EEXIST' && (await isFolder(folder))) return;
    if (reason === 'EEXIST' || reason === 'ENOTDIR') {
      throw new FreeholdError('ALREADY_EXISTS', `${folder} cannot be a folder: a file is in its place`, {
        cause: error,
        hint: 'choose another home with --home DIR or FREEHOLD_HOME, or move the file away',
        detail: { path: folder },
      });
    }
    await onFile('create', folder, () => Promise.reject(error));
  }
}

/** False for a link that leads nowhere as well. */
const isFolder = (file: string) =>
  stat(file).then(
    (status) => status.isDirectory(),
    () => false,
  );

/**
 * Who may write into a folder can exchange a key or the trust policy in it without touching the file itself.
 * @returns false when there is no such folder
 * @throws PERMISSION_DENIED when other users may write there, or it belongs to one of them
 */
export async function requirePrivateFolder(folder: string): Promise<boolean> {
  const status = await onFile('open', folder, () => stat(folder)).catch((error: unknown) => {
    if (error instanceof FreeholdError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  });
  if (status === undefined) return false;
  requirePrivate(folder, status, 0o022, 'chmod go-w');
  return true;
}
