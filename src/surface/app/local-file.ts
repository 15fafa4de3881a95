import { createReadStream } from 'node:fs';
import { rename, rm, stat, writeFile } from 'node:fs/promises';
import { collectBytes } from '../../core/base/byte-source.ts';
import { FreeholdError, systemErrorCode, toFreeholdError } from '../../core/base/errors.ts';

/** Turns a failed access to a user's own file into one of our errors, naming the path. */
export function fileError(thrown: unknown, path: string): FreeholdError {
  if (thrown instanceof FreeholdError) return thrown;
  switch (systemErrorCode(thrown)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new FreeholdError('NOT_FOUND', `${path} does not exist`, { cause: thrown });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new FreeholdError('PERMISSION_DENIED', `no access to ${path}`, { cause: thrown });
    case 'ENOSPC':
    case 'EDQUOT':
      return new FreeholdError('DISK_FULL', `no room for ${path}`, { cause: thrown });
    case 'EISDIR':
      return new FreeholdError('NOT_FOUND', `${path} is a folder, not a file`, { cause: thrown });
    case 'EEXIST':
    case 'ENOTEMPTY':
      return new FreeholdError('ALREADY_EXISTS', `${path} exists already`, { cause: thrown });
    case 'ENAMETOOLONG':
      return new FreeholdError('NAME_INVALID', `the path is too long: ${path.slice(0, 80)}…`, {
        cause: thrown,
      });
    default:
      return otherFileError(thrown, path);
  }
}

/** A disk that fails or a system out of descriptors is no bug of ours. */
function otherFileError(thrown: unknown, path: string): FreeholdError {
  const reason = systemErrorCode(thrown);
  if (reason === undefined || !/^E[A-Z0-9]+$/.test(reason)) return toFreeholdError(thrown);
  return new FreeholdError('PERMISSION_DENIED', `the system refuses ${path} (${reason})`, { cause: thrown });
}

/**
 * Opening a named pipe waits for its writer, perhaps for ever, and no signal ends it: look before.
 * @throws NOT_FOUND for whatever is no plain file or a link to one, PERMISSION_DENIED
 */
export async function requirePlainFile(file: string): Promise<void> {
  const found = await stat(file).catch((error: unknown) => {
    throw fileError(error, file);
  });
  if (!found.isFile()) throw new FreeholdError('NOT_FOUND', `${file} is not a plain file`);
}

export interface TextFileOptions {
  /** More is refused, never cut off: nobody would notice that the end is missing. */
  readonly bytesMax: number;
  /** What to do when it is larger. */
  readonly hint?: string;
  readonly signal?: AbortSignal;
}

/**
 * Reads a text file that a user named; a pipe will do.
 * @throws NOT_FOUND, PERMISSION_DENIED, CONFIG_INVALID when it is larger than `bytesMax`; the signal's reason
 */
export async function readTextFile(file: string, options: TextFileOptions): Promise<string> {
  const { bytesMax, hint, signal } = options;
  try {
    const stream = createReadStream(file, signal === undefined ? {} : { signal });
    return (await collectBytes(stream, bytesMax)).toString('utf8');
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof FreeholdError)) throw fileError(error, file);
    throw new FreeholdError('CONFIG_INVALID', `${file}: more than the ${bytesMax} bytes that are read`, {
      hint: hint ?? 'is this the right file?',
      detail: { path: file, bytesMax },
    });
  }
}

/**
 * Reads a small file of another program's, whole.
 * @throws NOT_FOUND, PERMISSION_DENIED, SIZE_MISMATCH when it is larger than `bytesMax`; the signal's reason
 */
export async function readFileBytes(
  file: string,
  { bytesMax, signal }: Pick<TextFileOptions, 'bytesMax' | 'signal'>,
): Promise<Buffer> {
  await requirePlainFile(file);
  try {
    return await collectBytes(createReadStream(file, signal === undefined ? {} : { signal }), bytesMax);
  } catch (error) {
    signal?.throwIfAborted();
    throw fileError(error, file);
  }
}

/**
 * Writes a small result where the user asked for it; a file that is there is replaced, whole or not at all.
 * @throws NOT_FOUND for the folder, PERMISSION_DENIED, DISK_FULL
 */
export async function writeResultFile(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, bytes, { flag: 'wx' });
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw fileError(error, file);
  }
}
