import { setTimeout as sleep } from 'node:timers/promises';
import {
  aloneRow,
  alternate,
  type Benchmark,
  comparedRow,
  type Row,
  repeat,
  type Sample,
} from './benchmark.ts';
import { freshText, NEVER_ENDING, STREAMED } from './client.ts';
import { startPair } from './server-pair.ts';
import type { BenchServer } from './servers.ts';

const PROMPTS = [
  { what: 'a prompt of about 15 tokens', words: 10 },
  { what: 'a prompt of about 500 tokens', words: 480 },
] as const;
const ANSWER_TOKENS = 4;
const CONTEXT_TOKENS_PER_SLOT = 1024;
const SLOTS = 8;
/** One request is short: several make one measurement. */
const REQUESTS = 3;
/** Threads of the side that was asked before spin on for a moment. */
const PAUSE_MS = 50;

/** How long a user waits for the first word from a warm model. */
export const firstTokenBenchmark: Benchmark = {
  name: 'first-token',
  title: 'First token of a warm model',
  how:
    `From the request to the first text of a streamed completion over HTTP (starter model, ${SLOTS} slots, nothing else ` +
    `running, a prompt of other words each time), median of ${REQUESTS} requests in each round. Each side at the ` +
    'thread count at which it is quickest with the long prompt.',
  async run(context) {
    const settings = { slots: SLOTS, contextTokensPerSlot: CONTEXT_TOKENS_PER_SLOT };
    const { ours, peer, threads } = await startPair(context, settings, async (server) => {
      const { value } = await firstToken(server, PROMPTS[1].words);
      return value;
    });
    const rows: Row[] = [];
    for (const { what, words } of PROMPTS) {
      context.say(what);
      const label = `${what}, ${threads}`;
      const measure = (server: BenchServer) => () => firstToken(server, words);
      if (peer === undefined) rows.push(aloneRow(label, await repeat(context.rounds, measure(ours)), 'ms'));
      else {
        const result = await alternate(context.rounds, measure(ours), measure(peer));
        rows.push(comparedRow(label, result, 'ms', { kind: 'at-most', value: 1.1 }));
      }
    }
    return rows;
  },
};

async function firstToken(server: BenchServer, words: number): Promise<Sample> {
  const times: number[] = [];
  let cpuSeconds = 0;
  for (let count = 0; count < REQUESTS; count++) {
    await sleep(PAUSE_MS);
    const result = await server.ask('/v1/completions', [
      { prompt: freshText(words), max_tokens: ANSWER_TOKENS, temperature: 0, ...NEVER_ENDING, ...STREAMED },
    ]);
    times.push(result.streams[0]?.firstMs ?? Number.NaN);
    cpuSeconds += result.cpuSeconds / REQUESTS;
  }
  times.sort((left, right) => left - right);
  return { value: times[Math.floor(REQUESTS / 2)] ?? Number.NaN, cpuSeconds };
}
