import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
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
