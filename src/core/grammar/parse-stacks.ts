import type { CodePointSet } from './code-points.ts';
import { ALTERNATIVE_END, type NativeGrammar } from './native-grammar.ts';

/** A way in which a text can go on: the position of the next character, and what comes behind it. 0: nothing more. */
export type Stack = number;

/**
 * Ways to go on, beyond two for each position of the grammar at which a text goes on: a choice among 20,000 words is
 * long, not ambiguous. llama.cpp compares each way with all others after each character; 2,000 take it about 20 ms.
 */
export const AMBIGUITY_MAX = 2_000;

/** The text can be read in too many ways. */
export class Ambiguity extends Error {}
/** The work that was allowed is done. */
export class WorkDone extends Error {}

/** A set of stacks after one more character. */
export interface StackSet {
  readonly stacks: readonly Stack[];
  /** The same for the same stacks, in whichever order. */
  readonly signature: number;
}

/**
 * The parse stacks that llama.cpp keeps (`llama_grammar_advance_stack`, `llama_grammar_accept_chr`). Equal ones are one
 * number here, so that a set costs no more than its size.
 */
export class ParseStacks {
  readonly #grammar: NativeGrammar;
  readonly #positions: number[] = [0];
  readonly #parents: Stack[] = [0];
  readonly #numbers = new Map<number, Stack>();
  #workLeft = 0;

  constructor(grammar: NativeGrammar) {
    this.#grammar = grammar;
  }

  get workLeft(): number {
    return this.#workLeft;
  }

  allow(work: number): void {
    this.#workLeft = work;
  }

  /** @throws WorkDone */
  spend(work: number): void {
    this.#workLeft -= work;
    if (this.#workLeft < 0) throw new WorkDone();
  }

  /** Where the texts of a rule begin. @throws Ambiguity, WorkDone */
  ofRule(rule: number): StackSet {
    return this.#all((this.#grammar.alternatives[rule] ?? []).map((position) => this.#at(position, 0)));
  }

  /** The characters that come next, as ranges. */
  next(stack: Stack): CodePointSet {
    return stack === 0 ? [] : this.#setAt(this.#positions[stack] ?? 0);
  }

  /** Of stacks that go on at the same position, the characters, how many there are, and a signature. */
  *groups({ stacks }: StackSet): Generator<{ set: CodePointSet; count: number; signature: number }> {
    this.spend(stacks.length);
    const groups = new Map<number, { count: number; signature: number }>();
    for (const stack of stacks) {
      if (stack === 0) continue;
      const position = this.#positions[stack] ?? 0;
      const group = groups.get(position);
      if (group === undefined) groups.set(position, { count: 1, signature: mixed(stack) });
      else {
        group.count++;
        group.signature ^= mixed(stack);
      }
    }
    for (const [position, group] of groups) yield { set: this.#setAt(position), ...group };
  }

  /** @throws Ambiguity, WorkDone */
  after({ stacks }: StackSet, character: number): StackSet {
    this.spend(stacks.length);
    const following: Stack[] = [];
    for (const stack of stacks) {
      const fits = this.next(stack).some(([low, high]) => low <= character && character <= high);
      if (fits) following.push(this.#at((this.#positions[stack] ?? 0) + 1, this.#parents[stack] ?? 0));
    }
    return this.#all(following);
  }

  /**
   * Goes on to characters. llama.cpp looks each way up in the list of those it has, equal ones as well: the work is
   * the product.
   */
  #all(starts: readonly Stack[]): StackSet {
    const stacks = new Set<Stack>();
    const positions = new Set<number>();
    let ways = 0;
    for (const start of starts) {
      for (const stack of this.#expanded(start)) {
        ways++;
        stacks.add(stack);
        positions.add(this.#positions[stack] ?? 0);
        if (ways * stacks.size > (AMBIGUITY_MAX + 2 * positions.size) ** 2) throw new Ambiguity();
      }
    }
    return { stacks: [...stacks], signature: signatureOf(stacks) };
  }

  #expanded(start: Stack): Iterable<Stack> {
    this.spend(1);
    if (this.#isAtCharacter(start)) return [start];
    const ends: Stack[] = [];
    const seen = new Set([start]);
    for (const stack of seen) {
      if (this.#isAtCharacter(stack)) {
        ends.push(stack);
        continue;
      }
      const position = this.#positions[stack] ?? 0;
      const rest = this.#at(position + 1, this.#parents[stack] ?? 0);
      const alternatives = this.#grammar.alternatives[-1 - this.#code(position)] ?? [];
      this.spend(alternatives.length);
      for (const first of alternatives) seen.add(this.#at(first, rest));
    }
    return ends;
  }

  #isAtCharacter(stack: Stack): boolean {
    return stack === 0 || this.#code(this.#positions[stack] ?? 0) > 0;
  }

  #setAt(position: number): CodePointSet {
    return this.#grammar.sets[this.#code(position) - 1] ?? [];
  }

  #code(position: number): number {
    return this.#grammar.codes[position] ?? ALTERNATIVE_END;
  }

  #at(position: number, parent: Stack): Stack {
    if (this.#code(position) === ALTERNATIVE_END) return parent;
    const key = parent * this.#grammar.codes.length + position;
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const stack = this.#positions.push(position) - 1;
    this.#parents.push(parent);
    this.#numbers.set(key, stack);
    return stack;
  }
}

/** A number for a set of numbers; two sets have the same one by accident only. */
export function signatureOf(members: Iterable<number>): number {
  let high = 0;
  let low = 0;
  for (const member of members) {
    high ^= mixed(member);
    low ^= mixed(member ^ 0x5bd1e995);
  }
  return (high >>> 0) * 0x20_0000 + (low >>> 11);
}

/** Spreads a number over 32 bits; equal numbers stay equal. */
export function mixed(value: number): number {
  const once = Math.imul(value ^ (value >>> 16), 0x45d9f3b) ^ 0x27d4eb2f;
  const twice = Math.imul(once ^ (once >>> 15), 0x2c1b3c6d);
  return twice ^ (twice >>> 13);
}
