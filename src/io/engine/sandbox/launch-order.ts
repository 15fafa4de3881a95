import type { LauncherReport, LockDownReport } from './isolation.ts';
import type { PathRule } from './landlock-rules.ts';

/** Descriptor of the raw byte channel in every child. */
export const CHANNEL_FD = 3;
/** First of the inherited descriptors. */
export const FIRST_INHERITED_FD = 4;

/** What the parent tells the launcher, as one line of JSON over the report pipe (arguments would show in `ps`). */
export interface LaunchOrder {
  /** Also the last descriptor that the child keeps; its report closes it. */
  readonly reportFd: number;
  readonly rules: readonly PathRule[];
  /** `KEY=value`, all that the child gets. */
  readonly environment: readonly string[];
  /** The program and everything after it, for execve. */
  readonly command: readonly string[];
}

/** First argument of the child's entry, before the script and its own arguments. */
export interface ChildOrder {
  readonly parentPid: number;
  readonly reportFd: number;
  /** Started by the launcher: there is a first filter, to which the second belongs. */
  readonly isLaunched: boolean;
  readonly title: string;
}

/** Lines of JSON over the report pipe. It is closed before the script runs, which therefore cannot forge one. */
export type LaunchReport =
  | ({ readonly kind: 'launcher' } & LauncherReport)
  | ({ readonly kind: 'locked' } & LockDownReport)
  | { readonly kind: 'failed'; readonly message: string };
