import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import type { Duplex, Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ErrorCode } from '../../../core/base/error-table.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { assembleIsolation, describeIsolation, type Isolation, type LauncherReport } from './isolation.ts';
import type { PathRule } from './landlock-rules.ts';
import {
  CHANNEL_FD,
  type ChildOrder,
  FIRST_INHERITED_FD,
  type LaunchOrder,
  type LaunchReport,
} from './launch-order.ts';
import { baseRules } from './readable-paths.ts';

export { describeIsolation, type Isolation } from './isolation.ts';

export interface ChildSpec {
  /** Absolute path of the module to run: `.ts` in a checkout, `.js` when published. It may always be read. */
  readonly script: string;
  readonly args?: readonly string[];
  /**
   * Descriptors of this process, which become 4, 5, … in the child. They must stay open until `launchChild` is done;
   * then they may be closed here. Under Landlock the child cannot open them again through `/proc/self/fd`.
   */
  readonly inheritFds?: readonly number[];
  /** Absolute paths of files and folders that the child may read besides what Node and our own code need. */
  readonly readPaths?: readonly string[];
  /** Absolute paths of folders in which it may make, write, rename and remove files (not folders). Default: none. */
  readonly writePaths?: readonly string[];
  /** All that the child's environment holds. */
  readonly env?: Readonly<Record<string, string>>;
  /** SANDBOX_UNAVAILABLE instead of running with anything missing. */
  readonly isRequired?: boolean;
  /** What `ps` shows. */
  readonly title?: string;
}

export interface LaunchedChild {
  readonly process: ChildProcess;
  /**
   * Descriptor 3 of the child: raw bytes both ways. When it is closed here, the child ends; when the child ends, it
   * closes (`close`; writing to a lost child is no error of its own).
   */
  readonly channel: Duplex;
  readonly isolation: Isolation;
  /** The last of what the child wrote to stdout and stderr, for error messages. */
  readonly stderrTail: () => string;
}

/** Held per child for error messages; a native library that fails says why in its last few lines. */
export const OUTPUT_TAIL_BYTES_MAX = 64 * 1024;
/** Two starts of Node, which take 0.2 s on an idle machine; a machine under full load gets a hundred times that. */
export const LAUNCH_TIMEOUT_MS = 30_000;
const CANCELLED_MESSAGE = 'starting the child process was cancelled';
/** Two or three lines of JSON; more is not from our code. */
const REPORT_CHARACTERS_MAX = 1 << 20;

/** `.ts` where we run from the sources, `.js` where we were built. */
const EXTENSION = path.extname(fileURLToPath(import.meta.url));
const LAUNCHER = path.join(import.meta.dirname, `launcher${EXTENSION}`);
const CHILD_ENTRY = path.join(import.meta.dirname, `child-entry${EXTENSION}`);
/** Loads in a moment, does nothing and ends. */
const IDLE_SCRIPT = path.join(import.meta.dirname, `isolation${EXTENSION}`);
/** No debugger can be switched on from outside, and the output is for error messages only. */
const NODE_FLAGS = ['--disable-sigusr1', '--disable-warning=ExperimentalWarning'];
/** Node does not start when it may not read OpenSSL's configuration, whose place differs between distributions. */
const SANDBOX_NODE_FLAGS = [...NODE_FLAGS, '--openssl-config=/dev/null'];

/**
 * Starts a script in a child process that can read little, write nothing and reach nobody: Landlock and seccomp, which
 * need neither root nor user namespaces. Where the kernel refuses a part, the child runs without it and `isolation`
 * says so. The child does not outlive the thread that calls this.
 *
 * @param signal ends the launch; it does nothing once this has returned
 * @throws NOT_FOUND for a path that is not there, SANDBOX_UNAVAILABLE when `isRequired` and anything is missing,
 * ENGINE_FAILED when the child ends before its script starts, TIMEOUT, CANCELLED
 */
export async function launchChild(spec: ChildSpec, signal?: AbortSignal): Promise<LaunchedChild> {
  if (signal?.aborted === true) {
    throw new FreeholdError('CANCELLED', CANCELLED_MESSAGE, { cause: signal.reason });
  }
  const rules = [...baseRules(), ...specRules(spec)];
  let reason = `no sandbox for ${process.platform} yet`;
  if (process.platform === 'linux') {
    const attempt = await startChild(spec, rules, signal);
    if (attempt.kind === 'started') return requireSandbox(spec, attempt.child);
    reason = attempt.reason;
  }
  if (spec.isRequired === true) throw sandboxUnavailable(reason);
  const plain = await startChild(spec, undefined, signal, reason);
  if (plain.kind === 'started') return plain.child;
  throw new FreeholdError('ENGINE_FAILED', `cannot start ${path.basename(spec.script)}: ${plain.reason}`);
}

