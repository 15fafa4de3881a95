import { constants } from 'node:fs';
import { mkdir, open, statfs } from 'node:fs/promises';
import path from 'node:path';
import { isSystemError } from './system-refusal.ts';

/** Makes a rename, link or removal in the folder survive a power cut. @throws a system error */
export async function syncFolder(folder: string): Promise<void> {
  // Has no such call and needs none.
  if (process.platform === 'win32') return;
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (thrown) {
    // Some network and FUSE file systems have no fsync for folders and need none.
    if (!isSystemError(thrown, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP')) throw thrown;
  } finally {
    await handle.close();
  }
}

/**
 * Makes the names of a folder and of those above it survive a power cut, whoever made them: flushing what is in a folder
 * does not.
 * @param levels how many names; one is the folder's own
 * @throws a system error
 */
export async function syncNames(folder: string, levels: number): Promise<void> {
  const parent = path.dirname(folder);
  if (levels === 0 || parent === folder) return;
  try {
    await syncFolder(parent);
  } catch (thrown) {
    // One may pass through a folder, and have one's own in it, without the right to open it.
    if (!isSystemError(thrown, 'EACCES', 'EPERM')) throw thrown;
  }
  await syncNames(parent, levels - 1);
}

/**
 * Makes a folder and those above it. Not by the recursive `mkdir`, which reports ENOENT where the truth is EROFS.
 * @throws a system error
 */
export async function makeFolder(folder: string, mode = 0o700): Promise<void> {
  try {
    await mkdir(folder, { mode });
  } catch (thrown) {
    if (isSystemError(thrown, 'EEXIST')) return;
    const parent = path.dirname(folder);
    if (!isSystemError(thrown, 'ENOENT') || parent === folder) throw thrown;
    await makeFolder(parent, mode);
    // Once: the parent may be a symbolic link to nowhere, which exists and does not.
    await mkdir(folder, { mode }).catch((again: unknown) => {
      if (!isSystemError(again, 'EEXIST')) throw again;
    });
  }
}

/** What an ordinary user may still write there; undefined where the system does not say. */
export async function freeBytes(folder: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
