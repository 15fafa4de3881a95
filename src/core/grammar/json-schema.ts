import type { JsonSchema } from '../base/engine-port.ts';
import { arrayGrammar } from './array-grammar.ts';
import { CompilerBudget } from './compiler-budget.ts';
import { choice, type Expression, never, rule, text } from './expression.ts';
import { requireUnambiguous } from './grammar-ambiguity.ts';
import { GrammarRules } from './grammar-rules.ts';
import { AnyJson } from './json-value.ts';
import { integerGrammar, numberGrammar } from './number-range.ts';
import { objectGrammar } from './object-grammar.ts';
import { type Located, SchemaDocument } from './schema-document.ts';
import { withoutExcluded } from './schema-exclusion.ts';
import { type Facts, generatedTypes } from './schema-facts.ts';
import type { TypeName } from './schema-object.ts';
import { SchemaReader } from './schema-reader.ts';
import { schemaRefusal } from './schema-refusal.ts';
import { valueFitsFacts, valueKey } from './schema-value.ts';
import { stringGrammar } from './string-grammar.ts';

/**
 * A grammar in llama.cpp's notation whose texts are compact JSON (no blanks between tokens, members in the order of
 * the schema) and valid under the schema: draft 2020-12, as far as `docs/structured-output.md` says. Never accepts
 * an invalid value; where not every valid one can be had, fewer are.
 * @throws SCHEMA_NOT_SUPPORTED, with `detail.path`, for whatever cannot be enforced, is unknown, malformed,
 * contradictory, endless, too large or too ambiguous
 */
export function compileJsonSchema(schema: JsonSchema): string {
  const document = new SchemaDocument(schema);
  const rules = new GrammarRules(document.path);
  const compiler = new SchemaCompiler(rules, new AnyJson(rules), document.path, new CompilerBudget());
  return requireUnambiguous(rules.text(compiler.compile([document.start])), document.path);
}

/** Any JSON object, compact. How deep and how long is up to the model and to `maxTokens`. */
export const JSON_OBJECT_GRAMMAR: string = jsonObjectGrammar();

function jsonObjectGrammar(): string {
  const rules = new GrammarRules('#');
  return rules.text(new AnyJson(rules).object());
}

interface Task {
  readonly name: string;
  readonly schemas: readonly Located[];
}

/** Makes rules of schemas. Values inside values wait in a queue, so that recursion in a schema is none here. */
export class SchemaCompiler {
  readonly #rules: GrammarRules;
  readonly #reader: SchemaReader;
  readonly #any: AnyJson;
  readonly #done = new Map<string, Expression>();
  readonly #queue: Task[] = [];

  /**
   * @param any of the same rules
   * @param path of the whole, for refusals
   * @param budget of everything that is compiled for one request
   */
  constructor(rules: GrammarRules, any: AnyJson, path: string, budget: CompilerBudget) {
    this.#rules = rules;
    this.#any = any;
    this.#reader = new SchemaReader(path, budget);
  }

  /** The grammar of values that fit all schemas. @throws SCHEMA_NOT_SUPPORTED */
  compile(schemas: readonly Located[]): Expression {
    const start = possible(this.#value(schemas));
    for (let task = this.#queue.shift(); task !== undefined; task = this.#queue.shift()) {
      const body = this.#body(task.schemas);
      const isStart = start.kind === 'rule' && start.name === task.name;
      this.#rules.set(task.name, isStart ? possible(body) : body);
    }
    return start;
  }

  readonly #value = (all: readonly Located[]): Expression => {
    const distinct = new Map(
      all
        .map((located) => this.#reader.resolved(located))
        .filter(({ schema }) => schema !== true)
        .map((located) => [located.path, located]),
    );
    const schemas = [...distinct.values()];
    const [first] = schemas;
    if (first === undefined) return this.#any.value();
    const key = [...distinct.keys()].sort().join('\n');
    const known = this.#done.get(key);
    if (known !== undefined) return known;
    const combinations = this.#reader.combinations(schemas);
    const isNested = combinations.some(
      (facts) =>
        facts.values.length === 0 && ['array', 'object'].some((type) => has(generatedTypes(facts), type)),
    );
    if (!isNested) {
      const expression = this.#rules.define('value', this.#body(schemas));
      this.#done.set(key, expression);
      return expression;
    }
    const name = this.#rules.reserve('value', first.path);
    this.#done.set(key, rule(name));
    this.#queue.push({ name, schemas });
    return rule(name);
  };

  /**
   * A single schema that nothing fits is a mistake, unless it is `false`. Several that contradict each other can be
   * one case of many that came up when they were put together: that case is left out.
   */
  #body(schemas: readonly Located[]): Expression {
    const [first, second] = schemas;
    const combinations = this.#reader.combinations(schemas);
    const body =
      combinations.length === 0
        ? never(first?.path ?? '#', 'no value can fit')
        : choice(combinations.map((facts) => this.#facts(facts)));
    return second === undefined && first?.schema !== false ? possible(body) : body;
  }

  #facts(facts: Facts): Expression {
    if (facts.values.length > 0) return this.#values(facts, facts.values[0] ?? []);
    const types = generatedTypes(facts);
    if ([...types].every((type) => type === 'null' || type === 'boolean')) {
      return this.#values(facts, [true, false, null]);
    }
    const narrowed = withoutExcluded(this.#reader, facts);
    return choice([...types].map((type) => this.#type(type, narrowed)));
  }

  #values(facts: Facts, listed: readonly unknown[]): Expression {
    const fitting = listed.filter((value) => valueFitsFacts(this.#reader, value, facts));
    // Of equal values the first one's order of members.
    const distinct = new Map(fitting.toReversed().map((value) => [valueKey(value), JSON.stringify(value)]));
    if (distinct.size > 0) return choice([...distinct.values()].toReversed().map(text));
    return never(facts.path, 'none of the values in enum or const fits the rest');
  }

  #type(type: TypeName, facts: Facts): Expression {
    const { number, string, array, object, path } = facts;
    switch (type) {
      case 'null':
        return text('null');
      case 'boolean':
        return choice([text('true'), text('false')]);
      case 'integer':
        return this.#rules.define('integer', integerGrammar(number, path));
      case 'number':
        return this.#rules.define('number', (number.isWhole ? integerGrammar : numberGrammar)(number, path));
      case 'string':
        return stringGrammar(this.#rules, this.#reader.budget.strings, string, path);
      case 'array':
        return isFree(array) ? this.#any.array() : arrayGrammar(this.#rules, facts, this.#value);
      case 'object':
        return isFree(object) && object.required.size + object.forbidden.size === 0
          ? this.#any.object()
          : objectGrammar(this.#rules, facts, this.#value);
    }
  }
}

function possible(expression: Expression): Expression {
  if (expression.kind === 'never') throw schemaRefusal(expression.path, expression.reason);
  return expression;
}

const has = (types: ReadonlySet<string>, type: string) => types.has(type);

const isFree = ({ shapes, min, max, ...rest }: Facts['array'] | Facts['object']) =>
  shapes.length === 0 &&
  min === 0 &&
  max === undefined &&
  !('uniquePath' in rest && rest.uniquePath !== undefined);
