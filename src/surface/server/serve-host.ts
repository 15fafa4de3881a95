import { randomBytes } from 'node:crypto';
import type { ModelHost } from '../../core/base/engine-port.ts';
import { type Log, silentLog } from '../../core/base/log.ts';
import { systemClock } from '../app/system-clock.ts';
import { FREEHOLD_VERSION } from '../app/version.ts';
import { createApp } from './app.ts';
import { type RunningServer, startServer } from './listen.ts';

export interface ServeOptions {
  readonly host: ModelHost;
  /** `127.0.0.1:8484`; port 0 takes a free one. */
  readonly listen: string;
  /** Host headers besides the loopback names. */
  readonly allowedHosts?: readonly string[];
  readonly log?: Log;
}

/**
 * Serves the models of a host behind the OpenAI-compatible door, with the system's clock and randomness.
 * @throws CONFIG_INVALID, NOT_SUPPORTED for other than loopback addresses, PORT_IN_USE
 */
export async function serveHost(options: ServeOptions): Promise<RunningServer> {
  const app = createApp({
    host: options.host,
    clock: systemClock,
    random: (count) => randomBytes(count),
    log: options.log ?? silentLog,
    version: FREEHOLD_VERSION,
    allowedHosts: options.allowedHosts ?? [],
  });
  return startServer({ app, listen: options.listen });
}
