import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pythonEnvironment } from '../fixtures/python-environment.ts';
import { shapeOf } from './llama-oracle.ts';

/** What the reader of the Python package makes of a file; an exception is a refusal. */
export interface PythonVerdict {
  readonly verdict: 'accepts' | 'refuses' | 'crashes' | 'hangs';
  readonly reason: string;
}

const environment = () => pythonEnvironment('venv-gguf', ['gguf==0.19.0'], ['python', '-c', 'import gguf']);

/** Makes the virtual environment once; the reason when it cannot, undefined when all is there. */
export function pythonOracleMissing(): string | undefined {
  return environment().missing;
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
    const child = spawn(environment().program('python'), [script], { stdio: ['pipe', 'pipe', 'ignore'] });
    // Writing to a process that has ended is told by the end of its lines.
    child.stdin.on('error', () => {});
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.#child = child;
    return child;
  }
}
