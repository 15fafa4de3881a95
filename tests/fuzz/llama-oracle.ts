import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import koffi from 'koffi';
import { type LaunchedChild, launchChild } from '../../src/io/engine/sandbox/launch.ts';
import { LLAMA_LIBRARY_FOLDER } from '../fixtures/llama-library.ts';
import type { LoadAnswer, LoadOrder } from './llama-child.ts';

/** What llama.cpp does with a file. */
export interface LlamaVerdict {
  readonly verdict: 'accepts' | 'refuses' | 'crashes' | 'hangs';
  /** The last complaint, whole. */
  readonly said: string;
  /** The same, or the place where it ended; without what differs from run to run. */
  readonly reason: string;
  readonly durationMs: number;
  /** By how much the file raised the largest size of its process. */
  readonly grewKiB: number;
}

/** Tiny files load in milliseconds; on a machine under full load they may take a hundred times that. */
const HANG_MS = 15_000;
/** A child is exchanged after this many, so that what one file leaks does not count against another. */
const FILES_PER_CHILD = 200;
/** What native code may allocate; a file of a few kilobytes that asks for more ends its child. */
const DATA_BYTES_MAX = 3 * 2 ** 30;
const RLIMIT_DATA = 2;
/** Follow the complaint that says why. */
const NO_REASON = /^llama_model_load_from|failed to load model$/;

/** llama.cpp behind the sandbox; a new child after each crash. Close it. */
export class LlamaOracle {
  readonly #folder: string;
  #child: LaunchedChild | undefined;
  #lines: AsyncIterator<string> | undefined;
  #judged = 0;
  #peakKiB = 0;
  /** Children that were started. */
  started = 0;

  /** @param folder in which all files lie */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async judge(order: LoadOrder): Promise<LlamaVerdict> {
    if (this.#judged >= FILES_PER_CHILD) await this.close();
    const child = this.#child ?? (await this.#start());
    this.#judged++;
    const startMs = performance.now();
    child.channel.write(`${JSON.stringify(order)}\n`);
    const line = await Promise.race([this.#lines?.next(), hang()]);
    const durationMs = performance.now() - startMs;
    if (line === 'hangs') {
      await this.close();
      const said = `no answer within ${HANG_MS} ms`;
      return { verdict: 'hangs', said, reason: said, durationMs, grewKiB: 0 };
    }
    if (line?.done !== false) {
      const said = await crashReason(child);
      await this.close();
      return { verdict: 'crashes', said, reason: shapeOf(said), durationMs, grewKiB: 0 };
    }
    const answer = JSON.parse(line.value) as LoadAnswer;
    const grewKiB = answer.peakKiB - this.#peakKiB;
    this.#peakKiB = answer.peakKiB;
    if (answer.outcome === 'runs') return { verdict: 'accepts', said: '', reason: '', durationMs, grewKiB };
    const complaint = answer.complaints.findLast((line) => !NO_REASON.test(line)) ?? '';
    const said = `${answer.outcome}: ${complaint}`;
    return { verdict: 'refuses', said, reason: shapeOf(said), durationMs, grewKiB };
  }

  async close(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.process.exitCode !== null || child.process.signalCode !== null) return;
    child.process.kill('SIGKILL');
    await once(child.process, 'exit');
  }

  async #start(): Promise<LaunchedChild> {
    const child = await launchChild({
      script: path.join(import.meta.dirname, 'llama-child.ts'),
      readPaths: [path.dirname(import.meta.dirname), LLAMA_LIBRARY_FOLDER, this.#folder],
      env: { GGML_NO_BACKTRACE: '1' },
      title: 'freehold-fuzz',
    });
    const { pid } = child.process;
    if (pid !== undefined) limitMemory(pid);
    this.#child = child;
    this.#judged = 0;
    this.started++;
    this.#lines = createInterface({ input: child.channel })[Symbol.asyncIterator]();
    const ready = await this.#lines.next();
    if (ready.done === true) throw new Error(`the child of the oracle ended: ${child.stderrTail()}`);
    this.#peakKiB = (JSON.parse(ready.value) as LoadAnswer).peakKiB;
    return child;
  }
}

async function hang(): Promise<'hangs'> {
  await new Promise((resolve) => setTimeout(resolve, HANG_MS).unref());
  return 'hangs';
}

function limitMemory(pid: number): void {
  const limit = new BigUint64Array([BigInt(DATA_BYTES_MAX), BigInt(DATA_BYTES_MAX)]);
  const prlimit = koffi.load(null).func('int prlimit(int, int, void *, void *)');
  if (prlimit(pid, RLIMIT_DATA, limit, null) !== 0) throw new Error('prlimit failed');
}

async function crashReason(child: LaunchedChild): Promise<string> {
  if (child.process.exitCode === null && child.process.signalCode === null) await once(child.process, 'exit');
  // What it wrote last may still be on its way.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const lines = child.stderrTail().split('\n');
  const said = lines.findLast((line) => /GGML_ASSERT|fatal|what\(\)|: error|terminate|Error/.test(line));
  return `${child.process.signalCode ?? `exit ${child.process.exitCode}`} ${said ?? ''}`.trim();
}

/** A message without folders, names and numbers: the same for the same reason. */
export function shapeOf(message: string): string {
  return message
    .replaceAll(/(\/[\w.@-]+)+\/(?=[\w.-]+\.(cpp|c|h)\b)/g, '')
    .replaceAll(/'[^']*'|"[^"]*"/g, '…')
    .replaceAll(/\S*\/\S*\.gguf/g, '…')
    .replaceAll(/(?<=\bkey |in model: )\S+\.\S+/g, '…')
    .replaceAll(/(?<![\w.-])-?\d+(\.\d+)?(e[+-]?\d+)?\b/g, '#')
    .replaceAll(/#(,\s*#)+/g, '#')
    .replaceAll(/\s+/g, ' ')
    .slice(0, 200);
}
