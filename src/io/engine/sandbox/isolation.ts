/** What holds a child process back, as it was found after the fact, not as it was wished for. */
export type Isolation =
  | {
      readonly kind: 'sandbox';
      /** Version of the kernel's Landlock interface; 0 when the kernel has none. */
      readonly landlockAbi: number;
      /** What is in force, in words. */
      readonly parts: readonly string[];
      /** What could not be had, in words that say what may happen. */
      readonly lost: readonly string[];
    }
  | { readonly kind: 'plain'; readonly lost: readonly string[]; readonly reason: string };

/** What each missing part means for the user whose files and network these are. */
export const LOSS = {
  files: 'the model process could read and change your files',
  network: 'the model process could open network connections',
  programs: 'the model process could start other programs',
  processes: 'the model process could reach into your other processes',
  dumps: 'a crash could write the memory of the model process to disk',
  orphan: 'the model process could outlive Freehold',
  privileges: 'the model process could gain privileges through set-user-id programs',
} as const;

/** Stage 1, reported by the launcher right before it becomes the child. */
export interface LauncherReport {
  readonly landlockAbi: number;
  readonly isLandlocked: boolean;
  readonly isFiltered: boolean;
  readonly hasNoNewPrivileges: boolean;
  /** Which call failed and how, for the log. */
  readonly failures: readonly string[];
}

/** Stage 2, reported by the child before its script runs. */
export interface LockDownReport {
  readonly diesWithParent: boolean;
  readonly isUndumpable: boolean;
  readonly isSealed: boolean;
  readonly failures: readonly string[];
}

const NO_LAUNCHER: LauncherReport = {
  landlockAbi: 0,
  isLandlocked: false,
  isFiltered: false,
  hasNoNewPrivileges: false,
  failures: [],
};

/** Joins what both stages found. `reason` says why there is no sandbox when the stages themselves do not. */
export function assembleIsolation(
  launcher: LauncherReport | undefined,
  lockDown: LockDownReport,
  reason: string,
): Isolation {
  const { isLandlocked, isFiltered, landlockAbi, hasNoNewPrivileges, failures } = launcher ?? NO_LAUNCHER;
  const lost: string[] = [];
  const parts: string[] = [];
  const record = (holds: boolean, part: string, loss: string): void => {
    if (holds) parts.push(part);
    else lost.push(loss);
  };
  record(isLandlocked, `files (Landlock ABI ${landlockAbi})`, LOSS.files);
  // Landlock alone knows no UNIX sockets by path and, before ABI 10, no UDP: only the filter closes the network.
  record(isFiltered, 'network and kernel interfaces (seccomp)', LOSS.network);
  record(isFiltered && lockDown.isSealed, 'no other programs (seccomp)', LOSS.programs);
  // Memory and environment of processes are files, too: /proc/…/mem.
  record(isFiltered && isLandlocked, 'other processes (Landlock, seccomp)', LOSS.processes);
  record(lockDown.isUndumpable, 'no core dumps', LOSS.dumps);
  record(lockDown.diesWithParent, 'ends with its parent', LOSS.orphan);
  record(hasNoNewPrivileges, 'no new privileges', LOSS.privileges);
  if (isLandlocked || isFiltered) {
    return { kind: 'sandbox', landlockAbi: isLandlocked ? landlockAbi : 0, parts, lost };
  }
  return { kind: 'plain', lost, reason: failures.length === 0 ? reason : failures.join('; ') };
}

/** One line for logs and `freehold doctor`. */
export function describeIsolation(isolation: Isolation): string {
  const lost = isolation.lost.length === 0 ? '' : `; not protected: ${isolation.lost.join(', ')}`;
  return isolation.kind === 'sandbox'
    ? `sandbox: ${isolation.parts.join(', ')}${lost}`
    : `plain process (${isolation.reason})${lost}`;
}
