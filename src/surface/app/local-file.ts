import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
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
