import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../core/base/clock.ts';
import type { LogRecord } from '../../core/base/log.ts';
import type { LocalModelHost } from '../app/model-host.ts';
import { FREEHOLD_VERSION } from '../app/version.ts';
import { createApp } from '../server/app.ts';
import { startServer } from '../server/listen.ts';
import type { CommandContext } from './program.ts';
import { harmless } from './terminal.ts';

export interface ListenOptions {
  readonly listen: string;
  readonly allowHost?: string[];
}

const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (durationMs, signal) => sleep(durationMs, undefined, signal === undefined ? {} : { signal }),
};

/**
 * Serves until the signal aborts, then lets running answers end.
 * @param whenReady is told the address once the server listens
 */
export async function serveUntilStopped(
  { terminal, signal }: CommandContext,
  host: LocalModelHost,
  options: ListenOptions,
  whenReady: (url: string) => void,
): Promise<number> {
  const app = createApp({
    host,
    clock: systemClock,
    random: (count) => randomBytes(count),
    log: (record) => terminal.note(logLine(record)),
    version: FREEHOLD_VERSION,
    allowedHosts: options.allowHost ?? [],
  });
  const server = await startServer({ app, listen: options.listen });
  whenReady(server.url);
  if (!signal.aborted) {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  terminal.note('\nstopping: running answers may end');
  await server.close();
  return 0;
}

/** `12:01:07 info request-answered method=POST path=/v1/models status=200`. */
function logLine({ level, event, fields = {} }: LogRecord): string {
  const time = new Date().toISOString().slice(11, 19);
  const pairs = Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${String(value)}`);
  return harmless([time, level, event, ...pairs].join(' '));
}
