import { quoted } from '../base/ids.ts';
import type { Automaton, State } from './automaton.ts';
import { type CodePointRange, codePointSet, without } from './code-points.ts';
import { choice, type Expression, never, sequence, text } from './expression.ts';
import { PROPERTIES_MAX } from './grammar-limits.ts';
import type { GrammarRules } from './grammar-rules.ts';
import type { Located } from './schema-document.ts';
import { type Facts, isForbidden, memberPlan, memberSchemas } from './schema-facts.ts';
import { schemaRefusal } from './schema-refusal.ts';
import { SPELLED_ONCE } from './string-automata.ts';
import { anyString, automatonGrammar } from './string-grammar.ts';

/**
 * Optional members that are alternatives at one point; what begins alike among them is put together. More follow in a
 * rule of their own, so that a thousand optional members do not make a million alternatives.
 */
const ALTERNATIVES_MAX = 16;
/** Members times alternatives. */
const ALTERNATIVES_TOTAL_MAX = 4_000;
/** Members times counts, where `minProperties` or `maxProperties` make counting necessary. */
const COUNTED_STATES_MAX = 10_000;

interface Member {
  readonly isRequired: boolean;
  /** Name, colon and value. */
  readonly expression: Expression;
}

type ValueGrammar = (schemas: readonly Located[]) => Expression;

/** @param valueGrammar the grammar of a value that all schemas describe */
export function objectGrammar(
  rules: GrammarRules,
  { object, path }: Facts,
  valueGrammar: ValueGrammar,
): Expression {
  const { names, others } = memberPlan(object);
  const impossible = names.find((name) => object.required.has(name) && isForbidden(object, name));
  if (impossible !== undefined) {
    return never(path, `the member ${quoted(impossible)} is required and not allowed`);
  }
  if (names.length > PROPERTIES_MAX) {
    throw schemaRefusal(path, `${names.length} members, at most ${PROPERTIES_MAX} are possible`);
  }
  const members = names.map((name): Member => {
    const value = valueGrammar(memberSchemas(object, name));
    return {
      isRequired: object.required.has(name),
      expression: sequence(text(`${JSON.stringify(name)}:`), value),
    };
  });
  const other = others === undefined ? undefined : otherMember(rules, object, names, valueGrammar(others));
  return sequence(text('{'), new MemberList(rules, members, other, object, path).grammar());
}

function otherMember(
  rules: GrammarRules,
  object: Facts['object'],
  names: readonly string[],
  value: Expression,
): Expression {
  const named = new Set([
    ...names,
    ...object.forbidden,
    ...object.shapes.flatMap(({ properties }) => [...(properties?.keys() ?? [])]),
  ]);
  const key =
    named.size === 0 ? anyString(rules) : sequence(text('"'), automatonGrammar(rules, otherNames(named)));
  return rules.define('member', sequence(key, text(':'), value));
}

/** Every string but the named ones: beyond the end of a beginning of a name, anything goes. */
function otherNames(names: Iterable<string>): Automaton {
  const FREE = 1;
  const nodes: { children: Map<number, number>; isName: boolean }[] = [
    { children: new Map(), isName: false },
    { children: new Map(), isName: false },
  ];
  for (const name of names) {
    let node = nodes[0];
    for (const character of name) {
      const codePoint = character.codePointAt(0) ?? 0;
      const next = node?.children.get(codePoint) ?? nodes.length;
      if (next === nodes.length) nodes.push({ children: new Map(), isName: false });
      node?.children.set(codePoint, next);
      node = nodes[next];
    }
    if (node !== undefined) node.isName = true;
  }
  return nodes.map(({ children, isName }): State => {
    const taken = codePointSet(
      [...children.keys()].map((codePoint): CodePointRange => [codePoint, codePoint]),
    );
    const spellable = [...children].filter(([codePoint]) =>
      SPELLED_ONCE.some(([low, high]) => low <= codePoint && codePoint <= high),
    );
    return {
      isAccepting: !isName,
      transitions: [
        ...spellable.map(([codePoint, to]) => ({ set: [[codePoint, codePoint]] as const, to })),
        { set: without(SPELLED_ONCE, taken), to: FREE },
      ],
    };
  });
}

