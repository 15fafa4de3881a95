import { existsSync, fstatSync, readdirSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import type { LauncherReport } from './isolation.ts';
import { Attempts, type Kernel, loadKernel } from './kernel-calls.ts';
import { encodePathRule, encodeRuleset, type PathRule } from './landlock-rules.ts';
import type { LaunchOrder, LaunchReport } from './launch-order.ts';
import { programRules } from './readable-paths.ts';
import { encodeLauncherFilter } from './seccomp-filter.ts';
import { type Architecture, parseArchitecture } from './syscall-table.ts';

// Stage 1, a process of its own: it binds itself on its main thread and becomes the child by execve, which ends all
// its other threads. What is in force then cannot be lifted by anybody, and holds for every later thread.

const PR_SET_NO_NEW_PRIVS = 38;
const RLIMIT_CORE = 4;
/** 0 does not stop a core dump into a program (`|/usr/…` in core_pattern); 1 byte stops that and dumps into files. */
const CORE_BYTES = 1n;
/** Lets root read and write where the files belong to others; Landlock still says which files. */
const CAP_DAC_OVERRIDE = 1n << 1n;
/**
 * What Node and libuv read about their own process. Not all of `/proc/self`: its `net` lists the connections of the
 * machine.
 */
const OWN_PROCESS_FILES = ['maps', 'stat', 'statm', 'status', 'cgroup', 'fd'];

function main(reportFd: number): void {
  const report = (line: LaunchReport): void => {
    writeSync(reportFd, `${JSON.stringify(line)}\n`);
  };
  try {
    const order = JSON.parse(readLine(reportFd)) as LaunchOrder;
    const kernel = loadKernel();
    report({ kind: 'launcher', ...confine(kernel, order) });
    kernel.execve(process.execPath, [process.execPath, ...order.command], order.environment);
  } catch (error) {
    report({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
    process.exitCode = 1;
  }
}

function confine(kernel: Kernel, order: LaunchOrder): LauncherReport {
  const attempts = new Attempts();
  const architecture = parseArchitecture(process.arch);
  const landlockAbi = kernel.landlockAbi();
  keepOnly(kernel, order.reportFd);
  const isBarred = attempts.run(() => kernel.prctl('PR_SET_NO_NEW_PRIVS', PR_SET_NO_NEW_PRIVS, 1));
  const isLandlocked = attempts.run(() => restrictFiles(kernel, landlockAbi, order.rules));
  const isStripped = attempts.run(() => dropCapabilities(kernel, architecture, isLandlocked));
  // For the moment until the child calls itself undumpable.
  attempts.run(() => kernel.limitResource(architecture, RLIMIT_CORE, CORE_BYTES));
  const isFiltered = attempts.run(() => {
    if (architecture === undefined) throw new Error(`no system call table for ${process.arch}`);
    kernel.addFilter(architecture, encodeLauncherFilter(architecture, process.pid), false);
  });
  const hasNoNewPrivileges = isBarred && isStripped;
  return {
    landlockAbi,
    isLandlocked,
    isFiltered,
    hasNoNewPrivileges,
    failures: attempts.failures,
  };
}

/**
 * Node marks what it inherits close-on-exec, but not beyond descriptor 15, and the child shall have nothing that was
 * not meant for it.
 */
function keepOnly(kernel: Kernel, lastFd: number): void {
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    // The descriptor with which this list was read is closed by now.
    if (isOpen(fd)) kernel.setKeptOnExec(fd, fd <= lastFd);
  }
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

function restrictFiles(kernel: Kernel, abi: number, rules: readonly PathRule[]): void {
  if (abi === 0) throw new Error('Landlock is not in this kernel or not enabled');
  const ruleset = kernel.createRuleset(encodeRuleset(abi));
  const addRule = (rule: PathRule): number => {
    const fd = kernel.openPath(rule.path);
    const isFolder = statSync(rule.path).isDirectory();
    kernel.addPathRule(ruleset, encodePathRule(abi, rule.grant, isFolder, fd));
    return fd;
  };
  const maps = readFileSync('/proc/self/maps', 'utf8');
  for (const rule of [...rules, ...programRules(maps, process.execPath)]) {
    // What is not there need not be opened; should it appear later, it stays closed.
    if (existsSync(rule.path)) addRule(rule);
  }
  for (const name of OWN_PROCESS_FILES) {
    // A rule holds for an inode, and /proc makes a new one when it has forgotten the old: the descriptor, open for the
    // life of the child, keeps it.
    kernel.setKeptOnExec(addRule({ path: `/proc/self/${name}`, grant: 'read' }), true);
  }
  kernel.restrictSelf(ruleset);
}

/** Without new privileges execve gives nothing back, not even to root. */
function dropCapabilities(
  kernel: Kernel,
  architecture: Architecture | undefined,
  isLandlocked: boolean,
): void {
  const permitted = /^CapPrm:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  kernel.limitCapabilities(architecture, isLandlocked ? BigInt(`0x${permitted}`) & CAP_DAC_OVERRIDE : 0n);
}

function readLine(fd: number): string {
  const parts: Buffer[] = [];
  const chunk = Buffer.alloc(1 << 16);
  for (;;) {
    const length = readSync(fd, chunk);
    if (length === 0) throw new Error('the parent closed the report pipe');
    parts.push(Buffer.from(chunk.subarray(0, length)));
    if (chunk[length - 1] === 0x0a) return Buffer.concat(parts).toString('utf8');
  }
}

if (import.meta.main) main(Number(process.argv[2]));
