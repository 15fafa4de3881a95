import fs from 'node:fs';
import path from 'node:path';
import { type CrashState, crashStates, spread } from './crash-states.ts';
import { type DiskRecord, effectsAfter, TreeBuilder } from './disk-model.ts';
import { describeTree, readTree, writeTree } from './disk-tree.ts';
import { type CrashedHome, contentOf, verifyCrashedHome } from './home-oracle.ts';
import { type CrashGround, type CrashOperation, retry } from './operations.ts';
import { recordOperation } from './recorder.ts';

export interface CrashRunOptions {
  readonly samplesPerStep: number;
  readonly seed: number;
  /** Of all different states so many are looked at, evenly spread. Absent: all. */
  readonly statesMax?: number;
  /** Of those, every so many are tried again and collected as well, not only looked at. */
  readonly retriesEvery: number;
  /** What the harness is made to believe, to see whether it notices. */
  readonly alter?: (record: DiskRecord) => DiskRecord;
}

export interface CrashRun {
  readonly steps: number;
  /** Different disks that a crash may leave. */
  readonly states: number;
  readonly looked: number;
  /** One for each state that is not as it must be, with how it was reached and what lay on the disk. */
  readonly faults: readonly string[];
}

/** Each look waits for the disk a third of the time. */
const LOOKS_AT_ONCE = 3;

/** The folder that a crash concerns; its own name is safe, the home in it may not be. */
export const homeIn = (world: string) => path.join(world, 'home');

/** Records an operation and looks at what crashes leave. */
export async function crashOperation(
  operation: CrashOperation,
  ground: CrashGround,
  folder: string,
  options: CrashRunOptions,
): Promise<CrashRun> {
  const world = await makeWorld(operation, ground, folder);
  const before = await contentOf(homeIn(world));
  const { grantsReflinks = false } = operation;
  const work = async () => {
    await operation.run(ground, homeIn(world));
  };
  const recorded = await recordOperation(world, work, { grantsReflinks });
  const record = options.alter?.(recorded) ?? recorded;
  const after = await contentOf(homeIn(world));
  fs.rmSync(world, { recursive: true });
  const states = crashStates(record, options);
  const looked = spread(states, options.statesMax ?? states.length);
  const expected = { operation, ground, before: [before], after };
  const faults = await lookAtAll(looked, folder, expected, options.retriesEvery);
  return { steps: record.steps.length, states: states.length, looked: looked.length, faults };
}

/** The steps after which it matters that a process is killed: a name was changed and not flushed yet. */
const NAMES_CHANGED = /^(create|mkdir|link|rename|remove) /;

/**
 * The power goes during or after an operation that follows upon a killed one: what that one had not flushed is still
 * only in memory, and the second cannot know. Looks at `statesMax` states for each moment of the kill.
 */
export async function crashAfterKill(
  first: CrashOperation,
  second: CrashOperation,
  ground: CrashGround,
  folder: string,
  options: CrashRunOptions,
): Promise<CrashRun> {
  const world = await makeWorld(first, ground, folder);
  const before = await contentOf(homeIn(world));
  const record = await recordOperation(world, async () => {
    await first.run(ground, homeIn(world));
  });
  fs.rmSync(world, { recursive: true });
  const builder = new TreeBuilder(record);
  const total = { steps: record.steps.length, states: 0, looked: 0, faults: [] as string[] };
  for (const [index, { label }] of record.steps.entries()) {
    if (!NAMES_CHANGED.test(label)) continue;
    const steps = index + 1;
    const tree = builder.build(new Array(effectsAfter(record, steps)).fill(true));
    // Opening a home may change it: this one is thrown away.
    writeTree(world, tree);
    const killed = await contentOf(homeIn(world));
    fs.rmSync(world, { recursive: true });
    writeTree(world, tree);
    const work = () => retry(second, ground, homeIn(world));
    const whole = await recordOperation(world, work, { after: { record, steps } });
    const after = await contentOf(homeIn(world));
    fs.rmSync(world, { recursive: true });
    const states = crashStates(whole, { ...options, firstStep: steps });
    const looked = spread(states, options.statesMax ?? states.length);
    const operation = { ...second, name: `${first.name}, killed after step ${steps}, then ${second.name}` };
    const expected = { operation, ground, before: [before, killed], after };
    total.faults.push(...(await lookAtAll(looked, folder, expected, options.retriesEvery)));
    total.states += states.length;
    total.looked += looked.length;
  }
  return total;
}

/** A copy of the common home, prepared for the operation. */
export async function makeWorld(
  operation: CrashOperation,
  ground: CrashGround,
  folder: string,
): Promise<string> {
  const world = fs.mkdtempSync(path.join(folder, 'world-'));
  if (operation.isFirstStart !== true) writeTree(homeIn(world), readTree(ground.home));
  await operation.prepare?.(ground, homeIn(world));
  return world;
}

type Expected = Omit<CrashedHome, 'home' | 'isAtEnd' | 'next'>;

async function lookAtAll(
  states: readonly CrashState[],
  folder: string,
  expected: Expected,
  retriesEvery: number,
): Promise<string[]> {
  const faults: string[] = [];
  const queue = states.entries();
  const work = async (worker: number) => {
    for (const [number, state] of queue) {
      const world = path.join(folder, `crashed-${worker}`);
      const turn = number % (2 * retriesEvery);
      const next = turn === 0 ? 'retry' : turn === retriesEvery ? 'gc-then-retry' : 'nothing';
      const fault = await lookAt(state, world, expected, next);
      if (fault !== undefined) faults.push(fault);
    }
  };
  await Promise.all(Array.from({ length: LOOKS_AT_ONCE }, (_, worker) => work(worker)));
  return faults;
}

async function lookAt(
  state: CrashState,
  world: string,
  expected: Expected,
  next: CrashedHome['next'],
): Promise<string | undefined> {
  writeTree(world, state.tree);
  try {
    const { isAtEnd } = state;
    await verifyCrashedHome({ ...expected, home: homeIn(world), isAtEnd, next });
    return undefined;
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return `${expected.operation.name}: ${state.label}: ${message}\n${describeTree(state.tree)}`;
  } finally {
    fs.rmSync(world, { recursive: true });
  }
}
