import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { link, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { syncFolder, syncNames } from '../files/folder.ts';
import { isSystemError, systemRefusal } from '../files/system-refusal.ts';

export interface WriteOptions {
  /** Permission bits of the file, whatever the umask. */
  readonly mode: number;
  /** Refuse with ALREADY_EXISTS instead of replacing. */
  readonly exclusive?: boolean;
}

/** `keys` and the home itself. Whoever made them may have been killed before their names were flushed. */
const FOLDERS_OF_A_HOME = 2;

const TEMP_NAME = /^\..*\.[0-9a-f]{16}\.tmp$/;

/**
 * Writes a small file so that after a crash at any instant the path holds the old bytes or the new ones, complete:
 * temporary file in the same folder, fsync, rename (or link, when `exclusive`), fsync of the folder and of those above.
 * @throws ALREADY_EXISTS, DISK_FULL, PERMISSION_DENIED, NOT_FOUND when the folder is not there
 */
export async function writeFileDurably(
  file: string,
  bytes: Uint8Array,
  options: WriteOptions,
): Promise<void> {
  const temp = path.join(path.dirname(file), `.${path.basename(file)}.${randomBytes(8).toString('hex')}.tmp`);
  try {
    await onFile('write', file, async () => {
      await writeAndSync(temp, bytes, options.mode);
      if (options.exclusive === true) await linkNew(temp, file);
      else await rename(temp, file);
      await syncFolder(path.dirname(file));
      await syncNames(path.dirname(file), FOLDERS_OF_A_HOME);
    });
  } finally {
    // Gone already after a rename; and another error is on its way after a failure.
    await rm(temp, { force: true }).catch(() => {});
  }
}

async function writeAndSync(file: string, bytes: Uint8Array, mode: number): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.writeFile(bytes);
    await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A link never replaces. File systems without links (exFAT) get a check before the rename, which two at once could pass. */
async function linkNew(temp: string, file: string): Promise<void> {
  try {
    await link(temp, file);
  } catch (error) {
    if (!isSystemError(error, 'EPERM', 'ENOTSUP', 'ENOSYS', 'EOPNOTSUPP')) throw error;
    if (await exists(file)) throw alreadyExists(file, error);
    await rename(temp, file);
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return false;
    throw error;
  }
}

/**
 * Removes what writers left that were killed half-way: an unpublished private key should not lie around. Only while
 * holding the lock under which this folder is written.
 * @returns how many files there were
 */
export async function removeLeftovers(folder: string): Promise<number> {
  return onFile('clean', folder, async () => {
    const names = (await readdir(folder)).filter((name) => TEMP_NAME.test(name));
    for (const name of names) await rm(path.join(folder, name), { force: true });
    return names.length;
  });
}

/** What a file may be to be read: see `readGuarded`. */
export interface ReadGuard {
  readonly bytesMax: number;
  /** Permission bits of which the file must have none, with the command that removes them. */
  readonly forbiddenMode: number;
  readonly repair: string;
}

/**
 * Reads a small file whose content decides about trust, through one descriptor, after checking that nobody else
 * could have written (or may read) it.
 * @returns undefined when there is no such file
 * @throws PERMISSION_DENIED, CONFIG_INVALID when it is no regular file or too large
 */
export async function readGuarded(file: string, guard: ReadGuard): Promise<string | undefined> {
  return onFile('read', file, async () => {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    const handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch(
      (error: unknown) => {
        if (isSystemError(error, 'ENOENT')) return undefined;
        throw error;
      },
    );
    if (handle === undefined) return undefined;
    try {
      const status = await handle.stat();
      if (!status.isFile()) throw new FreeholdError('CONFIG_INVALID', `${file} is not a regular file`);
      requirePrivate(file, status, guard.forbiddenMode, guard.repair);
      if (status.size > guard.bytesMax) {
        throw new FreeholdError(
          'CONFIG_INVALID',
          `${file}: ${status.size} bytes, at most ${guard.bytesMax} are read`,
        );
      }
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  });
}

/**
 * Owner must be this user or root, and none of the forbidden permission bits may be set. Root may use everybody's
 * files (a container runs as root over a volume of somebody else's). Windows has neither owners nor bits here.
 * @throws PERMISSION_DENIED
 */
export function requirePrivate(
  file: string,
  status: { readonly uid: number; readonly mode: number },
  forbiddenMode: number,
  repair: string,
): void {
  const userId = process.geteuid?.();
  if (userId === undefined) return;
  if (status.uid !== userId && status.uid !== 0 && userId !== 0) {
    throw new FreeholdError(
      'PERMISSION_DENIED',
      `${file} belongs to user ${status.uid}, this is user ${userId}`,
      {
        detail: { path: file },
      },
    );
  }
  const mode = status.mode & 0o777;
  if ((mode & forbiddenMode) !== 0) {
    const others = (forbiddenMode & 0o044) !== 0 ? 'readable or writable' : 'writable';
    throw new FreeholdError(
      'PERMISSION_DENIED',
      `${file} is ${others} by other users (mode ${octal(mode)})`,
      {
        hint: `${repair} ${file}`,
        detail: { path: file, mode: octal(mode) },
      },
    );
  }
}

const octal = (mode: number) => `0${mode.toString(8).padStart(3, '0')}`;

/**
 * Runs system calls on a file of the home and gives what the operating system refuses a code and the path.
 * @param action what was tried, for the message: `write`
 */
export async function onFile<Result>(
  action: string,
  file: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw fileError(error, action, file);
  }
}

function fileError(error: unknown, action: string, file: string): unknown {
  if (error instanceof FreeholdError) return error;
  const refusal = systemRefusal(error, action, file);
  if (refusal !== undefined) return refusal;
  const reason = systemErrorCode(error);
  const options = { cause: error, detail: { path: file, reason: reason ?? null } };
  switch (reason) {
    case 'EEXIST':
      return alreadyExists(file, error);
    case 'ENOENT':
      return new FreeholdError('NOT_FOUND', `cannot ${action} ${file}: it is not there`, options);
    case 'ENOTDIR':
    case 'EISDIR':
    case 'ELOOP':
    case 'ENAMETOOLONG':
      return new FreeholdError('CONFIG_INVALID', `cannot ${action} ${file} (${reason})`, {
        ...options,
        hint: 'check the path; --home and FREEHOLD_HOME choose the home folder',
      });
    default:
      return error;
  }
}

const alreadyExists = (file: string, cause: unknown) =>
  new FreeholdError('ALREADY_EXISTS', `${file} exists already`, { cause, detail: { path: file } });
