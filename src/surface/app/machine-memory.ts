import { readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

/** Memory as this process may use it. */
export interface MemoryReading {
  /** What there is, at most: of the machine, or of the control groups that this process belongs to. */
  readonly limitBytes: number;
  /** What could be taken now without anybody being killed: free, or only a copy of what lies on disk. */
  readonly availableBytes: number;
}

export type ReadMemory = () => Promise<MemoryReading>;

/** Text of a file, undefined where there is none; for tests, and for systems without `/proc`. */
export type ReadText = (file: string) => Promise<string | undefined>;

/** Files of one control group, in the two versions of the interface (cgroup-v2.rst and cgroup-v1/memory.rst of Linux). */
const VERSIONS = [
  {
    membership: /^0::(\/.*)$/m,
    mount: '/sys/fs/cgroup',
    limits: ['memory.max', 'memory.high'],
    usage: 'memory.current',
    // Pages of files, which the kernel takes back before it kills.
    reclaimable: ['inactive_file', 'active_file'],
  },
  {
    membership: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m,
    mount: '/sys/fs/cgroup/memory',
    limits: ['memory.limit_in_bytes'],
    usage: 'memory.usage_in_bytes',
    reclaimable: ['total_inactive_file', 'total_active_file'],
  },
] as const;

/**
 * Reads what this process may use: the least of the machine's memory and the limits of its control groups, whose
 * parents limit as well. A container sees the memory of the whole machine in `/proc/meminfo` and is killed at its own.
 */
export async function readMachineMemory(
  read: ReadText = readIfThere,
  machine: { readonly totalBytes: number; readonly freeBytes: number } = {
    totalBytes: os.totalmem(),
    freeBytes: os.freemem(),
  },
): Promise<MemoryReading> {
  let limitBytes = machine.totalBytes;
  let availableBytes = kibibytes(await read('/proc/meminfo'), 'MemAvailable') ?? machine.freeBytes;
  for (const group of await groupReadings(read)) {
    limitBytes = Math.min(limitBytes, group.limitBytes);
    availableBytes = Math.min(availableBytes, group.availableBytes);
  }
  return { limitBytes, availableBytes: Math.max(0, Math.min(availableBytes, limitBytes)) };
}

async function groupReadings(read: ReadText): Promise<MemoryReading[]> {
  const memberships = (await read('/proc/self/cgroup')) ?? '';
  const readings: MemoryReading[] = [];
  for (const version of VERSIONS) {
    const group = version.membership.exec(memberships)?.[1];
    if (group === undefined) continue;
    // Up to the root of what is mounted: inside of a container the path may be one of the machine outside.
    for (let folder = path.posix.normalize(group); ; folder = path.posix.dirname(folder)) {
      readings.push(await groupReading(read, version, path.posix.join(version.mount, folder)));
      if (folder === '/') break;
    }
  }
  return readings;
}

async function groupReading(
  read: ReadText,
  version: (typeof VERSIONS)[number],
  folder: string,
): Promise<MemoryReading> {
  const limits = await Promise.all(version.limits.map((name) => read(path.posix.join(folder, name))));
  // "max", or a missing file, is no limit; version 1 says so with a number beyond every machine.
  const limitBytes = Math.min(...limits.map((text) => countOf(text) ?? Number.POSITIVE_INFINITY));
  const usedBytes = countOf(await read(path.posix.join(folder, version.usage)));
  if (limitBytes === Number.POSITIVE_INFINITY || usedBytes === undefined) {
    return { limitBytes, availableBytes: limitBytes };
  }
  const statistics = (await read(path.posix.join(folder, 'memory.stat'))) ?? '';
  const reclaimableBytes = version.reclaimable.reduce(
    (sum, name) => sum + (countOf(new RegExp(`^${name} (\\d+)$`, 'm').exec(statistics)?.[1]) ?? 0),
    0,
  );
  return { limitBytes, availableBytes: limitBytes - usedBytes + reclaimableBytes };
}

function countOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+\s*$/.test(text) ? Number(text) : undefined;
}

function kibibytes(table: string | undefined, name: string): number | undefined {
  const value = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(table ?? '')?.[1];
  return value === undefined ? undefined : Number(value) * 1024;
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch {
    return undefined;
  }
}
