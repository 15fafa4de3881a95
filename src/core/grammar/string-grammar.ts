import { type Automaton, AutomatonBudget, intersection, withLength } from './automaton.ts';
import { type CodePointSet, charactersOf, common, contains, SCALAR_VALUES, without } from './code-points.ts';
import { choice, type Expression, never, oneOfSet, repeat, rule, sequence, text } from './expression.ts';
import type { GrammarRules } from './grammar-rules.ts';
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
const SHORT_ESCAPES: readonly (readonly [character: string, letter: string])[] = [
  ['"', '"'],
  ['\\', '\\'],
  ['\b', 'b'],
  ['\f', 'f'],
  ['\n', 'n'],
  ['\r', 'r'],
  ['\t', 't'],
];
const ESCAPED = charactersOf(SHORT_ESCAPES.map(([character]) => character).join(''));
const PLAIN = without(SCALAR_VALUES, [[0, 0x1f], ...ESCAPED]);
/** What is written in one way only: without `\u`, the other control characters have no spelling. */
export const SPELLED_ONCE = without(SCALAR_VALUES, without([[0, 0x1f]], ESCAPED));

const HEX: CodePointSet = charactersOf('0123456789abcdefABCDEF');
const hex = (count: number) => repeat(oneOfSet(HEX), count, count);
const among = (characters: string) => oneOfSet(charactersOf(characters));

/**
 * One character of a JSON string, escapes included. A pair of surrogate escapes is one character; half of a pair is
 * none (RFC 8259 §8.2).
 */
export function stringCharacter(rules: GrammarRules): Expression {
  const unit = choice([
    sequence(notD(), hex(3)),
    sequence(among('dD'), among('01234567'), hex(2)),
    sequence(among('dD'), among('89abAB'), hex(2), text('\\u'), among('dD'), among('cdefCDEF'), hex(2)),
  ]);
  const escaped = sequence(
    text('\\'),
    choice([among('"\\/bfnrt'), sequence(text('u'), rules.define('unicode', unit))]),
  );
  return rules.define('character', choice([oneOfSet(PLAIN), escaped]));
}

const notD = () => oneOfSet(without(HEX, charactersOf('dD')));

/** A JSON string of which nothing but its length is known. */
export function anyString(rules: GrammarRules, min = 0, max?: number): Expression {
  const inner = rules.counted('characters', stringCharacter(rules), min, max);
  return rules.define('string', sequence(text('"'), inner, text('"')));
}

/** @throws SCHEMA_NOT_SUPPORTED */
export function stringGrammar(rules: GrammarRules, facts: StringFacts, path: string): Expression {
  if (facts.forms.length === 0) return anyString(rules, facts.min, facts.max);
  const automaton = stringAutomaton(facts, path);
  if (automaton.length === 0) return never(path, 'no string fits pattern, format and lengths together');
  return rules.define('string', sequence(text('"'), automatonGrammar(rules, automaton)));
}

const made = new WeakMap<StringFacts, Automaton>();
const forms = new WeakMap<StringForm, Automaton>();

/**
 * The strings that fit, as far as they can be spelled without `\u`; no states when there are none.
 * @throws SCHEMA_NOT_SUPPORTED naming the pattern
 */
export function stringAutomaton(facts: StringFacts, path: string): Automaton {
  const known = made.get(facts);
  if (known !== undefined) return known;
  const budget = new AutomatonBudget();
  let at = path;
  try {
    let automaton: Automaton = [{ transitions: [{ set: SPELLED_ONCE, to: 0 }], isAccepting: true }];
    for (const form of facts.forms) {
      at = form.path;
      automaton = intersection(automaton, formAutomaton(form), budget);
      if (automaton.length === 0) break;
    }
    at = path;
    if (automaton.length > 0) automaton = withLength(automaton, facts.min, facts.max, budget);
    made.set(facts, automaton);
    return automaton;
  } catch (error) {
    if (error instanceof PatternError) throw schemaRefusal(at, error.message);
    throw error;
  }
}

/** The texts that have a form. @throws SCHEMA_NOT_SUPPORTED */
export function formAutomaton(form: StringForm): Automaton {
  const known = forms.get(form);
  if (known !== undefined) return known;
  try {
    const automaton =
      form.kind === 'format'
        ? formatAutomaton(form.source)
        : searchAutomaton(parsePattern(form.source), new AutomatonBudget());
    forms.set(form, automaton);
    return automaton;
  } catch (error) {
    if (error instanceof PatternError) throw schemaRefusal(form.path, error.message);
    throw error;
  }
}

/**
 * A rule for each state, from the first character to the closing quote: at every point one state is open, however
 * ambiguous the pattern was.
 */
export function automatonGrammar(rules: GrammarRules, automaton: Automaton): Expression {
  const entries = automaton.map(() => 0);
  for (const { transitions } of automaton) {
    for (const { to } of transitions) entries[to] = (entries[to] ?? 0) + 1;
  }
  const names = new Map<number, string>();
  const nameOf = (state: number) => {
    const name = names.get(state) ?? rules.reserve('text');
    names.set(state, name);
    return name;
  };
  /** Follows a state that only leads on, so that it needs no rule. */
  const after = (start: number): Expression => {
    const parts: Expression[] = [];
    let state = start;
    for (;;) {
      const { transitions, isAccepting } = automaton[state] ?? { transitions: [], isAccepting: true };
      const [only] = transitions;
      if (entries[state] !== 1 || state === 0) break;
      if (isAccepting && only === undefined) return sequence(...parts, text('"'));
      if (isAccepting || only === undefined || transitions.length > 1) break;
      parts.push(spelled(only.set));
      state = only.to;
    }
    return sequence(...parts, rule(nameOf(state)));
  };
  nameOf(0);
  for (const [state, name] of names) {
    const { transitions = [], isAccepting = false } = automaton[state] ?? {};
    const options = transitions.map(({ set, to }) => sequence(spelled(set), after(to)));
    rules.set(name, choice(isAccepting ? [...options, text('"')] : options));
  }
  return rule(nameOf(0));
}

/** One character of a set as it is written in JSON. */
function spelled(set: CodePointSet): Expression {
  const plain = common(set, PLAIN);
  const letters = SHORT_ESCAPES.filter(([character]) => contains(set, character.codePointAt(0) ?? 0));
  const escaped = sequence(text('\\'), among(letters.map(([, letter]) => letter).join('')));
  if (letters.length === 0) return oneOfSet(plain);
  return plain.length === 0 ? escaped : choice([oneOfSet(plain), escaped]);
}
