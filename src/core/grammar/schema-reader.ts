import type { CompilerBudget } from './compiler-budget.ts';
import { COMBINATIONS_MAX, REFERENCE_CHAIN_MAX, SCHEMA_DEPTH_MAX } from './grammar-limits.ts';
import { type Located, pathBelow } from './schema-document.ts';
import { bothFacts, type Exclusion, type Facts, NO_FACTS, ownFacts } from './schema-facts.ts';
import { readSchemaObject, type SchemaObject } from './schema-object.ts';
import { schemaRefusal } from './schema-refusal.ts';

/** Of values inside values; a value is at most as deep as a schema, and some schemas are about the same value. */
const CHECKS_OPEN_MAX = 4 * SCHEMA_DEPTH_MAX;

/** Reads schemas into facts: follows `$ref`, puts `allOf` together, multiplies `anyOf` and `oneOf` out. */
export class SchemaReader {
  readonly budget: CompilerBudget;
  readonly #objects = new Map<string, SchemaObject>();
  readonly #combinations = new Map<string, readonly Facts[]>();
  readonly #chain: string[] = [];
  readonly #path: string;
  #checksOpen = 0;

  /** @param path of the whole, for refusals */
  constructor(path: string, budget: CompilerBudget) {
    this.#path = path;
    this.budget = budget;
  }

  /** Bounds the work on one schema, however it is built. @throws SCHEMA_NOT_SUPPORTED */
  spend(steps = 1): void {
    this.budget.spend(steps, this.#path);
  }

  /**
   * Runs a check inside of another one. A schema that must not fit itself (`not` with a `$ref` to where it stands) would
   * never come to an answer.
   * @throws SCHEMA_NOT_SUPPORTED
   */
  nested<Result>(path: string, check: () => Result): Result {
    if (this.#checksOpen >= CHECKS_OPEN_MAX)
      throw schemaRefusal(path, 'refers to itself without a value in between');
    this.#checksOpen++;
    try {
      return check();
    } finally {
      this.#checksOpen--;
    }
  }

  /**
   * What all schemas say together, as alternatives: a value fits if it fits one of them. None: no value can fit.
   * @throws SCHEMA_NOT_SUPPORTED
   */
  combinations(all: readonly Located[]): readonly Facts[] {
    return all.reduce<readonly Facts[]>(
      (soFar, located) => this.#product(soFar, this.#of(located), located.path),
      [{ ...NO_FACTS, path: all[0]?.path ?? this.#path }],
    );
  }

  /** The schema that a `$ref` without company leads to, so that recursion is seen as such. */
  resolved(located: Located): Located {
    let at = located;
    for (let hops = 0; hops < REFERENCE_CHAIN_MAX && typeof at.schema === 'object'; hops++) {
      const { numbers, ...keywords } = this.#object(at);
      if (keywords.reference === undefined || Object.keys(keywords).length > 1 || numbers.size > 0) break;
      at = at.document.resolve(keywords.reference, pathBelow(at.path, '$ref'));
    }
    return at;
  }

  #object(located: Located): SchemaObject {
    const known = this.#objects.get(located.path);
    if (known !== undefined) return known;
    this.spend();
    const object = readSchemaObject(located);
    this.#objects.set(located.path, object);
    return object;
  }

  #of(located: Located): readonly Facts[] {
    if (located.schema === true) return [NO_FACTS];
    if (located.schema === false) return [];
    const known = this.#combinations.get(located.path);
    if (known !== undefined) return known;
    if (this.#chain.includes(located.path)) {
      throw schemaRefusal(located.path, 'refers to itself without a value in between');
    }
    if (this.#chain.length >= REFERENCE_CHAIN_MAX) {
      throw schemaRefusal(located.path, `more than ${REFERENCE_CHAIN_MAX} schemas that lead to each other`);
    }
    this.#chain.push(located.path);
    const facts = this.#read(located);
    this.#chain.pop();
    this.#combinations.set(located.path, facts);
    return facts;
  }

  #read(located: Located): readonly Facts[] {
    const object = this.#object(located);
    const { path } = located;
    let facts: readonly Facts[] = [ownFacts(located, object)];
    const and = (others: readonly Facts[]) => {
      facts = this.#product(facts, others, path);
    };
    if (object.reference !== undefined) {
      and(this.#of(located.document.resolve(object.reference, pathBelow(path, '$ref'))));
    }
    for (const part of object.allOf ?? []) and(this.#of(part));
    if (object.anyOf !== undefined) and(object.anyOf.flatMap((branch) => this.#of(branch)));
    if (object.oneOf !== undefined) and(this.#exactlyOne(object.oneOf, pathBelow(path, 'oneOf')));
    return facts;
  }

  /** Each branch, with all others excluded. */
  #exactlyOne(branches: readonly Located[], path: string): Facts[] {
    return branches.flatMap((branch) => {
      const excluded: Exclusion[] = branches
        .filter((other) => other !== branch)
        .map((other) => ({ located: other, path }));
      return this.#of(branch).map((facts) => ({ ...facts, excluded: [...facts.excluded, ...excluded] }));
    });
  }

  #product(left: readonly Facts[], right: readonly Facts[], path: string): readonly Facts[] {
    const count = left.length * right.length;
    if (count > COMBINATIONS_MAX) {
      throw schemaRefusal(
        path,
        `${count} combinations of alternatives, at most ${COMBINATIONS_MAX} are possible`,
      );
    }
    return left.flatMap((one) => {
      this.spend(right.length);
      return right.map((other) => bothFacts(one, other)).filter((facts) => facts !== undefined);
    });
  }
}
