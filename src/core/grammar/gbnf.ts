import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { nativeCost } from './gbnf-cost.ts';
import { type GbnfNode, type GbnfRule, type GbnfRules, grammarFault, parseGbnf } from './gbnf-parser.ts';
import { findAmbiguity } from './grammar-ambiguity.ts';
import { NATIVE_REPETITIONS_MAX } from './grammar-limits.ts';

/** Rules that begin with each other, one after the other: llama.cpp follows them by recursion. */
const LEFT_DEPTH_MAX = 2_000;
/** Rules that llama.cpp visits when it looks for left recursion; without a limit it can take for ever. */
const LEFT_VISITS_MAX = 1 << 20;
/** Rules and characters of a grammar once its repetitions are written out. */
const NATIVE_RULES_MAX = 1 << 17;
const NATIVE_ELEMENTS_MAX = 1 << 21;

/**
 * Checks a grammar that someone wrote by hand, before native code sees it: llama.cpp stops the process, fills the
 * memory or never comes back for some that are wrong. Everything that passes is taken by llama.cpp.
 * @throws GRAMMAR_INVALID with line and column: not GBNF, no rule `root`, a name without rule, a rule that begins with
 * itself, one that never ends, an endless repetition of what can be empty, too large, or too ambiguous
 */
export function requireGrammar(gbnf: string): void {
  const rules = parseGbnf(gbnf);
  if (!rules.has('root')) throw new FreeholdError('GRAMMAR_INVALID', 'the grammar has no rule "root"');
  const fault = (offset: number, what: string) => grammarFault(gbnf, offset, what);
  requireDefined(rules, fault);
  const nullable = fixedPoint(rules, (node, known) => isNullable(node, known));
  requireRealRepetitions(rules, nullable, fault);
  requireNoLeftRecursion(rules, nullable, fault);
  const ending = fixedPoint(rules, (node, known) => canEnd(node, known));
  for (const { name, offset } of rules.values()) {
    if (!ending.has(name)) throw fault(offset, `the rule ${quoted(name)} never ends`);
  }
  requireModestCost(rules, fault);
  const ambiguity = findAmbiguity(rules);
  if (ambiguity !== undefined) throw new FreeholdError('GRAMMAR_INVALID', ambiguity);
}

type Fault = (offset: number, what: string) => FreeholdError;

function requireDefined(rules: GbnfRules, fault: Fault): void {
  for (const { body } of rules.values()) {
    for (const node of nodesOf(body)) {
      if (node.kind === 'rule' && !rules.has(node.name)) {
        throw fault(node.offset, `there is no rule ${quoted(node.name)}`);
      }
    }
  }
}

function requireRealRepetitions(rules: GbnfRules, nullable: ReadonlySet<string>, fault: Fault): void {
  for (const { body } of rules.values()) {
    for (const node of nodesOf(body)) {
      if (node.kind !== 'repeat') continue;
      if (node.max === undefined && isNullable(node.body, nullable)) {
        throw fault(node.offset, 'an endless repetition of what can be empty');
      }
      if (node.body.kind === 'text' && node.body.characters.length === 0) {
        throw fault(node.offset, 'a repetition of nothing');
      }
    }
  }
}

/** Walks from rule to rule that a rule can begin with; deep chains must not exhaust our stack either. */
function requireNoLeftRecursion(rules: GbnfRules, nullable: ReadonlySet<string>, fault: Fault): void {
  const visits = new Map<string, number>();
  const depths = new Map<string, number>();
  let total = 0;
  for (const start of rules.values()) {
    if (visits.has(start.name)) continue;
    const path: { rule: GbnfRule; next: string[]; at: number }[] = [];
    const open = new Set<string>();
    const enter = (rule: GbnfRule) => {
      open.add(rule.name);
      path.push({ rule, next: [...leftmost(rule.body, nullable)], at: 0 });
    };
    enter(start);
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const name = top.next[top.at++];
      const next = name === undefined ? undefined : rules.get(name);
      if (next !== undefined) {
        if (open.has(next.name)) throw fault(next.offset, `the rule ${quoted(next.name)} begins with itself`);
        if (!visits.has(next.name)) enter(next);
        continue;
      }
      const sum = top.next.reduce((count, used) => count + (visits.get(used) ?? 0), 1);
      const depth = 1 + top.next.reduce((most, used) => Math.max(most, depths.get(used) ?? 0), 0);
      visits.set(top.rule.name, Math.min(sum, LEFT_VISITS_MAX));
      depths.set(top.rule.name, depth);
      open.delete(top.rule.name);
      path.pop();
      if (path.length === 0) total += sum;
      if (total > LEFT_VISITS_MAX || depth > LEFT_DEPTH_MAX) {
        throw fault(top.rule.offset, 'too many rules that begin with each other');
      }
    }
  }
  for (const { body, offset } of rules.values()) {
    for (const node of nodesOf(body)) {
      if (node.kind !== 'repeat') continue;
      const inside = [...leftmost(node.body, nullable)].reduce(
        (sum, name) => sum + (visits.get(name) ?? 0),
        1,
      );
      total += ((node.max ?? node.min + 1) - node.min) * inside;
      if (total > LEFT_VISITS_MAX) throw fault(offset, 'too many rules that begin with each other');
    }
  }
}

