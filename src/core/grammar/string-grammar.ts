import type { Automaton } from './automaton.ts';
import { type CodePointSet, charactersOf, common, contains, SCALAR_VALUES, without } from './code-points.ts';
import { choice, type Expression, never, oneOfSet, repeat, rule, sequence, text } from './expression.ts';
import type { GrammarRules } from './grammar-rules.ts';
import { SHORT_ESCAPES, type StringAutomata, type StringFacts } from './string-automata.ts';

const PLAIN = without(SCALAR_VALUES, [
  [0, 0x1f],
  ...charactersOf(SHORT_ESCAPES.map(([character]) => character).join('')),
]);

const HEX: CodePointSet = charactersOf('0123456789abcdefABCDEF');
const hex = (count: number) => repeat(oneOfSet(HEX), count, count);
const among = (characters: string) => oneOfSet(charactersOf(characters));

/**
 * One character of a JSON string, escapes included. A pair of surrogate escapes is one character; half of a pair is
 * none (RFC 8259 §8.2).
 */
function stringCharacter(rules: GrammarRules): Expression {
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
export function stringGrammar(
  rules: GrammarRules,
  automata: StringAutomata,
  facts: StringFacts,
  path: string,
): Expression {
  if (facts.forms.length === 0) return anyString(rules, facts.min, facts.max);
  const automaton = automata.ofString(facts, path);
  if (automaton.length === 0) return never(path, 'no string fits pattern, format and lengths together');
  return rules.define('string', sequence(text('"'), automatonGrammar(rules, automaton)));
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
