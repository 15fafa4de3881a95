import {
  choice,
  EMPTY,
  type Expression,
  expressionKey,
  isEmpty,
  never,
  repeat,
  rule,
  sequence,
} from './expression.ts';
import { gbnfText } from './gbnf-text.ts';
import { GRAMMAR_CHARACTERS_MAX, RULES_MAX } from './grammar-limits.ts';
import { schemaRefusal } from './schema-refusal.ts';

/** Brackets inside each other in one rule; what is deeper becomes a rule of its own. llama.cpp's parser recurses. */
const NESTING_MAX = 12;
/** Repetitions up to this one are left to llama.cpp, which makes a rule of each optional one. */
const REPETITION_BLOCK = 512;

/** The rules of a grammar in the making. Equal expressions get one rule. */
export class GrammarRules {
  readonly #bodies = new Map<string, Expression>();
  readonly #names = new Map<string, string>();
  /** Where in the schema a rule comes from, for refusals. */
  readonly #paths = new Map<string, string>();
  readonly #label: string;

  /** @param label path for refusals of the whole */
  constructor(label: string) {
    this.#label = label;
  }

  /** A name for a rule that is `set` later. */
  reserve(noun: string, path: string = this.#label): string {
    if (this.#paths.size >= RULES_MAX) {
      throw schemaRefusal(path, `the grammar needs more than ${RULES_MAX} rules`);
    }
    const name = `${noun}-${this.#paths.size}`;
    this.#paths.set(name, path);
    return name;
  }

  set(name: string, expression: Expression): void {
    this.#bodies.set(name, this.#flattened(expression, 0));
  }

  /** A rule for an expression, or the expression itself when it is one word. */
  define(noun: string, expression: Expression): Expression {
    if (isEmpty(expression) || ['rule', 'never', 'class', 'text'].includes(expression.kind))
      return expression;
    const key = expressionKey(expression);
    const known = this.#names.get(key);
    if (known !== undefined) return rule(known);
    const name = this.reserve(noun);
    this.#names.set(key, name);
    this.set(name, expression);
    return rule(name);
  }

  /**
   * `body` between `min` and `max` times, without more rules than needed and without a repetition that llama.cpp
   * refuses: long ones are made of blocks. At any point two alternatives are open at most: to end in this block, or
   * to fill it.
   */
  counted(noun: string, body: Expression, min: number, max: number | undefined): Expression {
    if (max !== undefined && max < min) return never(this.#label, `at least ${min} and at most ${max}`);
    const unit = this.define(noun, body);
    if (max === undefined) {
      return min <= REPETITION_BLOCK
        ? repeat(unit, min, undefined)
        : sequence(this.#exactly(noun, unit, min), repeat(unit, 0, undefined));
    }
    if (max <= REPETITION_BLOCK) return repeat(unit, min, max);
    return sequence(this.#exactly(noun, unit, min), this.#upTo(noun, unit, max - min));
  }

  #exactly(noun: string, unit: Expression, count: number): Expression {
    const rest = repeat(unit, count % REPETITION_BLOCK, count % REPETITION_BLOCK);
    if (count < REPETITION_BLOCK) return rest;
    const block = this.define(noun, repeat(unit, REPETITION_BLOCK, REPETITION_BLOCK));
    const blocks = Math.floor(count / REPETITION_BLOCK);
    return sequence(repeat(block, blocks, blocks), rest);
  }

  #upTo(noun: string, unit: Expression, count: number): Expression {
    let rest = this.define(noun, repeat(unit, 0, count % REPETITION_BLOCK));
    if (count < REPETITION_BLOCK) return rest;
    const block = this.define(noun, repeat(unit, REPETITION_BLOCK, REPETITION_BLOCK));
    const less = this.define(noun, repeat(unit, 0, REPETITION_BLOCK - 1));
    for (let left = count; left >= REPETITION_BLOCK; left -= REPETITION_BLOCK) {
      rest = this.define(noun, choice([less, sequence(block, rest)]));
    }
    return rest;
  }

  /**
   * The grammar of everything that `start` reaches, as text.
   * @throws SCHEMA_NOT_SUPPORTED when nothing fits, when an answer could never end, or when it is too large
   */
  text(start: Expression): string {
    const root = this.reserve('root');
    this.set(root, start);
    this.#requireEnds(root);
    this.#dropImpossible(root);
    const lines = this.#reachable(root).map((name) => {
      const body = this.#bodies.get(name) ?? EMPTY;
      return `${name === root ? 'root' : name} ::= ${gbnfText(body)}\n`;
    });
    const grammar = lines.join('');
    if (grammar.length > GRAMMAR_CHARACTERS_MAX) {
      const message = `the grammar has ${grammar.length} characters, at most ${GRAMMAR_CHARACTERS_MAX} are possible`;
      throw schemaRefusal(this.#label, message);
    }
    return grammar;
  }

