import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';

/** True when `thrown` is a system error with one of these codes. */
export function isSystemError(thrown: unknown, ...codes: string[]): boolean {
  const code = systemErrorCode(thrown);
  return code !== undefined && codes.includes(code);
}

/**
 * The error for what means the same wherever a file of the home lies: there is no room, or no permission. What an
 * absent file or a folder in its place means, the caller knows.
 * @param action what was tried, for the message: `write`
 * @returns DISK_FULL or PERMISSION_DENIED with the path; undefined for everything else
 */
export function systemRefusal(thrown: unknown, action: string, path: string): FreeholdError | undefined {
  const reason = systemErrorCode(thrown);
  const options = { cause: thrown, detail: { path, reason: reason ?? null } };
  switch (reason) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new FreeholdError('DISK_FULL', `no room to ${action} ${path} (${reason})`, {
        ...options,
        hint: 'free some space on that disk (freehold gc removes what nothing refers to), or choose another home with --home',
      });
    case 'EROFS':
      return new FreeholdError(
        'PERMISSION_DENIED',
        `cannot ${action} ${path}: the file system is read-only`,
        options,
      );
    case 'EACCES':
    case 'EPERM':
      return new FreeholdError('PERMISSION_DENIED', `not allowed to ${action} ${path} (${reason})`, options);
    default:
      return undefined;
  }
}
