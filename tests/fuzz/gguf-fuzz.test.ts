import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdapterGrammar } from './adapter-grammar.ts';
import { GgufGrammar, soundPlans } from './gguf-grammar.ts';
import { encodePlan, type GgufPlan } from './gguf-plan.ts';
import { minimisePlan } from './minimise.ts';
import { judgeAdapter, judgeModel, type OwnVerdict } from './own-verdict.ts';

// The readers alone, on files that no writer would make. Against other readers: gguf-differential.full.test.ts.

const SEED = 20_261_122;
const MODELS = 2000;
const ADAPTERS = 300;
/** Of processor time; the largest file has half a megabyte of text. */
const JUDGE_MS_MAX = 2000;
/** A header is read once in windows, and string arrays a second time. */
const READS_PER_BYTE_MAX = 3;

/** Checks what must hold of every verdict; the shapes of all refusals. */
class Watch {
  readonly refusals = new Set<string>();
  accepted = 0;

  see(own: OwnVerdict, plan: GgufPlan, fileBytes: number): void {
    const what = `seed ${SEED}: ${plan.origin}`;
    assert.equal(own.fault, undefined, what);
    assert.ok(own.durationMs < JUDGE_MS_MAX, `${what} takes ${own.durationMs} ms`);
    assert.ok(
      own.bytesRead <= fileBytes * READS_PER_BYTE_MAX,
      `${what} reads ${own.bytesRead} of ${fileBytes} bytes`,
    );
    if (own.acceptedBy === 'gate') this.accepted++;
    else this.refusals.add(own.reason);
  }
}

test(`${MODELS} generated models: accepted, or refused by code, in bounded time and memory`, async () => {
  const grammar = new GgufGrammar(SEED);
  const watch = new Watch();
  for (let index = 0; index < MODELS; index++) {
    const plan = grammar.next();
    const bytes = encodePlan(plan);
    watch.see(await judgeModel(bytes), plan, bytes.length);
  }
  // Both outcomes are frequent, and the refusals come from everywhere: else the grammar has become blunt.
  assert.ok(watch.accepted > MODELS / 5, `${watch.accepted} accepted`);
  assert.ok(watch.refusals.size > 100, `${watch.refusals.size} reasons`);
});

test(`${ADAPTERS} generated adapters: the same`, async () => {
  const grammar = new AdapterGrammar(SEED);
  const watch = new Watch();
  for (let index = 0; index < ADAPTERS; index++) {
    const { plan, base } = grammar.next();
    const bytes = encodePlan(plan);
    watch.see(await judgeAdapter(bytes, encodePlan(base)), plan, bytes.length);
  }
  assert.ok(watch.accepted > ADAPTERS / 5, `${watch.accepted} accepted`);
  assert.ok(watch.refusals.size > 30, `${watch.refusals.size} reasons`);
});

test('a sound model of every architecture passes the gate', async () => {
  const plans = soundPlans().filter(({ origin }) => origin !== 'every-kind');
  assert.ok(plans.length > 100, `${plans.length} architectures`);
  for (const plan of plans) {
    const own = await judgeModel(encodePlan(plan));
    assert.equal(own.acceptedBy, 'gate', `${plan.origin}: ${own.said}`);
  }
});

test('one seed gives the same files, another one others', () => {
  const digest = (seed: number) => {
    const grammar = new GgufGrammar(seed);
    return Array.from({ length: 20 }, () => encodePlan(grammar.next()).toString('base64'));
  };
  assert.deepEqual(digest(7), digest(7));
  assert.notDeepEqual(digest(7), digest(8));
});

test('a found file is cut down to what makes it one', async () => {
  const [plan] = soundPlans();
  assert.ok(plan !== undefined);
  const broken: GgufPlan = { ...plan, tensors: plan.tensors.map((tensor) => ({ ...tensor, type: 99 })) };
  const reason = (await judgeModel(encodePlan(broken))).reason;
  assert.match(reason, /unknown ggml type/);
  const smaller = await minimisePlan(
    broken,
    async (candidate) => (await judgeModel(encodePlan(candidate))).reason === reason,
  );
  assert.deepEqual([smaller.entries.length, smaller.tensors.length], [0, 1]);
});
