import { openBareLoop } from './bare-loop.ts';
import {
  aloneRow,
  alternate,
  type Benchmark,
  type BenchmarkContext,
  bestOf,
  comparedRow,
  type Row,
  type Sample,
  withScope,
} from './benchmark.ts';
import { openEngineSide } from './engine-side.ts';
import { LlamaBench } from './llama-bench.ts';
import { type BenchModel, modelsAtHand } from './models.ts';
import type { Peers } from './peers.ts';

const TOKENS = 128;

/** One stream of answers, without HTTP. */
export const decodeBenchmark: Benchmark = {
  name: 'decode',
  title: 'Decoding, one stream',
  how:
    `The whole engine (sandboxed child, sampling in TypeScript, channel) decodes ${TOKENS} tokens greedily, in turn ` +
    `with \`llama-bench -n ${TOKENS} -p 0\`, which samples nothing, and with a bare loop over the C API of the same ` +
    'libraries, which takes the most likely token. Our engine and the loop compute without flash attention, llama-bench ' +
    'with it unless the row says otherwise. Each side at its own best thread count (in parentheses).',
  async run(context) {
    const rows: Row[] = [];
    for (const model of await modelsAtHand()) rows.push(...(await measureModel(context, model)));
    return rows;
  },
};

async function measureModel(context: BenchmarkContext, model: BenchModel): Promise<Row[]> {
  const rows: Row[] = [];
  const threads = await bestEngineThreads(context, model);
  await withScope(async (scope) => {
    const engine = await openEngineSide(scope, model.file, threads);
    const ours = () => engine.decode(TOKENS);
    await ours();
    const bare = await openBareLoop(scope, model.file, threads);
    await bare(TOKENS);
    const label = `${model.title} (${threads}`;
    const compare = async (what: string, peer: () => Promise<Sample>, isWanted: boolean) => {
      const result = await alternate(context.rounds, ours, peer);
      const wanted = { kind: 'at-least', value: 0.98 } as const;
      rows.push(comparedRow(what, result, 'tokens/s', isWanted ? wanted : undefined));
    };
    context.say(`decode ${model.title}: bare loop, ${threads} threads`);
    await compare(`${label} threads), bare loop`, () => bare(TOKENS), false);
    if (context.peers === undefined) {
      rows.push(aloneRow(`${label} threads), llama-bench`, [await ours()], 'tokens/s'));
      return;
    }
    const { peer, threads: peerThreads } = await bestPeer(context, context.peers, model, [0, TOKENS]);
    context.say(`decode ${model.title}: llama-bench, ${peerThreads} threads`);
    const pair = `${label} / ${peerThreads} threads)`;
    await compare(`${pair}, llama-bench`, () => peer.asItIs.measure(), true);
    await compare(`${pair}, llama-bench -fa off`, () => peer.withoutFlash.measure(), false);
  });
  return rows;
}

async function bestEngineThreads(context: BenchmarkContext, model: BenchModel): Promise<number> {
  context.say(`decode ${model.title}: looking for the best thread count`);
  return bestOf(context.threadCounts, 'higher', (threads) =>
    withScope(async (scope) => {
      const engine = await openEngineSide(scope, model.file, threads);
      await engine.decode(8);
      return (await engine.decode(TOKENS / 2)).value;
    }),
  );
}

export interface BestPeer {
  readonly threads: number;
  /** As it decides by itself, and as our engine computes: what lies between them is the price of flash attention. */
  readonly peer: { readonly asItIs: LlamaBench; readonly withoutFlash: LlamaBench };
}

/** `llama-bench` at the thread count with which it is fastest. */
export async function bestPeer(
  { threadCounts }: BenchmarkContext,
  { llamaBench }: Peers,
  { file }: BenchModel,
  [promptTokens, generatedTokens]: readonly [number, number],
): Promise<BestPeer> {
  const test = { file, promptTokens, generatedTokens };
  const threads = await bestOf(threadCounts, 'higher', async (count) => {
    const { value } = await new LlamaBench(llamaBench, { ...test, threads: count }).measure();
    return value;
  });
  return {
    threads,
    peer: {
      asItIs: new LlamaBench(llamaBench, { ...test, threads }),
      withoutFlash: new LlamaBench(llamaBench, { ...test, threads, withoutFlashAttention: true }),
    },
  };
}
