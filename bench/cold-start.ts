import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { cliEnvironment, FREEHOLD_BIN } from '../tests/fixtures/freehold-home.ts';
import {
  aloneRow,
  alternate,
  type Benchmark,
  comparedRow,
  type Row,
  repeat,
  type Sample,
  withScope,
} from './benchmark.ts';
import { freshText, NEVER_ENDING, STREAMED } from './client.ts';
import { STARTER, starterModel } from './models.ts';
import { endedChildrenCpuSeconds, treeCpuSeconds } from './process-usage.ts';
import { freeholdServer, homeWithStarter, llamaServer, type StartServer } from './servers.ts';

const SETTINGS = { threads: 1, slots: 1, contextTokensPerSlot: 1024 } as const;
const WORDS = 8;

/** From nothing but files in the page cache to the first token. */
export const coldStartBenchmark: Benchmark = {
  name: 'cold-start',
  title: 'From a cold start to the first token',
  how:
    'From the start of the process to the first text: `freehold run MODEL PROMPT` (no peer: nothing of llama.cpp checks ' +
    'a signature first), and a server with one thread that is asked as soon as it listens. Starter model, files in the ' +
    'page cache, weights checked and threads chosen at an earlier start. Freehold runs from the checkout.',
  async run({ scope, peers, rounds, say }) {
    const home = await homeWithStarter(scope);
    const ours = freeholdServer(home);
    // The first start hashes the weights, measures threads, and keeps both.
    await runCommand(home);
    say('cold start: freehold run');
    const rows: Row[] = [aloneRow('`freehold run`', await repeat(rounds, () => runCommand(home)), 'ms', '–')];
    say('cold start: servers');
    const what = 'server, first token over HTTP';
    if (peers === undefined) rows.push(aloneRow(what, await repeat(rounds, () => startAndAsk(ours)), 'ms'));
    else {
      const peer = llamaServer(peers.llamaServer, (await starterModel()).file);
      const result = await alternate(
        rounds,
        () => startAndAsk(ours),
        () => startAndAsk(peer),
      );
      rows.push(comparedRow(what, result, 'ms'));
    }
    return rows;
  },
};

/** CPU seconds until it has ended, a few tokens later. */
async function runCommand(home: string): Promise<Sample> {
  const before = endedChildrenCpuSeconds();
  const startedMs = performance.now();
  const args = ['run', STARTER, freshText(WORDS), '--max-tokens', '4', '--quiet'];
  const child = spawn(process.execPath, [path.resolve(FREEHOLD_BIN), ...args], {
    env: cliEnvironment(home),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'readable');
  const value = performance.now() - startedMs;
  child.stdout.resume();
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`freehold run ended with ${code}`);
  return { value, cpuSeconds: endedChildrenCpuSeconds() - before };
}

/** CPU seconds until the answer is there. */
async function startAndAsk(start: StartServer): Promise<Sample> {
  return withScope(async (scope) => {
    const server = await start(scope, SETTINGS);
    const value = await firstTextMs(server.url, server.startedAtMs);
    const cpuSeconds = treeCpuSeconds(server.pid);
    await server.stop();
    return { value, cpuSeconds };
  });
}

/** In this process: starting the client would take longer than the answer. */
async function firstTextMs(url: string, startedAtMs: number): Promise<number> {
  const body = { model: STARTER, prompt: freshText(WORDS), max_tokens: 4, ...NEVER_ENDING, ...STREAMED };
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok || response.body === null) throw new Error(await response.text());
  let seen = '';
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    seen += part;
    if (/"text": ?"[^"]/.test(seen)) return performance.now() - startedAtMs;
  }
  throw new Error(`no text: ${seen}`);
}
