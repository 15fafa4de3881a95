import { ERROR_TABLE, type ErrorCode } from './error-table.ts';

export interface FreeholdErrorOptions {
  /** What the reader can do next: a command, a file to look at, a setting. Overrides the table's. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Facts for programs: file, expected and actual digest, limits. Must be plain JSON. */
  readonly detail?: Readonly<Record<string, string | number | boolean | null>>;
}

/**
 * The one error class of Freehold. `code` is stable and stands in `docs/ERRORS.md`; exit code and HTTP status
 * follow from it, so that neither is decided twice.
 */
export class FreeholdError extends Error {
  override readonly name = 'FreeholdError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly detail: Readonly<Record<string, string | number | boolean | null>>;

  constructor(code: ErrorCode, message: string, options: FreeholdErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? ERROR_TABLE[code].hint;
    this.detail = options.detail ?? {};
  }

  /** Process exit code: see `docs/ERRORS.md`. */
  get exitCode(): number {
    return ERROR_TABLE[this.code].exit;
  }

  /** HTTP status with which a server answers. */
  get httpStatus(): number {
    return ERROR_TABLE[this.code].http;
  }

  /** Waiting and trying again may help: clients get `retry-after`. */
  get isTemporary(): boolean {
    return ERROR_TABLE[this.code].temporary === true;
  }
}

/** Wraps whatever was thrown: a FreeholdError stays, everything else becomes INTERNAL with the original as cause. */
export function toFreeholdError(thrown: unknown): FreeholdError {
  if (thrown instanceof FreeholdError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new FreeholdError('INTERNAL', message, { cause: thrown });
}

/**
 * The same failure, said of a file of a package: its path comes before the message, and into `detail.file`. Whatever is
 * no FreeholdError stays as it is.
 * @param hint in the place of the error's own
 */
export function namingFile(thrown: unknown, file: string, hint?: string): unknown {
  if (!(thrown instanceof FreeholdError)) return thrown;
  const code = thrown.code === 'NOT_FOUND' ? 'FILE_MISSING' : thrown.code;
  if (code === thrown.code && thrown.message.startsWith(file)) return thrown;
  const message = thrown.message.startsWith(file) ? thrown.message : `${file}: ${thrown.message}`;
  return new FreeholdError(code, message, {
    cause: thrown.cause,
    hint: hint ?? thrown.hint,
    detail: { ...thrown.detail, file },
  });
}

/** The `code` of a Node system error (`ENOENT`, `ENOSPC`, …), or undefined. */
export function systemErrorCode(thrown: unknown): string | undefined {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? thrown.code : undefined;
}
