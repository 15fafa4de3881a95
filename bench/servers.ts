import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { freehold, temporaryHome } from '../tests/fixtures/freehold-home.ts';
import { servedUrl, startCommand, startFreehold } from '../tests/fixtures/running-freehold.ts';
import type { Scope } from './benchmark.ts';
import { type ClientResult, runClient } from './client.ts';
import { STARTER, starterModel } from './models.ts';
import { treeCpuSeconds } from './process-usage.ts';

const HEALTH_INTERVAL_MS = 5;
const START_LIMIT_MS = 60_000;

export interface ServerSettings {
  readonly threads: number;
  /** Requests worked on at once. */
  readonly slots: number;
  /** Of each of them. */
  readonly contextTokensPerSlot: number;
}

/** A server that listens; its model may not be loaded yet. */
export interface BenchServer {
  readonly name: 'freehold' | 'llama-server';
  readonly pid: number;
  /** By `performance.now()`. */
  readonly startedAtMs: number;
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** Sends these bodies at once, with the model's name in them. */
  ask(path: string, bodies: readonly object[]): Promise<MeasuredResult>;
  stop(): Promise<void>;
}

/** With the CPU seconds that the server and its children used meanwhile. */
export type MeasuredResult = ClientResult & { readonly cpuSeconds: number };

export type StartServer = (scope: Scope, settings: ServerSettings) => Promise<BenchServer>;

/** A home with the starter model in it. */
export async function homeWithStarter(scope: Scope): Promise<string> {
  await starterModel();
  const home = await temporaryHome(scope);
  const { code, stderr } = await freehold(['install', `catalog:${STARTER}`, '--quiet'], { home });
  if (code !== 0) throw new Error(stderr);
  return home;
}

/** `freehold serve` of this checkout. */
export function freeholdServer(home: string): StartServer {
  return async (scope, { threads, slots, contextTokensPerSlot }) => {
    const running = startFreehold(
      scope,
      [
        ...['serve', '--listen', '127.0.0.1:0', '--quiet', '--keep-alive', 'never'],
        ...['--parallel', String(slots), '--context', String(contextTokensPerSlot)],
        ...['--threads', String(threads)],
      ],
      { home },
    );
    return benchServer('freehold', await servedUrl(running), running);
  };
}

/** `llama-server` of the peers, everything else as it is by default. */
export function llamaServer(tool: string, file: string): StartServer {
  return async (scope, { threads, slots, contextTokensPerSlot }) => {
    const port = await freePort();
    const running = startCommand(
      scope,
      [
        ...[tool, '-m', file, '--host', '127.0.0.1', '--port', String(port), '--no-ui'],
        ...['-np', String(slots), '-c', String(slots * contextTokensPerSlot), '-t', String(threads)],
      ],
      { cwd: os.tmpdir(), env: { PATH: process.env.PATH ?? '' } },
    );
    const url = `http://127.0.0.1:${port}`;
    await healthy(url, () => running.stderr());
    return benchServer('llama-server', url, running);
  };
}

function benchServer(
  name: BenchServer['name'],
  url: string,
  running: ReturnType<typeof startCommand>,
): BenchServer {
  const { pid, startedAtMs } = running;
  return {
    name,
    pid,
    startedAtMs,
    url,
    async ask(path, bodies) {
      const before = treeCpuSeconds(pid);
      const named = bodies.map((body) => ({ model: STARTER, ...body }));
      const result = await runClient({ url: url + path, bodies: named });
      return { ...result, cpuSeconds: treeCpuSeconds(pid) - before };
    },
    stop: async () => {
      await running.stop();
    },
  };
}

/** The port is free a moment before the server takes it; nothing else on the machine hurries to. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function healthy(url: string, output: () => string): Promise<void> {
  const limitMs = performance.now() + START_LIMIT_MS;
  while (performance.now() < limitMs) {
    const isUp = await fetch(`${url}/health`).then(
      (response) => response.ok,
      () => false,
    );
    if (isUp) return;
    await sleep(HEALTH_INTERVAL_MS);
  }
  throw new Error(`llama-server did not start:\n${output()}`);
}
