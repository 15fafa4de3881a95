/**
 * Sixteen clients stream at once while models are loaded and unloaded and engines are killed at random:
 * `node bench/soak.ts [MINUTES [OPTION OF SERVE]…]` (default 10; `--memory 0.5` lets fewer models be loaded). Prints one JSON object; ends with 1 when one request got neither a whole
 * answer nor a clear error, or when memory, descriptors or processes grew. `tests/soak/` has a short form as a test.
 */
import { openFreehold } from '../src/surface/app/freehold.ts';
import { temporaryFolder } from '../tests/fixtures/freehold-home.ts';
import { installTinyPackage } from '../tests/fixtures/tiny-package.ts';
import { runSoak } from '../tests/soak/soak-run.ts';
import { cleanUpOnSignals, withScope } from './benchmark.ts';
import { STARTER } from './models.ts';
import { homeWithStarter } from './servers.ts';

const TINY_MODELS = ['tiny-a', 'tiny-b', 'tiny-c'] as const;
const MINUTE_MS = 60_000;

async function main([minutes = '10', ...serveArguments]: readonly string[]): Promise<void> {
  await withScope(async (scope) => {
    const home = await homeWithStarter(scope);
    const freehold = await openFreehold({ env: {}, home });
    for (const [index, name] of TINY_MODELS.entries()) {
      const folder = await temporaryFolder(scope, 'freehold-soak-');
      await installTinyPackage(freehold, folder, { name: `acme/${name}`, model: { seed: index + 1 } });
    }
    const summary = await runSoak(scope, {
      home,
      models: [STARTER, ...TINY_MODELS],
      clients: 16,
      durationMs: Number(minutes) * MINUTE_MS,
      // Each of four models then dies once in a minute: three deaths within one are taken for a crash loop.
      killEveryMs: MINUTE_MS / 4,
      tokensMax: 64,
      requestLimitMs: 3 * MINUTE_MS,
      // Who is not asked for a moment is unloaded.
      serveArguments: ['--keep-alive', '1s', ...serveArguments],
      seed: Date.now() % 2 ** 32,
      say: (text) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`),
    });
    process.stdout.write(`${JSON.stringify(summary, null, 2)}\n`);
    if (summary.violations.length > 0) process.exitCode = 1;
  });
}

cleanUpOnSignals();
await main(process.argv.slice(2));