/** What this machine offers, found by starting a child that does nothing. @throws ENGINE_FAILED, TIMEOUT */
export async function probeIsolation(): Promise<Isolation> {
  const child = await launchChild({ script: IDLE_SCRIPT, title: 'freehold-probe' });
  endChild(child.process);
  return child.isolation;
}

type StartResult =
  | { readonly kind: 'started'; readonly child: LaunchedChild }
  /** Before its script began. */
  | { readonly kind: 'ended'; readonly reason: string };

/** With rules through the launcher, without them directly. */
async function startChild(
  spec: ChildSpec,
  rules: readonly PathRule[] | undefined,
  signal: AbortSignal | undefined,
  reason = 'the kernel has neither Landlock nor seccomp',
): Promise<StartResult> {
  const inherited = spec.inheritFds ?? [];
  const reportFd = FIRST_INHERITED_FD + inherited.length;
  const command = childCommand(spec, reportFd, rules !== undefined);
  const child = spawn(
    process.execPath,
    rules === undefined ? command : [...NODE_FLAGS, LAUNCHER, String(reportFd)],
    {
      // A folder that says nothing about the user and never vanishes.
      cwd: path.parse(process.execPath).root,
      env: rules === undefined ? { ...spec.env } : {},
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...inherited, 'pipe'],
    },
  );
  // Without a listener an error ends this process; `readReports` turns one into a rejection, and later ones are told by
  // `exit` and `close`.
  child.on('error', () => {});
  const outputTail = collectTail(child);
  try {
    const reportPipe = requirePipe(child, reportFd);
    if (rules !== undefined) {
      const order = launchOrder(spec, reportFd, rules, command);
      reportPipe.write(`${JSON.stringify(order)}\n`);
    }
    const reports = parseReports(await readReports(child, reportPipe, signal));
    const locked = reports.find((report) => report.kind === 'locked');
    if (locked === undefined) {
      const killedBy = await killSignal(child);
      endChild(child);
      // Whoever can kill the launcher must not get a child without a sandbox for it.
      if (killedBy !== undefined) throw killedBeforeStart(spec, killedBy);
      return { kind: 'ended', reason: endReason(reports, outputTail()) };
    }
    const launcher: LauncherReport | undefined = reports.find((report) => report.kind === 'launcher');
    const isolation = assembleIsolation(launcher, locked, reason);
    const channel = requirePipe(child, CHANNEL_FD);
    channel.on('error', () => {});
    return { kind: 'started', child: { process: child, channel, isolation, stderrTail: outputTail } };
  } catch (error) {
    endChild(child);
    throw error;
  }
}

/** Signals with which people, supervisors and a kernel without memory end a process; a fault of its own has others. */
const KILL_SIGNALS: ReadonlySet<string> = new Set(['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP']);
/** The report pipe is closed a moment before the process is gone. */
const EXIT_MS_MAX = 1000;

/** What ended the child from outside, if anything did. */
async function killSignal(child: ChildProcess): Promise<string | undefined> {
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    await once(child, 'exit', { signal: AbortSignal.timeout(EXIT_MS_MAX) }).catch(() => {});
  }
  const { signalCode } = child;
  return signalCode !== null && KILL_SIGNALS.has(signalCode) ? signalCode : undefined;
}

function killedBeforeStart(spec: ChildSpec, signal: string): FreeholdError {
  return new FreeholdError(
    'ENGINE_FAILED',
    `${path.basename(spec.script)} was ended by ${signal} before it began (by hand, or by the kernel for want of memory)`,
    { hint: 'try again', detail: { signal } },
  );
}

function childCommand(spec: ChildSpec, reportFd: number, isLaunched: boolean): readonly string[] {
  const order: ChildOrder = {
    parentPid: process.pid,
    reportFd,
    isLaunched,
    title: spec.title ?? 'freehold-child',
  };
  const flags = isLaunched ? SANDBOX_NODE_FLAGS : NODE_FLAGS;
  return [...flags, CHILD_ENTRY, JSON.stringify(order), spec.script, ...(spec.args ?? [])];
}

