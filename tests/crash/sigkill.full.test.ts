import { describe, test } from 'node:test';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { withCrashGround } from './crash-ground.ts';
import { spread } from './crash-states.ts';
import { type KillMoment, killOperation, runUndisturbed } from './kill-run.ts';
import { CRASH_OPERATIONS, type CrashOperation, QUANTIZE } from './operations.ts';

/** A start of Node each. The replay of `crash-states.full.test.ts` looks at all. */
const MOMENTS_MAX = 40;
/** The machines that run this have two cores. */
const KILLS_AT_ONCE = 2;

describe('kill -9 at every call that changes the disk', () => {
  // In a process of its own no reflink is granted where the file system has none: that is "build" again.
  for (const operation of CRASH_OPERATIONS.filter(({ grantsReflinks }) => grantsReflinks !== true)) {
    test(operation.name, { timeout: 1_200_000 }, (context) =>
      killAll(operation, (calls) => {
        context.diagnostic(`${calls} calls`);
        return spread([...Array(calls).keys()], MOMENTS_MAX).map((index): KillMoment => {
          return { kind: 'call', call: index + 1, when: index % 2 === 0 ? 'before' : 'during' };
        });
      }),
    );
  }
});

test(
  'kill -9 at many moments of a quantization',
  { timeout: 1_200_000, skip: skipUnlessCi(llamaLibraryMissing()) },
  () =>
    killAll(QUANTIZE, () =>
      Array.from({ length: 25 }, (_, index): KillMoment => ({ kind: 'grandchild', delayMs: index * 40 })),
    ),
);

async function killAll(
  operation: CrashOperation,
  momentsOf: (calls: number) => readonly KillMoment[],
): Promise<void> {
  await withCrashGround(async (ground, folder) => {
    const run = await runUndisturbed(operation, ground, folder);
    const queue = momentsOf(run.calls).values();
    const work = async () => {
      for (const moment of queue) await killOperation(operation, ground, folder, run, moment);
    };
    await Promise.all(Array.from({ length: KILLS_AT_ONCE }, work));
  });
}
