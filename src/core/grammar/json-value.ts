import { choice, type Expression, rule, sequence, text } from './expression.ts';
import type { GrammarRules } from './grammar-rules.ts';
import { numberGrammar } from './number-range.ts';
import { anyString } from './string-grammar.ts';

/** Grammars of JSON values of which nothing, or only the type, is known. Without blanks between tokens. */
export class AnyJson {
  readonly #rules: GrammarRules;
  #value: string | undefined;

  constructor(rules: GrammarRules) {
    this.#rules = rules;
  }

  value(): Expression {
    if (this.#value !== undefined) return rule(this.#value);
    this.#value = this.#rules.reserve('json');
    const literals = ['true', 'false', 'null'].map(text);
    const options = [this.object(), this.array(), anyString(this.#rules), this.number(), ...literals];
    this.#rules.set(this.#value, choice(options));
    return rule(this.#value);
  }

  number(): Expression {
    const unbounded = { low: undefined, high: undefined, isWhole: false };
    return this.#rules.define('number', numberGrammar(unbounded, '#'));
  }

  object(): Expression {
    const member = this.#rules.define('member', sequence(anyString(this.#rules), text(':'), this.value()));
    const more = this.#rules.counted('members', sequence(text(','), member), 0, undefined);
    return this.#rules.define(
      'object',
      sequence(text('{'), choice([text('}'), sequence(member, more, text('}'))])),
    );
  }

  array(): Expression {
    const value = this.value();
    const more = this.#rules.counted('items', sequence(text(','), value), 0, undefined);
    return this.#rules.define(
      'array',
      sequence(text('['), choice([text(']'), sequence(value, more, text(']'))])),
    );
  }
}
