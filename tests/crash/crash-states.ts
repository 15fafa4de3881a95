import { type SeededRandom, seededRandom } from '../fixtures/random.ts';
import { type DiskRecord, durableAfter, effectsAfter, type Tree, TreeBuilder } from './disk-model.ts';

/** A disk that a crash may leave behind. */
export interface CrashState {
  readonly tree: Tree;
  /** The steps that had been done. */
  readonly steps: number;
  /** `after step 12 of 40 (rename …), without its effect 3`: the first way in which it was reached. */
  readonly label: string;
  /** Everything was over: what the operation reported must be there. */
  readonly isAtEnd: boolean;
}

export interface CrashOptions {
  /** Random choices among the pending effects after each step, besides the systematic ones. */
  readonly samplesPerStep: number;
  readonly seed: number;
  /** Crashes before so many steps are not looked at: those of a killed operation before this one. */
  readonly firstStep?: number;
}

/**
 * Every different disk that a crash may leave, at any step: what was flushed is there; of the rest all, nothing, all but
 * one, one alone, all of names, all of contents, and random choices.
 */
export function crashStates(record: DiskRecord, options: CrashOptions): CrashState[] {
  const builder = new TreeBuilder(record);
  const random = seededRandom(options.seed);
  const states = new Map<string, CrashState>();
  for (let steps = options.firstStep ?? 0; steps <= record.steps.length; steps++) {
    const isAtEnd = steps === record.steps.length;
    const durable = durableAfter(record, steps);
    const pending = [...Array(effectsAfter(record, steps)).keys()].filter((index) => !durable[index]);
    const at = `after step ${steps} of ${record.steps.length} (${record.steps[steps - 1]?.label ?? 'none'})`;
    for (const [what, isKept] of choices(record, pending, random, options.samplesPerStep)) {
      const tree = builder.build(durable.map((isDurable, index) => isDurable || isKept(index)));
      const known = states.get(tree.key);
      // The end comes last and promises most: it may not hide behind an earlier step.
      if (known === undefined || (isAtEnd && !known.isAtEnd)) {
        states.set(tree.key, { tree, steps, label: `${at}, ${what}`, isAtEnd });
      }
    }
  }
  return [...states.values()];
}

type Choice = readonly [what: string, isKept: (index: number) => boolean];

function* choices(
  { effects }: DiskRecord,
  pending: readonly number[],
  random: SeededRandom,
  samples: number,
): Generator<Choice> {
  yield ['nothing lost', () => true];
  if (pending.length === 0) return;
  yield ['everything pending lost', () => false];
  yield ['names without contents', (index) => effects[index]?.kind === 'entry'];
  yield ['names and sizes without contents', (index) => effects[index]?.kind !== 'block'];
  yield ['contents without names', (index) => effects[index]?.kind !== 'entry'];
  for (const one of pending) {
    yield [`only effect ${one} lost`, (index) => index !== one];
    yield [`of what is pending only effect ${one}`, (index) => index === one || needs(effects, one, index)];
  }
  for (let sample = 0; sample < samples; sample++) {
    // From nearly nothing to nearly everything: with a fair coin long runs of either would never be seen.
    const share = 1 + random.below(9);
    const kept = new Set(pending.filter(() => random.below(10) < share));
    yield [`sample ${sample}`, (index) => kept.has(index)];
  }
}

/** Whether effect `one` is never seen without effect `index`. */
function needs(effects: DiskRecord['effects'], one: number, index: number): boolean {
  const effect = effects[one];
  return effect?.kind === 'entry' && effect.needs === index;
}

/** At most `count` of the states, evenly spread, always with the first and the last. */
export function spread<State>(states: readonly State[], count: number): State[] {
  if (states.length <= count) return [...states];
  const stride = (states.length - 1) / (count - 1);
  return Array.from({ length: count }, (_, index) => states[Math.round(index * stride)] as State);
}
