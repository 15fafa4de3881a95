import { type CodePointSet, common } from './code-points.ts';
import { AUTOMATON_STATES_MAX, AUTOMATON_STEPS_MAX } from './grammar-limits.ts';
import { PatternError } from './regular-expression.ts';

export interface Transition {
  readonly set: CodePointSet;
  readonly to: number;
}

export interface State {
  readonly transitions: readonly Transition[];
  readonly isAccepting: boolean;
}

/**
 * A deterministic automaton over code points, by which everything that is said of one string (several patterns, a
 * format, lengths) is put together exactly. State 0 is the start. The transitions of a state do not overlap.
 */
export type Automaton = readonly State[];

/** Steps left before the work is given up. */
export class AutomatonBudget {
  #left = AUTOMATON_STEPS_MAX;

  /** @throws PatternError */
  spend(steps: number): void {
    this.#left -= steps;
    if (this.#left < 0) throw new PatternError('too complex: it takes too long to work out');
  }
}

export function requireStates(count: number): void {
  if (count > AUTOMATON_STATES_MAX) {
    throw new PatternError(`too complex: more than ${AUTOMATON_STATES_MAX} states`);
  }
}

/** Texts that both take. @throws PatternError when that is too complex */
export function intersection(left: Automaton, right: Automaton, budget: AutomatonBudget): Automaton {
  const numbers = new Map<string, number>();
  const pairs: (readonly [number, number])[] = [];
  const numberOf = (a: number, b: number) => {
    const key = `${a} ${b}`;
    const known = numbers.get(key);
    if (known !== undefined) return known;
    requireStates(pairs.length + 1);
    numbers.set(key, pairs.length);
    pairs.push([a, b]);
    return pairs.length - 1;
  };
  numberOf(0, 0);
  const states: State[] = [];
  for (const [a, b] of pairs) {
    const [from, other] = [stateOf(left, a), stateOf(right, b)];
    const transitions: Transition[] = [];
    for (const one of from.transitions) {
      for (const two of other.transitions) {
        budget.spend(1 + one.set.length * two.set.length);
        const set = common(one.set, two.set);
        if (set.length > 0) transitions.push({ set, to: numberOf(one.to, two.to) });
      }
    }
    states.push({ transitions, isAccepting: from.isAccepting && other.isAccepting });
  }
  return trimmed(states);
}

/**
 * Texts of `min` to `max` code points (`max` absent: any). Where that needs more states than there may be, `max` is
 * lowered: fewer texts, all of them right.
 * @throws PatternError when not even `min` fits
 */
export function withLength(
  automaton: Automaton,
  min: number,
  max: number | undefined,
  budget: AutomatonBudget,
): Automaton {
  if (min === 0 && max === undefined) return automaton;
  const room = Math.floor(AUTOMATON_STATES_MAX / automaton.length) - 1;
  const highest = max === undefined ? min : Math.min(max, Math.max(room, min));
  const counter: State[] = Array.from({ length: highest + 1 }, (_, count) => {
    const isLast = count === highest;
    const to = isLast ? count : count + 1;
    const transitions = isLast && max !== undefined ? [] : [{ set: [[0, 0x10_ffff]] as const, to }];
    return { transitions, isAccepting: count >= min };
  });
  return intersection(automaton, counter, budget);
}

/** Only states from which a text can be completed; an automaton that takes nothing has no state at all. */
export function trimmed(automaton: Automaton): Automaton {
  const sources: number[][] = automaton.map(() => []);
  automaton.forEach((state, number) => {
    for (const { to } of state.transitions) sources[to]?.push(number);
  });
  const alive = new Set<number>();
  const todo = [...automaton.keys()].filter((number) => automaton[number]?.isAccepting);
  for (let number = todo.pop(); number !== undefined; number = todo.pop()) {
    if (alive.has(number)) continue;
    alive.add(number);
    for (const source of sources[number] ?? []) todo.push(source);
  }
  if (!alive.has(0)) return [];
  const numbers = new Map([...alive].sort((left, right) => left - right).map((old, index) => [old, index]));
  return [...numbers.keys()].map((old) => {
    const { transitions, isAccepting } = stateOf(automaton, old);
    const kept = transitions.filter(({ to }) => alive.has(to));
    return { transitions: kept.map(({ set, to }) => ({ set, to: numbers.get(to) ?? 0 })), isAccepting };
  });
}

/** Merging equal states is worth this many rounds; a chain of a thousand states would need a thousand. */
const MERGE_ROUNDS_MAX = 30;

/** The same texts with fewer states, if that is soon clear. */
export function minimized(automaton: Automaton, budget: AutomatonBudget): Automaton {
  let groups: readonly number[] = automaton.map(({ isAccepting }) => Number(isAccepting));
  let count = new Set(groups).size;
  const rangeCount = automaton.reduce(
    (sum, { transitions }) => transitions.reduce((ranges, { set }) => ranges + set.length, sum + 1),
    0,
  );
  for (let round = 0; round < MERGE_ROUNDS_MAX; round++) {
    budget.spend(rangeCount);
    const names = new Map<string, number>();
    const next = automaton.map((state, number) => {
      const key = `${groups[number]} ${signature(state, groups)}`;
      const known = names.get(key);
      if (known !== undefined) return known;
      names.set(key, names.size);
      return names.size - 1;
    });
    if (names.size === count) return merged(automaton, next, count);
    groups = next;
    count = names.size;
  }
  return automaton;
}

function signature(state: State, groups: readonly number[]): string {
  const pieces = state.transitions.flatMap(({ set, to }) =>
    set.map(([low, high]) => [low, high, groups[to] ?? 0] as [number, number, number]),
  );
  pieces.sort((left, right) => left[0] - right[0]);
  const joined: [number, number, number][] = [];
  for (const piece of pieces) {
    const last = joined.at(-1);
    if (last !== undefined && last[1] + 1 === piece[0] && last[2] === piece[2]) last[1] = piece[1];
    else joined.push(piece);
  }
  return joined.join(';');
}

function merged(automaton: Automaton, groups: readonly number[], count: number): Automaton {
  const first = new Map(groups.map((group, number) => [group, number] as const).toReversed());
  return Array.from({ length: count }, (_, group) => {
    const { transitions, isAccepting } = stateOf(automaton, first.get(group) ?? 0);
    const targets = new Map<number, CodePointSet>();
    for (const { set, to } of transitions) {
      const target = groups[to] ?? 0;
      targets.set(target, [...(targets.get(target) ?? []), ...set]);
    }
    const sorted = [...targets].map(([to, set]) => ({
      to,
      set: set.toSorted((left, right) => left[0] - right[0]),
    }));
    return { transitions: sorted, isAccepting };
  });
}

/** Whether the automaton takes the text. */
export function accepts(automaton: Automaton, text: string): boolean {
  let state = automaton[0];
  for (const character of text) {
    const codePoint = character.codePointAt(0) ?? 0;
    const next: Transition | undefined = state?.transitions.find(({ set }) =>
      set.some(([low, high]) => low <= codePoint && codePoint <= high),
    );
    state = next === undefined ? undefined : automaton[next.to];
  }
  return state?.isAccepting ?? false;
}

function stateOf(automaton: Automaton, number: number): State {
  return automaton[number] ?? { transitions: [], isAccepting: false };
}
