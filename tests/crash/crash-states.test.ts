import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withCrashGround } from './crash-ground.ts';
import { crashAfterKill, crashOperation } from './crash-run.ts';
import { CRASH_OPERATIONS, crashOperationNamed } from './operations.ts';

/** The full tier looks at all of them. */
const FAST = { samplesPerStep: 3, seed: 20_261, statesMax: 24, retriesEvery: 4 };

test('whatever a crash leaves of any operation is as before or as after', { timeout: 240_000 }, (context) =>
  withCrashGround(async (ground, folder) => {
    for (const operation of CRASH_OPERATIONS) {
      const run = await crashOperation(operation, ground, folder, FAST);
      context.diagnostic(`${operation.name}: ${run.steps} steps, ${run.looked} of ${run.states} states`);
      assert.deepEqual(run.faults, []);
    }
  }),
);

test('the power may go after an operation that followed upon a killed one', { timeout: 240_000 }, () =>
  withCrashGround(async (ground, folder) => {
    const pairs = [
      ['remove the last package', 'gc'],
      ['build', 'build'],
    ] as const;
    for (const [first, second] of pairs) {
      const [killed, next] = [crashOperationNamed(first), crashOperationNamed(second)];
      const options = { ...FAST, samplesPerStep: 0, statesMax: 4 };
      assert.deepEqual((await crashAfterKill(killed, next, ground, folder, options)).faults, []);
    }
  }),
);

test('the harness notices flushes that are left out', { timeout: 240_000 }, () =>
  withCrashGround(async (ground, folder) => {
    for (const kind of ['file', 'folder'] as const) {
      const { faults } = await crashOperation(crashOperationNamed('build'), ground, folder, {
        ...FAST,
        statesMax: 40,
        retriesEvery: 100,
        alter: (record) => ({
          ...record,
          steps: record.steps.map(({ flush, ...step }) => {
            const node =
              flush === undefined
                ? undefined
                : (record.born.get(flush.node) ?? record.initial.nodes.get(flush.node));
            return flush === undefined || node?.kind === kind ? step : { ...step, flush };
          }),
        }),
      });
      assert.ok(faults.length > 0, `nobody missed the flushes of every ${kind}`);
    }
  }),
);
