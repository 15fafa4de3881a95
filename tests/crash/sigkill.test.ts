import assert from 'node:assert/strict';
import { test } from 'node:test';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { seededRandom } from '../fixtures/random.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { withCrashGround } from './crash-ground.ts';
import { type KillMoment, killOperation, runUndisturbed } from './kill-run.ts';
import { crashOperationNamed, QUANTIZE } from './operations.ts';

/** 28 kills, with the two of a quantization thirty: most where most can go wrong. */
const KILLS: readonly (readonly [name: string, kills: number])[] = [
  ['install a folder', 5],
  ['install from the catalog', 5],
  ['build in a home that is not there yet', 5],
  ['remove', 4],
  ['gc', 3],
  ['fetch', 3],
  ['fetch what was half fetched', 2],
  ['check', 1],
];
const SEED = 30;

test('kill -9 at random moments leaves a home as before or as after', { timeout: 240_000 }, (context) =>
  withCrashGround(async (ground, folder) => {
    const random = seededRandom(SEED);
    for (const [name, kills] of KILLS) {
      const operation = crashOperationNamed(name);
      const run = await runUndisturbed(operation, ground, folder);
      for (let kill = 0; kill < kills; kill++) {
        const moment: KillMoment =
          run.calls === 0
            ? { kind: 'time', delayMs: 50 + random.below(100) }
            : {
                kind: 'call',
                call: 1 + random.below(run.calls),
                when: random.below(2) === 0 ? 'before' : 'during',
              };
        const isKilled = await killOperation(operation, ground, folder, run, moment);
        assert.ok(isKilled, `${name}: ${JSON.stringify(moment)} came too late`);
      }
      context.diagnostic(`${name}: ${kills} kills at ${run.calls} moments`);
    }
  }),
);

test(
  'kill -9 of a build leaves neither its quantizing child nor that child’s files',
  { timeout: 240_000, skip: skipUnlessCi(llamaLibraryMissing()) },
  () =>
    withCrashGround(async (ground, folder) => {
      const run = await runUndisturbed(QUANTIZE, ground, folder);
      for (const delayMs of [0, 150]) {
        await killOperation(QUANTIZE, ground, folder, run, { kind: 'grandchild', delayMs });
      }
    }),
);
