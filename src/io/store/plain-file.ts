import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { corrupt, isSystemError, onDisk } from './disk-error.ts';

/**
 * A small file of the store in one piece; never through a symbolic link.
 * @throws STORE_CORRUPT when it is absent, not a plain file or larger than `bytesMax`
 */
export async function readSmallFile(file: string, bytesMax: number): Promise<Buffer> {
  return onDisk('read', file, async () => {
    let handle: FileHandle;
    try {
      handle = await openPlainFile(file);
    } catch (thrown) {
      if (isSystemError(thrown, 'ENOENT', 'ENOTDIR')) throw corrupt(file, 'is missing', thrown);
      throw thrown;
    }
    try {
      const { size } = await handle.stat();
      if (size > bytesMax) throw corrupt(file, `has ${size} bytes; at most ${bytesMax} are read`);
      return await readFile(handle);
    } finally {
      await handle.close();
    }
  });
}

/**
 * Opens for reading what must be a plain file. O_NOFOLLOW refuses a planted symbolic link; O_NONBLOCK keeps a planted
 * named pipe from blocking us for ever, and means nothing for plain files.
 * @throws STORE_CORRUPT when it is anything else; a system error when it cannot be opened
 */
export async function openPlainFile(file: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (thrown) {
    if (isSystemError(thrown, 'ELOOP', 'EMLINK')) throw corrupt(file, 'is a symbolic link', thrown);
    if (isSystemError(thrown, 'ENXIO')) throw corrupt(file, 'is not a plain file', thrown);
    throw thrown;
  }
  const found = await handle.stat();
  if (found.isFile()) return handle;
  await handle.close();
  throw corrupt(file, 'is not a plain file');
}

/** Makes a rename or a new name in the folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
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

/** What lies at a path, symbolic links followed. @throws PERMISSION_DENIED */
export async function kindOf(file: string): Promise<'absent' | 'folder' | 'other'> {
  return onDisk('look at', file, async () => {
    try {
      return (await stat(file)).isDirectory() ? 'folder' : 'other';
    } catch (thrown) {
      if (isSystemError(thrown, 'ENOENT', 'ENOTDIR')) return 'absent';
      throw thrown;
    }
  });
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
