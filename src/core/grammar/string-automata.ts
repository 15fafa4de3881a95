import { type Automaton, type AutomatonBudget, intersection, withLength } from './automaton.ts';
import { charactersOf, SCALAR_VALUES, without } from './code-points.ts';
import { searchAutomaton } from './pattern-automaton.ts';
import { PatternError, parsePattern } from './regular-expression.ts';
import { schemaRefusal } from './schema-refusal.ts';
import { formatAutomaton } from './string-format.ts';

/** A pattern or format and where it stands in the schema. */
export interface StringForm {
  readonly kind: 'pattern' | 'format';
  readonly source: string;
  readonly path: string;
}

/** Lengths in code points. */
export interface StringFacts {
  readonly min: number;
  readonly max: number | undefined;
  readonly forms: readonly StringForm[];
}

/** RFC 8259 §7: what must be escaped, and how the shortest escape ends. */
export const SHORT_ESCAPES: readonly (readonly [character: string, letter: string])[] = [
  ['"', '"'],
  ['\\', '\\'],
  ['\b', 'b'],
  ['\f', 'f'],
  ['\n', 'n'],
  ['\r', 'r'],
  ['\t', 't'],
];
const ESCAPED = charactersOf(SHORT_ESCAPES.map(([character]) => character).join(''));
/** What is written in one way only: without `\u`, the other control characters have no spelling. */
export const SPELLED_ONCE = without(SCALAR_VALUES, without([[0, 0x1f]], ESCAPED));

/** Automata of the strings in one request: equal patterns are worked out once, and all of them within one budget. */
export class StringAutomata {
  readonly #budget: AutomatonBudget;
  readonly #strings = new Map<string, Automaton>();
  readonly #forms = new Map<string, Automaton>();

  constructor(budget: AutomatonBudget) {
    this.#budget = budget;
  }

  /**
   * The strings that fit, as far as they can be spelled without `\u`; no states when there are none.
   * @throws SCHEMA_NOT_SUPPORTED naming the pattern
   */
  ofString({ forms, min, max }: StringFacts, path: string): Automaton {
    const key = JSON.stringify([min, max ?? null, ...forms.map(({ kind, source }) => [kind, source])]);
    const known = this.#strings.get(key);
    if (known !== undefined) return known;
    let automaton: Automaton = [{ transitions: [{ set: SPELLED_ONCE, to: 0 }], isAccepting: true }];
    for (const form of forms) {
      const soFar = automaton;
      const other = this.ofForm(form);
      automaton = refusingAt(form.path, () => intersection(soFar, other, this.#budget));
      if (automaton.length === 0) break;
    }
    const unbounded = automaton;
    if (automaton.length > 0) {
      automaton = refusingAt(path, () => withLength(unbounded, min, max, this.#budget));
    }
    this.#strings.set(key, automaton);
    return automaton;
  }

  /** The texts that have a form. @throws SCHEMA_NOT_SUPPORTED */
  ofForm({ kind, source, path }: StringForm): Automaton {
    const key = `${kind} ${source}`;
    const known = this.#forms.get(key);
    if (known !== undefined) return known;
    const automaton = refusingAt(path, () =>
      kind === 'format' ? formatAutomaton(source) : searchAutomaton(parsePattern(source), this.#budget),
    );
    this.#forms.set(key, automaton);
    return automaton;
  }

  /** Whether no string is in both. "No" may mean that it is too complex to say. */
  areApart(left: Automaton, right: Automaton): boolean {
    try {
      return intersection(left, right, this.#budget).length === 0;
    } catch (error) {
      if (error instanceof PatternError) return false;
      throw error;
    }
  }
}

function refusingAt<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof PatternError) throw schemaRefusal(path, error.message);
    throw error;
  }
}
