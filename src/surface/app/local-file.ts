import { createReadStream } from 'node:fs';
import { collectBytes } from '../../core/base/byte-source.ts';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';

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
      return new FreeholdError('INTERNAL', thrown instanceof Error ? thrown.message : String(thrown), {
        cause: thrown,
      });
  }
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
