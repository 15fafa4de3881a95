import { fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { Sample, Scope } from './benchmark.ts';
import { treeCpuSeconds } from './process-usage.ts';

/** A bare decode loop over the very libraries that our engine calls. @returns tokens per second of one run */
export async function openBareLoop(
  scope: Scope,
  file: string,
  threads: number,
): Promise<(tokens: number) => Promise<Sample>> {
  const child = fork(path.join(import.meta.dirname, 'bare-loop-child.ts'), [file, String(threads)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  scope.after(() => child.kill('SIGKILL'));
  const answer = async (): Promise<unknown> => {
    const died = once(child, 'exit').then(([code]) => {
      throw new Error(`the bare loop ended with ${code}`);
    });
    const [message] = (await Promise.race([once(child, 'message'), died])) as unknown[];
    return message;
  };
  await answer();
  const pid = child.pid ?? 0;
  return async (tokens) => {
    const before = treeCpuSeconds(pid);
    const answered = answer();
    child.send(tokens);
    const value = Number(await answered);
    return { value, cpuSeconds: treeCpuSeconds(pid) - before };
  };
}
