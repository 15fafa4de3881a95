import {
  aloneRow,
  alternate,
  type Benchmark,
  type BenchmarkContext,
  bestOf,
  comparedRow,
  type Row,
  withScope,
} from './benchmark.ts';
import { bestPeer } from './decode.ts';
import { openEngineSide } from './engine-side.ts';
import { type BenchModel, modelsAtHand } from './models.ts';

const TOKENS = 512;

/** Reading of prompts, without HTTP. */
export const promptBenchmark: Benchmark = {
  name: 'prompt',
  title: 'Reading a prompt',
  how:
    `The engine reads ${TOKENS} random tokens, other ones each time so that nothing is cached (\`promptMs\` of its ` +
    `usage), in turn with \`llama-bench -p ${TOKENS} -n 0\`. Each side at its own best thread count (in parentheses); ` +
    'our engine computes without flash attention.',
  async run(context) {
    const rows: Row[] = [];
    for (const model of await modelsAtHand()) rows.push(...(await measureModel(context, model)));
    return rows;
  },
};

async function measureModel(context: BenchmarkContext, model: BenchModel): Promise<Row[]> {
  context.say(`prompt ${model.title}: looking for the best thread count`);
  const threads = await bestOf(context.threadCounts, 'higher', (count) =>
    withScope(async (scope) => {
      const engine = await openEngineSide(scope, model.file, count);
      await engine.readPrompt(TOKENS);
      return (await engine.readPrompt(TOKENS)).value;
    }),
  );
  return withScope(async (scope) => {
    const engine = await openEngineSide(scope, model.file, threads);
    const ours = () => engine.readPrompt(TOKENS);
    await ours();
    if (context.peers === undefined)
      return [aloneRow(`${model.title} (${threads} threads)`, [await ours()], 'tokens/s')];
    const { peer, threads: peerThreads } = await bestPeer(context, context.peers, model, [TOKENS, 0]);
    const label = `${model.title} (${threads} / ${peerThreads} threads)`;
    context.say(`prompt ${label}`);
    const asItIs = await alternate(context.rounds, ours, () => peer.asItIs.measure());
    const withoutFlash = await alternate(context.rounds, ours, () => peer.withoutFlash.measure());
    return [
      comparedRow(label, asItIs, 'tokens/s', { kind: 'at-least', value: 0.95 }),
      comparedRow(`${label}, llama-bench -fa off`, withoutFlash, 'tokens/s'),
    ];
  });
}