function requireModestCost(rules: GbnfRules, fault: Fault): void {
  const { ruleCount, elementCount } = nativeCost(rules, (node, count) => {
    throw fault(
      node.offset,
      `${count} rules by repetitions inside each other, at most ${NATIVE_REPETITIONS_MAX} are possible`,
    );
  });
  if (ruleCount > NATIVE_RULES_MAX || elementCount > NATIVE_ELEMENTS_MAX) {
    throw new FreeholdError(
      'GRAMMAR_INVALID',
      `with its repetitions written out the grammar has ${ruleCount} rules and ${elementCount} characters, ` +
        `at most ${NATIVE_RULES_MAX} and ${NATIVE_ELEMENTS_MAX} are possible`,
    );
  }
}

/** Names of rules for which the property follows from their bodies, as far as it is known of other rules. */
function fixedPoint(
  rules: GbnfRules,
  holds: (node: GbnfNode, known: ReadonlySet<string>) => boolean,
): ReadonlySet<string> {
  const users = new Map<string, Set<string>>();
  for (const { name, body } of rules.values()) {
    for (const node of nodesOf(body)) {
      if (node.kind === 'rule') users.set(node.name, (users.get(node.name) ?? new Set()).add(name));
    }
  }
  const known = new Set<string>();
  const todo = [...rules.keys()];
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    const rule = rules.get(name);
    if (rule === undefined || known.has(name) || !holds(rule.body, known)) continue;
    known.add(name);
    for (const user of users.get(name) ?? []) todo.push(user);
  }
  return known;
}

/** Whether the empty text fits. */
function isNullable(node: GbnfNode, nullable: ReadonlySet<string>): boolean {
  switch (node.kind) {
    case 'text':
      return node.characters.length === 0;
    case 'class':
      return false;
    case 'rule':
      return nullable.has(node.name);
    case 'sequence':
      return node.parts.every((part) => isNullable(part, nullable));
    case 'choice':
      return node.options.some((option) => isNullable(option, nullable));
    case 'repeat':
      return node.min === 0 || isNullable(node.body, nullable);
  }
}

function canEnd(node: GbnfNode, ending: ReadonlySet<string>): boolean {
  switch (node.kind) {
    case 'text':
    case 'class':
      return true;
    case 'rule':
      return ending.has(node.name);
    case 'sequence':
      return node.parts.every((part) => canEnd(part, ending));
    case 'choice':
      return node.options.some((option) => canEnd(option, ending));
    case 'repeat':
      return node.min === 0 || canEnd(node.body, ending);
  }
}

/** Rules with which a text of this node can begin. */
function* leftmost(node: GbnfNode, nullable: ReadonlySet<string>): Generator<string> {
  switch (node.kind) {
    case 'rule':
      yield node.name;
      break;
    case 'sequence':
      for (const part of node.parts) {
        yield* leftmost(part, nullable);
        if (!isNullable(part, nullable)) break;
      }
      break;
    case 'choice':
      for (const option of node.options) yield* leftmost(option, nullable);
      break;
    case 'repeat':
      yield* leftmost(node.body, nullable);
      break;
    default:
  }
}

/** The node and everything in it. */
function nodesOf(root: GbnfNode): readonly GbnfNode[] {
  const nodes = [root];
  for (const node of nodes) {
    if (node.kind === 'sequence') for (const part of node.parts) nodes.push(part);
    if (node.kind === 'choice') for (const option of node.options) nodes.push(option);
    if (node.kind === 'repeat') nodes.push(node.body);
  }
  return nodes;
}
