import { readFileSync } from 'node:fs';
import { descendantsOf, processStatus } from '../tests/fixtures/processes.ts';

/** `getconf CLK_TCK`: the kernel's unit in /proc, the same on every Linux that we run on. */
const TICKS_PER_SECOND = 100;
const KIBIBYTES_PER_MEBIBYTE = 1024;

/** Positions behind the name in `/proc/PID/stat`, see proc_pid_stat(5): the state is the third field. */
const FIELD = { userTicks: 11, systemTicks: 12, childUserTicks: 13, childSystemTicks: 14 } as const;

function ticks(pid: number | 'self', ...fields: readonly (keyof typeof FIELD)[]): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const values = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return fields.reduce((sum, field) => sum + Number(values[FIELD[field]]), 0) / TICKS_PER_SECOND;
  } catch {
    // It has ended meanwhile.
    return 0;
  }
}

/** CPU seconds so far of a process, its running descendants, and those of its children that have ended. */
export function treeCpuSeconds(pid: number): number {
  const family = [pid, ...descendantsOf(pid)];
  return family.reduce(
    (sum, member) => sum + ticks(member, 'userTicks', 'systemTicks', 'childUserTicks', 'childSystemTicks'),
    0,
  );
}

/** CPU seconds of all children of this process that have ended and were waited for. */
export function endedChildrenCpuSeconds(): number {
  return ticks('self', 'childUserTicks', 'childSystemTicks');
}

/** Peak of resident memory of a process and its running descendants, added up: shared pages count for each. */
export function treePeakMebibytes(pid: number): number {
  return [pid, ...descendantsOf(pid)].reduce((sum, member) => sum + peakMebibytes(member), 0);
}

function peakMebibytes(pid: number): number {
  try {
    return Number.parseInt(processStatus(pid, 'VmHWM') ?? '0', 10) / KIBIBYTES_PER_MEBIBYTE;
  } catch {
    return 0;
  }
}
