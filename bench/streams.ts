import {
  aloneRow,
  alternate,
  type Benchmark,
  type BenchmarkContext,
  comparedRow,
  type Row,
  repeat,
  type Sample,
  type Wanted,
} from './benchmark.ts';
import { freshText, NEVER_ENDING, STREAMED } from './client.ts';
import { energyJoules } from './machine.ts';
import { treePeakMebibytes } from './process-usage.ts';
import { type ServerPair, startPair } from './server-pair.ts';
import type { BenchServer } from './servers.ts';

const STREAMS = 8;
const TOKENS = 128;
const PROMPT_WORDS = 16;
const CONTEXT_TOKENS_PER_SLOT = 1024;
const PATH = '/v1/completions';
const GREEDY = { temperature: 0 } as const;
const SAMPLED = { temperature: 0.8, top_p: 0.95 } as const;

/** Several answers at once, over HTTP. */
export const streamsBenchmark: Benchmark = {
  name: 'streams',
  title: 'Eight streams over HTTP',
  how:
    `One client in a process of its own asks \`freehold serve\` and \`llama-server -np ${STREAMS}\` in turn for ` +
    `${STREAMS} completions of ${TOKENS} tokens at once (starter model, streamed, other prompts each time, end tokens ` +
    `forbidden by \`logit_bias\`, ${CONTEXT_TOKENS_PER_SLOT} tokens of context for each). All tokens by the time from ` +
    'the first request to the end of the last answer. Each side at its best thread count. Peak memory: the sum of ' +
    'VmHWM of server and children, after all of that.',
  async run(context) {
    const settings = { slots: STREAMS, contextTokensPerSlot: CONTEXT_TOKENS_PER_SLOT };
    const pair = await startPair(context, settings, async (server) => {
      const { wallMs } = await server.ask(PATH, bodies(STREAMS, GREEDY));
      return wallMs;
    });
    const joulesBefore = energyJoules();
    const rows = [
      await compare(context, pair, STREAMS, 'greedy', GREEDY, { kind: 'at-least', value: 1.3 }),
      await compare(context, pair, STREAMS, 'sampled (temperature 0.8, top_p 0.95)', SAMPLED),
      await compare(context, pair, 1, 'greedy', GREEDY),
    ];
    return [...rows, memoryRow(pair), await energyRow(joulesBefore, pair)];
  },
};

async function compare(
  context: BenchmarkContext,
  { ours, peer, threads }: ServerPair,
  count: number,
  how: string,
  sampling: object,
  wanted?: Wanted,
): Promise<Row> {
  const what = `${count === 1 ? 'one stream' : `${count} streams`}, ${how}, ${threads}`;
  context.say(what);
  const measure = (server: BenchServer) => () => totalRate(server, count, sampling);
  if (peer === undefined) return aloneRow(what, await repeat(context.rounds, measure(ours)), 'tokens/s');
  return comparedRow(what, await alternate(context.rounds, measure(ours), measure(peer)), 'tokens/s', wanted);
}

async function totalRate(server: BenchServer, count: number, sampling: object): Promise<Sample> {
  const { streams, wallMs, cpuSeconds } = await server.ask(PATH, bodies(count, sampling));
  const tokens = streams.reduce((sum, stream) => sum + stream.completionTokens, 0);
  if (tokens !== count * TOKENS)
    throw new Error(`${server.name} sent ${tokens} tokens instead of ${count * TOKENS}`);
  return { value: (tokens * 1000) / wallMs, cpuSeconds };
}

function bodies(count: number, sampling: object): object[] {
  return Array.from({ length: count }, () => ({
    prompt: `A story about ${freshText(PROMPT_WORDS)}. Once upon a time`,
    max_tokens: TOKENS,
    ...sampling,
    ...NEVER_ENDING,
    ...STREAMED,
  }));
}

function memoryRow({ ours, peer }: ServerPair): Row {
  const peak = (server: BenchServer) => `${treePeakMebibytes(server.pid).toFixed(0)} MiB`;
  return { what: 'peak memory', ours: peak(ours), peer: peer === undefined ? 'not built' : peak(peer) };
}

/** The counter is the machine's, so each side gets some seconds of it alone. */
async function energyRow(before: number | undefined, { ours, peer }: ServerPair): Promise<Row> {
  const what = `energy of ${STREAMS} streams, greedy`;
  if (before === undefined) return { what, ours: 'not readable here', peer: 'not readable here' };
  const joules = async (server: BenchServer) => {
    const begin = energyJoules() ?? 0;
    await totalRate(server, STREAMS, GREEDY);
    return `${((energyJoules() ?? 0) - begin).toFixed(0)} J`;
  };
  return { what, ours: await joules(ours), peer: peer === undefined ? 'not built' : await joules(peer) };
}
