import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { AdapterGrammar } from './adapter-grammar.ts';
import { type CampaignResult, type Case, type Difference, runCampaign } from './campaign.ts';
import { classOf } from './difference-classes.ts';
import { GgufGrammar, soundPlans } from './gguf-grammar.ts';
import { encodePlan, type GgufPlan } from './gguf-plan.ts';
import { LlamaOracle } from './llama-oracle.ts';
import { judgeModel } from './own-verdict.ts';
import { PythonOracle, pythonOracleMissing } from './python-oracle.ts';

// The promise of docs/GGUF-CONFORMANCE.md: what we accept ends no reader, and every other difference is explained there.

const SEED = 4;
const AGAINST_PYTHON = 2000;
const AGAINST_LLAMA = 500;
const ADAPTERS = 150;
/** What llama.cpp may take for a model of 200 KB that we accept: buffers of its own, whatever the file says. */
const GROWTH_KIB_MAX = 64 << 10;

const withoutPython = skipUnlessCi(pythonOracleMissing());
const withoutLlama = skipUnlessCi(llamaLibraryMissing());

function* modelCases(seed: number, count: number): Generator<Case> {
  const grammar = new GgufGrammar(seed);
  for (let index = 0; index < count; index++) yield { plan: grammar.next() };
}

function* adapterCases(seed: number, count: number): Generator<Case> {
  const grammar = new AdapterGrammar(seed);
  for (let index = 0; index < count; index++) yield grammar.next();
}

/** No fault of ours, nothing that ends another reader, nothing without a class; both verdicts are met. */
function requireExplained(result: CampaignResult): void {
  assert.deepEqual(result.faults, []);
  const told = ({ against, kind, ours, theirs, shown }: Difference) =>
    `${against} ${kind}: ${ours || 'accepted'} | ${theirs || 'accepted'}: ${shown.plan.origin} (seed ${SEED})`;
  const unexplained = result.differences.filter((difference) => classOf(difference) === undefined);
  assert.deepEqual(unexplained.map(told), []);
  for (const outcome of ['we accept, it accepts', 'we refuse, it refuses']) {
    const met = [...result.matrix].some(
      ([cell, count]) => cell.endsWith(outcome) && count > result.files / 20,
    );
    assert.ok(met, `${outcome}: ${JSON.stringify([...result.matrix])}`);
  }
}

test(`${AGAINST_PYTHON} models against PyPI gguf`, { skip: withoutPython }, async () => {
  const cases = modelCases(SEED, AGAINST_PYTHON);
  requireExplained(await runCampaign({ cases, againstPython: true, againstLlama: false }));
});

test(`${AGAINST_LLAMA} models against llama.cpp`, { skip: withoutLlama }, async () => {
  const cases = modelCases(SEED + 1, AGAINST_LLAMA);
  const result = await runCampaign({ cases, againstPython: false, againstLlama: true });
  requireExplained(result);
  assert.ok(
    result.largestGrowthKiB < GROWTH_KIB_MAX,
    `${result.largestGrowthKiB} KiB for ${result.largest?.plan.origin}`,
  );
});

test(`${ADAPTERS} adapters against llama.cpp`, { skip: withoutLlama }, async () => {
  const cases = adapterCases(SEED, ADAPTERS);
  requireExplained(await runCampaign({ cases, againstPython: false, againstLlama: true }));
});

/** Files of which it is known what they do, so that the oracles are known to see it. */
async function shown(
  plan: GgufPlan,
  judge: (file: string, folder: string) => Promise<string>,
): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), 'freehold-oracle-'));
  const file = path.join(folder, 'file.gguf');
  writeFileSync(file, encodePlan(plan));
  try {
    return await judge(file, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function soundPlan(): GgufPlan {
  const plan = soundPlans().find(({ origin }) => origin === 'llama');
  assert.ok(plan !== undefined);
  return plan;
}

test('the oracle tells what runs, what is refused and what ends llama.cpp, and goes on', {
  skip: withoutLlama,
}, async () => {
  const sound = soundPlan();
  const halfNorms = sound.tensors.map((tensor) =>
    tensor.name.toString('latin1').includes('norm') ? { ...tensor, type: 1 } : tensor,
  );
  const hostile = { ...sound, tensors: halfNorms };
  const incomplete = { ...sound, tensors: sound.tensors.slice(1) };
  assert.equal((await judgeModel(encodePlan(hostile))).acceptedBy, 'reader');
  await shown(sound, async (soundFile, folder) => {
    const oracle = new LlamaOracle(folder);
    const other = path.join(folder, 'other.gguf');
    const verdicts: string[] = [];
    for (const plan of [sound, hostile, incomplete, sound]) {
      writeFileSync(other, encodePlan(plan));
      verdicts.push((await oracle.judge({ file: other })).verdict);
    }
    await oracle.close();
    assert.deepEqual(verdicts, ['accepts', 'crashes', 'refuses', 'accepts']);
    assert.equal(oracle.started, 2);
    return soundFile;
  });
});

test('the Python oracle tells what it reads, and goes on after an endless array', {
  skip: withoutPython,
}, async () => {
  const sound = soundPlan();
  const key = Buffer.from('x');
  const endless = { key, value: { kind: 'list' as const, elementType: 4, elements: [], count: 2n ** 40n } };
  const oracle = new PythonOracle();
  const verdicts: string[] = [];
  for (const plan of [
    sound,
    { ...sound, version: 9 },
    { ...sound, entries: [...sound.entries, endless], tensors: [] },
    sound,
  ]) {
    verdicts.push(await shown(plan, async (file) => (await oracle.judge(file)).verdict));
  }
  oracle.close();
  assert.deepEqual(verdicts, ['accepts', 'refuses', 'hangs', 'accepts']);
});