  /** Refuses recursion without a way out. What is impossible for another reason counts as an end here. */
  #requireEnds(root: string): void {
    const ending = this.#productive(true);
    for (const name of this.#reachable(root)) {
      if (!ending.has(name)) {
        throw schemaRefusal(
          this.#paths.get(name) ?? this.#label,
          'a value would never end: it always holds another one',
        );
      }
    }
  }

  #dropImpossible(root: string): void {
    const possible = this.#productive(false);
    const reasons = new Map<string, Expression>();
    for (const [name, body] of this.#bodies) if (!possible.has(name)) reasons.set(name, firstNever(body));
    if (!possible.has(root)) {
      const reason = this.#reasonOf(root, reasons);
      throw schemaRefusal(reason.path, reason.reason);
    }
    if (reasons.size === 0) return;
    for (const [name, body] of this.#bodies) this.#bodies.set(name, pruned(body, reasons));
  }

  /** Follows impossible rules to one that says why. */
  #reasonOf(root: string, reasons: ReadonlyMap<string, Expression>): { path: string; reason: string } {
    const seen = new Set<string>();
    const todo = [root];
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (seen.has(name)) continue;
      seen.add(name);
      const reason = reasons.get(name);
      if (reason?.kind === 'never') return reason;
      for (const next of referencesOf(this.#bodies.get(name) ?? EMPTY))
        if (reasons.has(next)) todo.push(next);
    }
    return { path: this.#label, reason: 'no value can fit' };
  }

  /** Names of the rules from which a finite text can be made. */
  #productive(impossibleCounts: boolean): Set<string> {
    const done = new Set<string>();
    const users = new Map<string, string[]>();
    for (const [name, body] of this.#bodies) {
      for (const used of referencesOf(body)) {
        const list = users.get(used);
        if (list === undefined) users.set(used, [name]);
        else list.push(name);
      }
    }
    const todo = [...this.#bodies.keys()];
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      const body = this.#bodies.get(name);
      if (body === undefined || done.has(name) || !canEnd(body, done, impossibleCounts)) continue;
      done.add(name);
      for (const user of users.get(name) ?? []) todo.push(user);
    }
    return done;
  }

  #reachable(root: string): string[] {
    const seen = new Set([root]);
    for (const name of seen) {
      for (const next of referencesOf(this.#bodies.get(name) ?? EMPTY)) seen.add(next);
    }
    return [...seen];
  }

  #flattened(expression: Expression, depth: number): Expression {
    const inner = (part: Expression) => this.#flattened(part, depth + 1);
    switch (expression.kind) {
      case 'sequence':
      case 'choice':
      case 'repeat': {
        if (depth > NESTING_MAX) return this.define('part', expression);
        if (expression.kind === 'sequence') return { ...expression, parts: expression.parts.map(inner) };
        if (expression.kind === 'choice') return { ...expression, options: expression.options.map(inner) };
        return { ...expression, body: inner(expression.body) };
      }
      default:
        return expression;
    }
  }
}

/** Names of the rules in it. */
function referencesOf(root: Expression): readonly string[] {
  const names = new Set<string>();
  const expressions = [root];
  for (const expression of expressions) {
    if (expression.kind === 'rule') names.add(expression.name);
    if (expression.kind === 'sequence') for (const part of expression.parts) expressions.push(part);
    if (expression.kind === 'choice') for (const option of expression.options) expressions.push(option);
    if (expression.kind === 'repeat') expressions.push(expression.body);
  }
  return [...names];
}

function canEnd(expression: Expression, ending: ReadonlySet<string>, impossibleCounts: boolean): boolean {
  const inner = (part: Expression) => canEnd(part, ending, impossibleCounts);
  switch (expression.kind) {
    case 'rule':
      return ending.has(expression.name);
    case 'sequence':
      return expression.parts.every(inner);
    case 'choice':
      return expression.options.some(inner);
    case 'repeat':
      return expression.min === 0 || inner(expression.body);
    case 'never':
      return impossibleCounts;
    default:
      return true;
  }
}

function firstNever(expression: Expression): Expression {
  switch (expression.kind) {
    case 'never':
      return expression;
    case 'sequence':
    case 'choice': {
      const inner = expression.kind === 'sequence' ? expression.parts : expression.options;
      return inner.map(firstNever).find((part) => part.kind === 'never') ?? EMPTY;
    }
    default:
      return EMPTY;
  }
}

/** The same without references to impossible rules. */
function pruned(expression: Expression, impossible: ReadonlyMap<string, Expression>): Expression {
  const inner = (part: Expression) => pruned(part, impossible);
  switch (expression.kind) {
    case 'rule':
      return impossible.has(expression.name) ? never('#', 'no value can fit') : expression;
    case 'sequence':
      return sequence(...expression.parts.map(inner));
    case 'choice': {
      const options = expression.options.map(inner).filter((option) => option.kind !== 'never');
      const [only] = options;
      if (only === undefined) return never('#', 'no value can fit');
      return options.length === 1 ? only : { kind: 'choice', options };
    }
    case 'repeat':
      return repeat(inner(expression.body), expression.min, expression.max);
    default:
      return expression;
  }
}
