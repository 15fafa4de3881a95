import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { withCrashGround } from './crash-ground.ts';
import { crashAfterKill, crashOperation } from './crash-run.ts';
import { CRASH_OPERATIONS, crashOperationNamed } from './operations.ts';

const FULL = { samplesPerStep: 16, seed: 7, retriesEvery: 4 };

describe('every crash of every operation', () => {
  for (const operation of CRASH_OPERATIONS) {
    test(operation.name, { timeout: 1_200_000 }, (context) =>
      withCrashGround(async (ground, folder) => {
        const run = await crashOperation(operation, ground, folder, { ...FULL, statesMax: 1500 });
        context.diagnostic(`${run.steps} steps, ${run.looked} of ${run.states} states`);
        assert.deepEqual(run.faults, []);
      }),
    );
  }
});

describe('the power goes after an operation that followed upon a killed one', () => {
  const pairs = [
    ['build', 'gc'],
    ['remove', 'gc'],
    ['remove', 'remove'],
    ['build in a home that is not there yet', 'build'],
    ['build in a home that is not there yet', 'make a key'],
    ['build', 'build'],
    ['gc', 'build'],
    ['install a folder', 'install a folder'],
    ['install from the catalog', 'install from the catalog'],
    ['fetch', 'fetch'],
    ['trust a key', 'trust a key'],
    ['make a key', 'make a key'],
  ] as const;
  for (const [first, second] of pairs) {
    test(`${first}, then ${second}`, { timeout: 1_200_000 }, (context) =>
      withCrashGround(async (ground, folder) => {
        const [killed, next] = [crashOperationNamed(first), crashOperationNamed(second)];
        const options = { ...FULL, samplesPerStep: 1, statesMax: 12 };
        const run = await crashAfterKill(killed, next, ground, folder, options);
        context.diagnostic(`${run.looked} of ${run.states} states`);
        assert.deepEqual(run.faults, []);
      }),
    );
  }
});
