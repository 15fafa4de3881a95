import { constants } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { isSystemError } from '../files/system-refusal.ts';
import { corrupt, onDisk } from './disk-error.ts';

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
