import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { shapeOf } from './llama-oracle.ts';

/** What the reader of the Python package makes of a file; an exception is a refusal. */
export interface PythonVerdict {
  readonly verdict: 'accepts' | 'refuses' | 'crashes' | 'hangs';
  readonly reason: string;
}

const REQUIREMENTS = ['gguf==0.19.0'];
const CACHE = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'freehold');
const ENVIRONMENT = path.join(CACHE, 'venv-gguf');
const PYTHON = path.join(ENVIRONMENT, 'bin', 'python');

/** Makes the virtual environment once; the reason when it cannot, undefined when all is there. */
export function pythonOracleMissing(): string | undefined {
  const works = () => spawnSync(PYTHON, ['-c', 'import gguf']).status === 0;
  if (works()) return undefined;
  mkdirSync(CACHE, { recursive: true });
  for (const [command, ...rest] of [
    ['python3', '-m', 'venv', '--clear', ENVIRONMENT],
    [path.join(ENVIRONMENT, 'bin', 'pip'), 'install', '--quiet', ...REQUIREMENTS],
  ] as const) {
    const { status, stderr, error } = spawnSync(command, rest, { encoding: 'utf8' });
    if (status !== 0) {
      return `${command} ${rest.join(' ')} failed: ${error?.message ?? stderr.trim().split('\n').at(-1)}`;
    }
  }
  return works() ? undefined : `${PYTHON} cannot import gguf`;
}

/** One Python process for many files. Close it. */
export class PythonOracle {
  #child: ChildProcess | undefined;
  #lines: AsyncIterator<string> | undefined;

  async judge(file: string): Promise<PythonVerdict> {
    const child = this.#child ?? this.#start();
    child.stdin?.write(`${file}\n`);
    const line = await this.#lines?.next();
    if (line?.done !== false) {
      this.#child = undefined;
      return { verdict: 'crashes', reason: `the process ended: ${child.signalCode ?? child.exitCode}` };
    }
    const { verdict, reason } = JSON.parse(line.value) as PythonVerdict;
    return { verdict, reason: shapeOf(reason) };
  }

  close(): void {
    this.#child?.stdin?.end();
    this.#child = undefined;
  }

  #start(): ChildProcess {
    const script = path.join(import.meta.dirname, 'gguf_oracle.py');
    const child = spawn(PYTHON, [script], { stdio: ['pipe', 'pipe', 'ignore'] });
    // Writing to a process that has ended is told by the end of its lines.
    child.stdin.on('error', () => {});
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.#child = child;
    return child;
  }
}
