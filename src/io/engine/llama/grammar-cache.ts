import type { Constraint, ToolUse } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { requireGrammar } from '../../../core/grammar/gbnf.ts';
import { compileJsonSchema, JSON_OBJECT_GRAMMAR } from '../../../core/grammar/json-schema.ts';
import { compileToolCalls } from '../../../core/grammar/tool-calls.ts';
import { GRAMMAR_CHARACTERS_MAX } from './protocol.ts';

/** Schemas and grammars that are kept, together: a program asks with the same few again and again. */
export const CACHED_CHARACTERS_MAX = 8 << 20;

/**
 * Grammars of the forms that requests ask for. Compiling a large schema takes longer than writing a token, and clients
 * send the same one with each request, so the last ones are kept.
 */
export class GrammarCache {
  /** In the order of their last use. */
  readonly #grammars = new Map<string, string>();
  #characters = 0;

  /** Of what is kept, requests and grammars together. */
  get characters(): number {
    return this.#characters;
  }

  /** @throws SCHEMA_NOT_SUPPORTED, GRAMMAR_INVALID, REQUEST_INVALID */
  ofConstraint(constraint: Constraint): string {
    switch (constraint.kind) {
      case 'json-object':
        return JSON_OBJECT_GRAMMAR;
      case 'json-schema': {
        const { schema } = constraint;
        return this.#cached(`schema ${JSON.stringify(schema)}`, () => compileJsonSchema(schema));
      }
      case 'gbnf': {
        const { grammar } = constraint;
        return this.#cached(`gbnf ${grammar}`, () => {
          requireGrammar(grammar);
          return grammar;
        });
      }
    }
  }

  /** Of an answer that must be a call. @throws SCHEMA_NOT_SUPPORTED, REQUEST_INVALID */
  ofTools(tools: ToolUse): string {
    return this.#cached(`tools ${JSON.stringify(tools)}`, () => compileToolCalls(tools));
  }

  #cached(key: string, compile: () => string): string {
    const known = this.#grammars.get(key);
    const grammar = known ?? requireLength(compile());
    this.#grammars.delete(key);
    this.#grammars.set(key, grammar);
    if (known === undefined) this.#characters += key.length + grammar.length;
    for (const [oldKey, old] of this.#grammars) {
      if (this.#characters <= CACHED_CHARACTERS_MAX) break;
      this.#grammars.delete(oldKey);
      this.#characters -= oldKey.length + old.length;
    }
    return grammar;
  }
}

/** A longer one would end the engine process, which takes none. */
function requireLength(grammar: string): string {
  if (grammar.length <= GRAMMAR_CHARACTERS_MAX) return grammar;
  throw new FreeholdError(
    'SCHEMA_NOT_SUPPORTED',
    `the form of the answer makes a grammar of ${grammar.length} characters, at most ${GRAMMAR_CHARACTERS_MAX} are taken`,
  );
}
