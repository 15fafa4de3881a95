import { quoted } from '../base/ids.ts';
import { type GbnfRules, parseGbnf } from './gbnf-parser.ts';
import { type NativeGrammar, nativeGrammar } from './native-grammar.ts';
import { AMBIGUITY_MAX, Ambiguity, mixed, ParseStacks, type StackSet, WorkDone } from './parse-stacks.ts';
import { schemaRefusal } from './schema-refusal.ts';

/** Stacks that are looked at, all together: about 150 ms. */
const WORK_MAX = 600_000;
/** For one rule at least, or a large grammar would leave nothing for any. */
const RULE_WORK_MIN = 2_000;
/** Characters that are tried after one text. */
const CHARACTERS_TRIED_MAX = 6;
/** Texts that are continued without finding one with more ways than before, from the root and from another rule. */
const ROOT_ROUNDS_WITHOUT_GROWTH_MAX = 200;
const ROUNDS_WITHOUT_GROWTH_MAX = 40;
/** Texts that wait to be continued. */
const WAITING_MAX = 256;

/** A text and the ways to go on. */
interface Trial {
  readonly text: string;
  readonly set: StackSet;
}

/**
 * llama.cpp keeps every way in which the text so far can be read, without a limit, and a grammar of 40 bytes can have
 * millions: the process would hang in the middle of an answer. So texts are tried beforehand that can be read in many
 * ways, first those with the most. What this does not find within its work is taken.
 * @param rules in which every name has a rule, and none begins with itself
 * @returns what is wrong, or undefined
 */
export function findAmbiguity(rules: GbnfRules): string | undefined {
  const grammar = nativeGrammar(rules);
  const order = reachableRules(grammar);
  let workLeft = WORK_MAX;
  for (const [index, rule] of order.entries()) {
    if (workLeft < 0) return undefined;
    const share = index === 0 ? (WORK_MAX * 2) / 3 : workLeft / (order.length - index);
    const stacks = new ParseStacks(grammar);
    const work = Math.max(Math.floor(share), RULE_WORK_MIN);
    stacks.allow(work);
    const text = ambiguousText(
      stacks,
      rule,
      index === 0 ? ROOT_ROUNDS_WITHOUT_GROWTH_MAX : ROUNDS_WITHOUT_GROWTH_MAX,
    );
    if (text !== undefined) {
      const where = `the rule ${quoted(grammar.names[rule] ?? '')} is too ambiguous`;
      return `${where}: from ${quoted(text)} on it can be read in more than ${AMBIGUITY_MAX} ways at once`;
    }
    workLeft -= work - Math.max(stacks.workLeft, 0);
  }
  return undefined;
}

/** Of a grammar that was compiled. @throws SCHEMA_NOT_SUPPORTED for an ambiguous one */
export function requireUnambiguous(gbnf: string, path: string): string {
  const ambiguity = findAmbiguity(parseGbnf(gbnf));
  if (ambiguity === undefined) return gbnf;
  throw schemaRefusal(
    path,
    `too ambiguous for llama.cpp: ${ambiguity}`,
    'let branches that may stand at the same place differ early, by a first member with a const of its own',
  );
}

/** Written rules that the root leads to, the root first. */
function reachableRules({ codes, alternatives, names }: NativeGrammar): readonly number[] {
  const seen = new Set([names.indexOf('root')]);
  for (const rule of seen) {
    for (const start of alternatives[rule] ?? []) {
      for (let at = start; (codes[at] ?? 0) !== 0; at++) {
        const code = codes[at] ?? 0;
        if (code < 0) seen.add(-1 - code);
      }
    }
  }
  return [...seen].filter((rule) => rule < names.length);
}

/** A text of the rule that can be read in too many ways, if one is found. */
function ambiguousText(stacks: ParseStacks, rule: number, patience: number): string | undefined {
  let text = '';
  try {
    const waiting: Trial[] = [{ text, set: stacks.ofRule(rule) }];
    const seen = new Set(waiting.map(({ set }) => set.signature));
    let most = 0;
    let grownAt = 0;
    for (let round = 0; waiting.length > 0 && round - grownAt < patience; round++) {
      const trial = takeOne(stacks, waiting, round);
      for (const character of charactersToTry(stacks, trial.set, round)) {
        text = trial.text + String.fromCodePoint(character);
        const set = stacks.after(trial.set, character);
        if (seen.has(set.signature)) continue;
        seen.add(set.signature);
        if (set.stacks.length > most) [most, grownAt] = [set.stacks.length, round];
        waiting.push({ text, set });
      }
      if (waiting.length > WAITING_MAX) {
        waiting.sort((left, right) => right.set.stacks.length - left.set.stacks.length);
        waiting.length = WAITING_MAX / 2;
      }
    }
    return undefined;
  } catch (error) {
    if (error instanceof Ambiguity) return text;
    if (error instanceof WorkDone) return undefined;
    throw error;
  }
}

/** In turn the one with the most ways, the oldest, and any: the most ways may be those of a string that goes on and on. */
function takeOne(stacks: ParseStacks, waiting: Trial[], round: number): Trial {
  stacks.spend(1 + (waiting.length >> 4));
  let chosen = 0;
  if (round % 4 === 3) chosen = (mixed(round) >>> 0) % waiting.length;
  else if (round % 4 !== 2) {
    waiting.forEach(({ set }, index) => {
      if (set.stacks.length > (waiting[chosen]?.set.stacks.length ?? 0)) chosen = index;
    });
  }
  const [trial] = waiting.splice(chosen, 1);
  if (trial === undefined) throw new WorkDone();
  return trial;
}

/** Of characters that fit the same stacks one; those that fit most, and one by chance. */
function charactersToTry(stacks: ParseStacks, set: StackSet, round: number): readonly number[] {
  const marks: { at: number; signature: number; change: number }[] = [];
  for (const { set: characters, count, signature } of stacks.groups(set)) {
    for (const [low, high] of characters) {
      marks.push({ at: low, signature, change: count }, { at: high + 1, signature, change: -count });
    }
  }
  stacks.spend(marks.length);
  marks.sort((left, right) => left.at - right.at);
  const choices = new Map<number, { character: number; count: number }>();
  let count = 0;
  let signature = 0;
  marks.forEach((mark, index) => {
    count += mark.change;
    signature ^= mark.signature;
    const end = marks[index + 1]?.at ?? mark.at;
    if (count > 0 && end > mark.at && !choices.has(signature)) {
      choices.set(signature, { character: shown(mark.at, end), count });
    }
  });
  const ordered = [...choices.values()].sort((left, right) => right.count - left.count);
  const others = ordered.splice(CHARACTERS_TRIED_MAX - 1);
  const other = others[(mixed(round) >>> 0) % Math.max(others.length, 1)];
  return [...ordered, ...(other === undefined ? [] : [other])].map(({ character }) => character);
}

/** A character of a range (its end excluded) that can be read in a message, if there is one. */
function shown(from: number, to: number): number {
  const letter = 'a'.charCodeAt(0);
  if (from <= letter && letter < to) return letter;
  return from < 0x20 && to > 0x20 ? 0x20 : from;
}