/** What follows the opening brace. Members come in the order of the schema; each optional one may be left out. */
class MemberList {
  readonly #rules: GrammarRules;
  readonly #members: readonly Member[];
  readonly #other: Expression | undefined;
  readonly #path: string;
  /** Members that must be written, where that is more than the required ones. */
  readonly #min: number;
  readonly #max: number | undefined;
  /** Counts from here on are alike. */
  readonly #countMax: number;
  readonly #alternatives: number;

  constructor(
    rules: GrammarRules,
    members: readonly Member[],
    other: Expression | undefined,
    { min, max }: { readonly min: number; readonly max: number | undefined },
    path: string,
  ) {
    this.#rules = rules;
    this.#members = members;
    this.#other = other;
    this.#path = path;
    const share = Math.floor(ALTERNATIVES_TOTAL_MAX / Math.max(1, members.length));
    this.#alternatives = Math.min(ALTERNATIVES_MAX, Math.max(1, share));
    const requiredCount = members.filter(({ isRequired }) => isRequired).length;
    this.#min = min > requiredCount ? min : 0;
    this.#max = other === undefined && (max ?? 0) >= members.length ? undefined : max;
    this.#countMax = Math.max(this.#min, this.#max ?? 0, 1);
    if (Math.min(this.#countMax, members.length) * members.length > COUNTED_STATES_MAX) {
      throw schemaRefusal(path, 'too many members to count them (minProperties, maxProperties)');
    }
  }

  grammar(): Expression {
    let following: Expression[] = [];
    const states = new Map<number, Expression[]>();
    for (let index = this.#members.length; index >= 0; index--) {
      following = [];
      for (let count = 0; count <= Math.min(this.#countMax, index); count++) {
        following.push(this.#state(index, count, states));
      }
      states.set(index, following);
    }
    return following[0] ?? never(this.#path, 'no members');
  }

  /** What may follow when the members before `index` are decided and `count` of them were written. */
  #state(index: number, count: number, states: ReadonlyMap<number, readonly Expression[]>): Expression {
    const options: Expression[] = [];
    const state = (at: number, written: number) =>
      states.get(at)?.[Math.min(written, this.#countMax)] ?? never(this.#path, 'no members');
    const isFull = this.#max !== undefined && count >= this.#max;
    let next = index;
    for (; next < this.#members.length && next < index + this.#alternatives; next++) {
      const member = this.#members[next];
      if (member === undefined) break;
      const rest = state(next + 1, count + 1);
      if (!isFull) options.push(sequence(text(count === 0 ? '' : ','), member.expression, rest));
      if (member.isRequired) return this.#shared(index, choice([...options, tooMany(this.#path)]));
    }
    options.push(next === this.#members.length ? this.#end(count) : state(next, count));
    return this.#shared(index, choice(options));
  }

  /** To be used more than once, except where only one place leads on: at the start and behind a required member. */
  #shared(index: number, expression: Expression): Expression {
    const isUsedOnce = index === 0 || (expression.kind !== 'choice' && this.#members[index - 1]?.isRequired);
    const isLong = expression.kind === 'sequence' && expression.parts.length > 40;
    return isUsedOnce && !isLong ? expression : this.#rules.define('members', expression);
  }

  #end(count: number): Expression {
    const least = Math.max(0, this.#min - count);
    const most = this.#max === undefined ? undefined : this.#max - count;
    if (this.#other === undefined) return least > 0 ? tooFew(this.#path) : text('}');
    // The same name twice is one member: only the first of the free ones is sure to be a further one.
    if (least > 1) return never(this.#path, 'minProperties: members with free names could be twice the same');
    if (most !== undefined && most < least) return tooMany(this.#path);
    const further = (min: number, max: number | undefined) =>
      this.#rules.counted('members', sequence(text(','), this.#other ?? text('')), min, max);
    if (count > 0) return sequence(further(least, most), text('}'));
    const some =
      most === 0
        ? tooMany(this.#path)
        : sequence(this.#other, further(0, most === undefined ? undefined : most - 1), text('}'));
    return least === 0 ? choice([text('}'), some]) : some;
  }
}

const tooMany = (path: string) => never(path, 'more members are required than maxProperties allows');
const tooFew = (path: string) => never(path, 'there are fewer members than minProperties demands');
