import { type BenchmarkContext, bestOf, withScope } from './benchmark.ts';
import { starterModel } from './models.ts';
import {
  type BenchServer,
  freeholdServer,
  homeWithStarter,
  llamaServer,
  type ServerSettings,
  type StartServer,
} from './servers.ts';

/** Both servers, running at once: the one that is not asked sleeps. */
export interface ServerPair {
  readonly ours: BenchServer;
  readonly peer: BenchServer | undefined;
  /** `1 / 2 threads` */
  readonly threads: string;
}

/**
 * Starts each side with every thread count that is worth trying and keeps it at the one at which it is best.
 * @param measure lower is better
 */
export async function startPair(
  context: BenchmarkContext,
  settings: Omit<ServerSettings, 'threads'>,
  measure: (server: BenchServer) => Promise<number>,
): Promise<ServerPair> {
  const { scope, peers, threadCounts } = context;
  const best = async (start: StartServer) => {
    const threads = await bestOf(threadCounts, 'lower', (count) =>
      withScope(async (trial) => {
        const server = await start(trial, { ...settings, threads: count });
        // Loads the model, fills the processor's caches, compiles.
        await measure(server);
        const value = await measure(server);
        context.say(`${server.name} with ${count} threads: ${value.toFixed(0)} ms`);
        return value;
      }),
    );
    const server = await start(scope, { ...settings, threads });
    await measure(server);
    return { server, threads };
  };
  const home = await homeWithStarter(scope);
  const ours = await best(freeholdServer(home));
  if (peers === undefined) return { ours: ours.server, peer: undefined, threads: `${ours.threads} threads` };
  const peer = await best(llamaServer(peers.llamaServer, (await starterModel()).file));
  return { ours: ours.server, peer: peer.server, threads: `${ours.threads} / ${peer.threads} threads` };
}