function launchOrder(
  spec: ChildSpec,
  reportFd: number,
  rules: readonly PathRule[],
  command: readonly string[],
): LaunchOrder {
  const environment = Object.entries(spec.env ?? {}).map(([name, value]) => `${name}=${value}`);
  return { reportFd, rules, environment, command };
}

function specRules(spec: ChildSpec): readonly PathRule[] {
  const readable = [spec.script, ...(spec.readPaths ?? [])].map(
    (text): PathRule => ({ path: requirePath(text), grant: 'read' }),
  );
  const writable = (spec.writePaths ?? []).map(
    (text): PathRule => ({ path: requirePath(text), grant: 'write' }),
  );
  return [...readable, ...writable];
}

function requirePath(text: string): string {
  if (!path.isAbsolute(text)) {
    throw new FreeholdError('INTERNAL', `path for a child is not absolute: ${text}`);
  }
  if (!existsSync(text)) throw new FreeholdError('NOT_FOUND', `no such file or folder: ${text}`);
  return realpathSync(text);
}

/** Everything up to the end of the pipe, which comes before the script runs, or when the process ends. */
function readReports(child: ChildProcess, pipe: Duplex, signal: AbortSignal | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      pipe.destroy();
      settle();
    };
    const fail = (code: ErrorCode, message: string, cause?: unknown): void =>
      finish(() => reject(new FreeholdError(code, message, { cause })));
    const onAbort = (): void => fail('CANCELLED', CANCELLED_MESSAGE, signal?.reason);
    const onLate = (): void =>
      fail('TIMEOUT', `the child process did not start within ${LAUNCH_TIMEOUT_MS} ms`);
    const timer = setTimeout(onLate, LAUNCH_TIMEOUT_MS);
    signal?.addEventListener('abort', onAbort, { once: true });
    pipe.setEncoding('utf8');
    pipe.on('data', (part: string) => {
      text += part;
      if (text.length > REPORT_CHARACTERS_MAX) fail('INTERNAL', 'report of the launcher too long');
    });
    pipe.once('end', () => finish(() => resolve(text)));
    // A launcher that died before it read its order resets the pipe; what counts is that it ended.
    pipe.on('error', () => finish(() => resolve(text)));
    child.once('error', (error) => {
      fail('ENGINE_FAILED', `cannot start ${process.execPath}: ${error.message}`, error);
    });
  });
}

function parseReports(text: string): readonly LaunchReport[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LaunchReport);
}

/** Reads both streams to their end, so that the child never blocks on a full pipe, and keeps the last part. */
function collectTail(child: ChildProcess): () => string {
  let tail = Buffer.alloc(0);
  const keep = (part: Buffer): void => {
    tail = Buffer.concat([tail, part]).subarray(-OUTPUT_TAIL_BYTES_MAX);
  };
  for (const stream of [child.stdout, child.stderr] satisfies (Readable | null)[]) stream?.on('data', keep);
  return () => tail.toString('utf8');
}

function requirePipe(child: ChildProcess, fd: number): Duplex {
  // Node leaves out the array when it had no descriptor left for the pipes.
  const pipes = child.stdio as readonly unknown[] | undefined;
  const pipe = pipes?.[fd] as Duplex | null | undefined;
  if (pipe === null || pipe === undefined) {
    throw new FreeholdError('ENGINE_FAILED', `cannot start ${process.execPath}: no pipe to it`);
  }
  return pipe;
}

function requireSandbox(spec: ChildSpec, child: LaunchedChild): LaunchedChild {
  if (spec.isRequired !== true || child.isolation.lost.length === 0) return child;
  endChild(child.process);
  throw sandboxUnavailable(describeIsolation(child.isolation));
}

function endChild(child: ChildProcess): void {
  child.kill('SIGKILL');
  for (const pipe of (child.stdio as ChildProcess['stdio'] | undefined) ?? []) pipe?.destroy();
}

function endReason(reports: readonly LaunchReport[], output: string): string {
  const failed = reports.find((report) => report.kind === 'failed');
  if (failed !== undefined) return failed.message;
  // Node prints its version below an error, and the error itself above the stack.
  const line = output.split('\n').find((text) => /error|cannot|denied/i.test(text));
  return `the process ended while starting${line === undefined ? '' : `: ${line.trim()}`}`;
}

function sandboxUnavailable(what: string): FreeholdError {
  return new FreeholdError('SANDBOX_UNAVAILABLE', `the sandbox is required but not complete: ${what}`);
}
