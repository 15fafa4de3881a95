import type { Log, LogRecord } from '../../core/base/log.ts';
import type { LocalModelHost } from '../app/model-host.ts';
import type { CommandContext } from './program.ts';
import { harmless, type Terminal } from './terminal.ts';

export const LISTEN_DEFAULT = '127.0.0.1:8484';

export interface ListenOptions {
  readonly listen?: string;
  readonly allowHost?: string[];
}

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
  // Loaded here: most commands need no HTTP server, and this is a sixth of their start.
  const { serveHost } = await import('../server/serve-host.ts');
  const server = await serveHost({
    host,
    listen: options.listen ?? LISTEN_DEFAULT,
    allowedHosts: options.allowHost ?? [],
    log: logTo(terminal),
  });
  whenReady(server.url);
  if (!signal.aborted) {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  terminal.note('\nstopping: running answers may end');
  await server.close();
  return 0;
}

/** A log that people read on stderr. */
export function logTo(terminal: Terminal): Log {
  return (record) => terminal.note(logLine(record));
}

/** `12:01:07 info request-answered method=POST path=/v1/models status=200`. */
function logLine({ level, event, fields = {} }: LogRecord): string {
  const time = new Date().toISOString().slice(11, 19);
  const pairs = Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${String(value)}`);
  return harmless([time, level, event, ...pairs].join(' '));
}
