import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { LockDownReport } from './isolation.ts';
import { Attempts, loadKernel } from './kernel-calls.ts';
import { CHANNEL_FD } from './launch-order.ts';
import { encodeSealingFilter } from './seccomp-filter.ts';
import { parseArchitecture } from './syscall-table.ts';

const PR_SET_PDEATHSIG = 1;
const PR_SET_DUMPABLE = 4;
const SIGKILL = 9;

let lockDownReport: LockDownReport | undefined;

/**
 * The raw byte channel to the parent. When the parent closes it or dies, the process ends: it has nobody to work for.
 */
export function openChannel(): Duplex {
  const channel = new Socket({ fd: CHANNEL_FD, readable: true, writable: true });
  const leave = (): void => process.exit(0);
  channel.once('end', leave).once('close', leave).once('error', leave);
  return channel;
}

/**
 * Stage 2: death with the parent, memory that nobody can trace or dump, and no further program, for all threads that
 * exist and will. The entry of every child has done it before its script runs; calling it again changes nothing.
 *
 * @param isLaunched there is a first filter, to which the second belongs; else the process stays without filters
 */
export function lockDown(isLaunched = true): LockDownReport {
  lockDownReport ??= seal(isLaunched);
  return lockDownReport;
}

function seal(isLaunched: boolean): LockDownReport {
  const attempts = new Attempts();
  const architecture = parseArchitecture(process.arch);
  const requireLinux = (): void => {
    if (process.platform !== 'linux') throw new Error(`no sandbox on ${process.platform}`);
  };
  const diesWithParent = attempts.run(() => {
    requireLinux();
    loadKernel().prctl('PR_SET_PDEATHSIG', PR_SET_PDEATHSIG, SIGKILL);
  });
  const isUndumpable = attempts.run(() => {
    requireLinux();
    loadKernel().prctl('PR_SET_DUMPABLE', PR_SET_DUMPABLE, 0);
  });
  // Last, since it forbids the two above.
  const isSealed = attempts.run(() => {
    if (!isLaunched) throw new Error('no first filter');
    if (architecture === undefined) throw new Error(`no system call table for ${process.arch}`);
    loadKernel().addFilter(architecture, encodeSealingFilter(architecture), true);
  });
  return { diesWithParent, isUndumpable, isSealed, failures: attempts.failures };
}
