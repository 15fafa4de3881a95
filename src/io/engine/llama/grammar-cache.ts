import type { Constraint, ToolUse } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { requireGrammar } from '../../../core/grammar/gbnf.ts';
import { GRAMMAR_CHARACTERS_MAX } from '../../../core/grammar/grammar-limits.ts';
import { compileJsonSchema, JSON_OBJECT_GRAMMAR } from '../../../core/grammar/json-schema.ts';
import { compileToolCalls } from '../../../core/grammar/tool-calls.ts';

/** Schemas and grammars that are kept, together: a program asks with the same few again and again. */
export const CACHED_CHARACTERS_MAX = 8 << 20;

/**
 * Grammars of the forms that requests ask for. Compiling a large schema takes longer than writing a token, and clients
 * send the same one with each request, so the last ones are kept.
 */
export class GrammarCache {
  /** In the order of their last use. */
  readonly #answers = new Map<string, Answer>();
  #characters = 0;

  /** Of what is kept, requests with their grammars and refusals together. */
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
    const known = this.#answers.get(key);
    const answer = known ?? answerOf(compile);
    this.#answers.delete(key);
    this.#answers.set(key, answer);
    if (known === undefined) this.#characters += key.length + lengthOf(answer);
    for (const [oldKey, old] of this.#answers) {
      if (this.#characters <= CACHED_CHARACTERS_MAX) break;
      this.#answers.delete(oldKey);
      this.#characters -= oldKey.length + lengthOf(old);
    }
    if (answer.kind === 'grammar') return answer.grammar;
    const { code, message, hint, detail } = answer.refusal;
    throw new FreeholdError(code, message, { hint, detail });
  }
}

/** Refusals are kept as well: to find out that a schema is too complex takes longest of all. */
type Answer =
  | { readonly kind: 'grammar'; readonly grammar: string }
  | {
      readonly kind: 'refusal';
      readonly refusal: Pick<FreeholdError, 'code' | 'message' | 'hint' | 'detail'>;
    };

function answerOf(compile: () => string): Answer {
  try {
    return { kind: 'grammar', grammar: requireLength(compile()) };
  } catch (error) {
    if (!(error instanceof FreeholdError)) throw error;
    const { code, message, hint, detail } = error;
    return { kind: 'refusal', refusal: { code, message, hint, detail } };
  }
}

function lengthOf(answer: Answer): number {
  return answer.kind === 'grammar' ? answer.grammar.length : JSON.stringify(answer.refusal).length;
}

/** A longer one would end the engine process, which takes none. */
function requireLength(grammar: string): string {
  if (grammar.length <= GRAMMAR_CHARACTERS_MAX) return grammar;
  throw new FreeholdError(
    'SCHEMA_NOT_SUPPORTED',
    `the form of the answer makes a grammar of ${grammar.length} characters, at most ${GRAMMAR_CHARACTERS_MAX} are taken`,
  );
}
