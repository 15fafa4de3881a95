import {
  type Automaton,
  type AutomatonBudget,
  minimized,
  requireStates,
  type State,
  type Transition,
  trimmed,
} from './automaton.ts';
import { type CodePointSet, codePointSet, SCALAR_VALUES } from './code-points.ts';
import type { Pattern } from './regular-expression.ts';

/** Without a set: taken without reading; `start` and `end` only there. */
interface Edge {
  readonly to: number;
  readonly kind: 'read' | 'free' | 'start' | 'end';
  readonly set: CodePointSet;
}

type Edges = Edge[][];

/**
 * Texts in which the pattern is found, as JSON Schema has it: without `^` and `$` anything may come before and after.
 * @throws PatternError when it is too complex
 */
export function searchAutomaton(pattern: Pattern, budget: AutomatonBudget): Automaton {
  const edges: Edges = [[]];
  read(edges, 0, SCALAR_VALUES, 0);
  const last = append(edges, 0, pattern, budget);
  read(edges, last, SCALAR_VALUES, last);
  return minimized(trimmed(deterministic(edges, last, budget)), budget);
}

function addState(edges: Edges): number {
  requireStates(edges.length + 1);
  edges.push([]);
  return edges.length - 1;
}

function read(edges: Edges, from: number, set: CodePointSet, to: number): void {
  edges[from]?.push({ kind: 'read', set, to });
}

function free(edges: Edges, from: number, to: number, kind: 'free' | 'start' | 'end' = 'free'): void {
  edges[from]?.push({ kind, set: [], to });
}

/** Adds the states of a pattern that begins in `from`; gives the one where it ends. */
function append(edges: Edges, from: number, pattern: Pattern, budget: AutomatonBudget): number {
  budget.spend(1);
  switch (pattern.kind) {
    case 'set':
    case 'start':
    case 'end': {
      const to = addState(edges);
      if (pattern.kind === 'set') read(edges, from, pattern.set, to);
      else free(edges, from, to, pattern.kind);
      return to;
    }
    case 'sequence':
      return pattern.parts.reduce((at, part) => append(edges, at, part, budget), from);
    case 'choice': {
      const to = addState(edges);
      for (const option of pattern.options)
        free(edges, append(edges, branch(edges, from), option, budget), to);
      return to;
    }
    case 'repeat':
      return appendRepeat(edges, from, pattern, budget);
  }
}

function appendRepeat(
  edges: Edges,
  from: number,
  { body, min, max }: Extract<Pattern, { kind: 'repeat' }>,
  budget: AutomatonBudget,
): number {
  let at = from;
  for (let count = 0; count < min; count++) at = append(edges, at, body, budget);
  if (max === undefined) {
    // A state of its own, so that a loop inside the body is not entered from outside.
    const loop = branch(edges, at);
    free(edges, append(edges, loop, body, budget), loop);
    return branch(edges, loop);
  }
  const to = addState(edges);
  for (let count = min; count < max; count++) {
    free(edges, at, to);
    at = append(edges, branch(edges, at), body, budget);
  }
  free(edges, at, to);
  return to;
}

function branch(edges: Edges, from: number): number {
  const to = addState(edges);
  free(edges, from, to);
  return to;
}

/** The usual subset construction; `^` holds in the first set only, `$` only where nothing more is read. */
function deterministic(edges: Edges, last: number, budget: AutomatonBudget): Automaton {
  const first = closure(edges, [0], ['free', 'start'], budget);
  const sets: (readonly number[])[] = [first];
  const numbers = new Map<string, number>();
  // The first set has passed `^`: the same states reached by reading are another set.
  const numberOf = (set: readonly number[]) => {
    const key = set.join(' ');
    const known = numbers.get(key);
    if (known !== undefined) return known;
    requireStates(sets.length + 1);
    numbers.set(key, sets.length);
    sets.push(set);
    return sets.length - 1;
  };
  const states: State[] = [];
  for (const set of sets) {
    const ends = closure(edges, set, set === first ? ['free', 'start', 'end'] : ['free', 'end'], budget);
    const transitions = partition(edges, set, budget).map(
      ({ targets, ranges }): Transition => ({
        set: codePointSet(ranges),
        to: numberOf(closure(edges, targets, ['free'], budget)),
      }),
    );
    states.push({ transitions: joined(transitions), isAccepting: ends.includes(last) });
  }
  return states;
}

function closure(
  edges: Edges,
  from: readonly number[],
  kinds: readonly Edge['kind'][],
  budget: AutomatonBudget,
): readonly number[] {
  const seen = new Set(from);
  for (const state of seen) {
    const leaving = edges[state] ?? [];
    budget.spend(1 + leaving.length);
    for (const { kind, to } of leaving) if (kinds.includes(kind)) seen.add(to);
  }
  return [...seen].sort((left, right) => left - right);
}

interface Piece {
  readonly targets: readonly number[];
  readonly ranges: [number, number][];
}

/** What can be read in a set of states: pieces of the alphabet, each with the states that follow. */
function partition(edges: Edges, set: readonly number[], budget: AutomatonBudget): Piece[] {
  const reading = set.flatMap((state) => (edges[state] ?? []).filter(({ kind }) => kind === 'read'));
  const marks: { at: number; to: number; change: 1 | -1 }[] = [];
  for (const { set: read, to } of reading) {
    for (const [low, high] of read) marks.push({ at: low, to, change: 1 }, { at: high + 1, to, change: -1 });
  }
  budget.spend(marks.length);
  marks.sort((left, right) => left.at - right.at);
  const open = new Map<number, number>();
  const pieces = new Map<string, Piece>();
  marks.forEach(({ at, to, change }, index) => {
    open.set(to, (open.get(to) ?? 0) + change);
    if (open.get(to) === 0) open.delete(to);
    const next = marks[index + 1]?.at ?? at;
    if (next === at || open.size === 0) return;
    budget.spend(open.size);
    const targets = [...open.keys()].sort((left, right) => left - right);
    const key = targets.join(' ');
    const piece = pieces.get(key) ?? { targets, ranges: [] };
    piece.ranges.push([at, next - 1]);
    pieces.set(key, piece);
  });
  return [...pieces.values()];
}

/** Different pieces may lead to one state. */
function joined(transitions: readonly Transition[]): Transition[] {
  const targets = new Map<number, CodePointSet>();
  for (const { set, to } of transitions) targets.set(to, codePointSet([...(targets.get(to) ?? []), ...set]));
  return [...targets].map(([to, set]) => ({ set, to }));
}
