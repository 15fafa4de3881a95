import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Sample } from './benchmark.ts';
import { endedChildrenCpuSeconds } from './process-usage.ts';

const runFile = promisify(execFile);
/** In one start of the tool, so that loading the model is a small part of it. */
const REPETITIONS = 3;

export interface LlamaBenchTest {
  readonly file: string;
  readonly threads: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Absent: as it decides by itself, which is with flash attention on processors as well. */
  readonly withoutFlashAttention?: boolean;
}

/** `llama-bench` with everything else as it is by default; loading once without any test tells what that costs. */
export class LlamaBench {
  readonly #tool: string;
  readonly #test: LlamaBenchTest;
  #loadCpuSeconds: number | undefined;

  constructor(tool: string, test: LlamaBenchTest) {
    this.#tool = tool;
    this.#test = test;
  }

  /** Mean of a few repetitions in tokens per second; CPU seconds of one, without loading. */
  async measure(): Promise<Sample> {
    this.#loadCpuSeconds ??= (
      await this.#run(1, { ...this.#test, promptTokens: 0, generatedTokens: 1 })
    ).cpuSeconds;
    const { value, cpuSeconds } = await this.#run(REPETITIONS, this.#test);
    return { value, cpuSeconds: Math.max(0, cpuSeconds - this.#loadCpuSeconds) / REPETITIONS };
  }

  async #run(repetitions: number, test: LlamaBenchTest): Promise<Sample> {
    const before = endedChildrenCpuSeconds();
    const { stdout } = await runFile(this.#tool, [
      ...['-m', test.file, '-t', String(test.threads)],
      ...['-p', String(test.promptTokens), '-n', String(test.generatedTokens)],
      ...['-r', String(repetitions), '-o', 'json'],
      ...(test.withoutFlashAttention === true ? ['-fa', 'off'] : []),
    ]);
    const [result] = JSON.parse(stdout) as [{ avg_ts: number }];
    return { value: result.avg_ts, cpuSeconds: endedChildrenCpuSeconds() - before };
  }
}
