// By hand: node tests/fuzz/run.ts [--minutes 30] [--seed N] [--without python|llama] [--minimise] [--adapters]
// Shows generated files to all three readers and says where they differ.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { AdapterGrammar } from './adapter-grammar.ts';
import { type Case, type Difference, runCampaign } from './campaign.ts';
import { classOf } from './difference-classes.ts';
import { GgufGrammar } from './gguf-grammar.ts';
import { encodePlan, type GgufPlan } from './gguf-plan.ts';
import { LlamaOracle } from './llama-oracle.ts';
import { describePlan, minimisePlan } from './minimise.ts';
import { judgeAdapter, judgeModel } from './own-verdict.ts';
import { pythonOracleMissing } from './python-oracle.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    without: { type: 'string', multiple: true, default: [] },
    minimise: { type: 'boolean', default: false },
    adapters: { type: 'boolean', default: false },
  },
});

function* endless(seed: number): Generator<Case> {
  const models = new GgufGrammar(seed);
  const adapters = new AdapterGrammar(seed);
  for (;;) yield values.adapters ? adapters.next() : { plan: models.next() };
}

/** The smallest file that we accept and that ends llama.cpp at the same place. */
async function minimised({ shown, theirs }: Difference): Promise<GgufPlan> {
  const folder = mkdtempSync(path.join(tmpdir(), 'freehold-minimise-'));
  const oracle = new LlamaOracle(folder);
  const file = path.join(folder, 'file.gguf');
  const baseFile = path.join(folder, 'base.gguf');
  const base = shown.base === undefined ? undefined : encodePlan(shown.base);
  if (base !== undefined) writeFileSync(baseFile, base);
  const smaller = await minimisePlan(shown.plan, async (candidate) => {
    const bytes = encodePlan(candidate);
    const own = await (base === undefined ? judgeModel(bytes) : judgeAdapter(bytes, base));
    if (own.acceptedBy !== 'gate') return false;
    writeFileSync(file, bytes);
    const verdict = await oracle.judge(base === undefined ? { file } : { file: baseFile, adapter: file });
    return verdict.verdict === 'crashes' && verdict.reason === theirs;
  });
  await oracle.close();
  rmSync(folder, { recursive: true });
  return smaller;
}

const groups = new Map<string, { count: number; first: Difference }>();
console.log(`seed ${values.seed}`);
const missing = values.without.includes('python') ? 'not wanted' : pythonOracleMissing();
if (missing !== undefined) console.log(`without PyPI gguf: ${missing}`);
const result = await runCampaign({
  cases: endless(Number(values.seed)),
  againstPython: missing === undefined && !values.adapters,
  againstLlama: !values.without.includes('llama'),
  untilMs: Number(values.minutes) * 60_000,
  onDifference: (difference) => {
    const key = `${difference.against} ${difference.kind}: ${classOf(difference)?.name ?? `UNEXPLAINED ${difference.ours} | ${difference.theirs}`}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { count: 1, first: difference });
    else group.count++;
  },
});
console.log(`${result.files} files, our slowest ${result.slowestMs.toFixed(0)} ms`);
for (const [cell, count] of [...result.matrix].sort()) console.log(`${String(count).padStart(8)}  ${cell}`);
for (const fault of result.faults) console.log(`FAULT OF OURS ${fault}`);
console.log(`largest growth of llama.cpp: ${result.largestGrowthKiB} KiB by ${result.largest?.plan.origin}`);
for (const [key, { count, first }] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
  console.log(`${String(count).padStart(6)}  ${key}\n          e.g. ${first.shown.plan.origin}`);
  if (values.minimise && first.kind === 'crashes') console.log(`    ${describePlan(await minimised(first))}`);
}
