import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runPackageMutants, signedDocuments } from './package-mutants.ts';

const PER_DOCUMENT = 5_000;
const SEEDS = [11, 12, 13, 14, 15];
const SLOWEST_MS_MAX = 1_000;

test('100,000 broken manifests, configs, descriptors and signatures are refused, each with a code', async (context) => {
  const documents = await signedDocuments();
  let total = 0;
  for (const seed of SEEDS) {
    const { refusals, accepted, slowestMs } = await runPackageMutants(documents, seed, PER_DOCUMENT);
    assert.ok(slowestMs < SLOWEST_MS_MAX, `${slowestMs} ms`);
    total += Object.values(refusals).reduce((sum, count) => sum + count, accepted);
  }
  assert.equal(total, 100_000);
  context.diagnostic(`${total} mutants`);
});
