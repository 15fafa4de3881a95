import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runPackageMutants, signedDocuments } from './package-mutants.ts';

const PER_DOCUMENT = 2_500;
const SLOWEST_MS_MAX = 1_000;
/** The documents have less than 10 KB; the rest is what V8 keeps for later. */
const GROWTH_BYTES_MAX = 64 << 20;

test('10,000 broken manifests, configs, descriptors and signatures are refused, each with a code', async (context) => {
  const documents = await signedDocuments();
  const whole = await runPackageMutants(documents, 0, 0);
  assert.deepEqual(whole.refusals, {});
  const before = process.memoryUsage();
  const { refusals, accepted, slowestMs } = await runPackageMutants(documents, 1, PER_DOCUMENT);
  const after = process.memoryUsage();
  const total = Object.values(refusals).reduce((sum, count) => sum + count, accepted);
  context.diagnostic(
    `${total} mutants, ${accepted} accepted, slowest ${slowestMs.toFixed(1)} ms, ${JSON.stringify(refusals)}`,
  );
  assert.equal(total, 4 * PER_DOCUMENT);
  assert.ok(accepted < total / 20, `${accepted} accepted`);
  assert.ok(slowestMs < SLOWEST_MS_MAX, `${slowestMs} ms`);
  const growth = after.arrayBuffers + after.external - before.arrayBuffers - before.external;
  assert.ok(growth < GROWTH_BYTES_MAX, `${growth} bytes more`);
  for (const code of ['MANIFEST_INVALID', 'PACKAGE_INVALID', 'SIGNATURE_MALFORMED']) {
    assert.ok((refusals[code] ?? 0) > 50, `${code} was reached ${refusals[code] ?? 0} times`);
  }
  assert.ok((refusals.SIGNATURE_INVALID ?? 0) > 0, 'some bundles were well-formed, and wrong');
});
