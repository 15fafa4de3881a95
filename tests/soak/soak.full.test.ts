import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';
import { runSoak } from './soak-run.ts';

const MODELS = ['tiny-a', 'tiny-b', 'tiny-c', 'tiny-d'] as const;

/** The short form of `bench/soak.ts`. */
test('every client gets a whole answer or a clear error while engines die, and the server holds no more than before', {
  skip: skipUnlessCi(llamaLibraryMissing()),
}, async (context) => {
  const home = await temporaryHome(context);
  const freehold = await openFreehold({ env: {}, home });
  for (const [index, name] of MODELS.entries()) {
    const folder = await temporaryFolder(context);
    await installTinyPackage(freehold, folder, { name: `acme/${name}`, model: { seed: index + 1 } });
  }
  const summary = await runSoak(context, {
    home,
    models: MODELS,
    clients: 16,
    durationMs: 30_000,
    killEveryMs: 3_000,
    tokensMax: 48,
    requestLimitMs: 60_000,
    // Who is not asked for a moment is unloaded.
    serveArguments: ['--keep-alive', '1s'],
    seed: 1,
  });
  context.diagnostic(JSON.stringify(summary));
  assert.deepEqual(summary.violations, []);
  assert.ok(summary.kills > 0, 'an engine was killed');
  assert.ok(summary.engines > MODELS.length, 'models were loaded again');
});
