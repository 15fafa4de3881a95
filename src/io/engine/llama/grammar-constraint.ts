import { FreeholdError } from '../../../core/base/errors.ts';
import type { GrammarVocabulary } from './grammar-vocabulary.ts';
import type { Pointer } from './llama-library.ts';
import type { TokenConstraint } from './sampler.ts';
import { CHARACTER_BORDER } from './utf8-state.ts';

/**
 * The form of one answer, token by token: llama.cpp's grammar sampler over one grammar.
 *
 * Native code ends the process when it accepts a token that the grammar does not allow. It cannot be reached from here:
 * what is accepted was allowed.
 */
export class GrammarConstraint implements TokenConstraint {
  readonly #vocabulary: GrammarVocabulary;
  #grammar: Pointer | undefined;
  /** UTF-8 state of the answer so far. */
  #state = CHARACTER_BORDER;
  /** The last token of which we know that it may come next. */
  #allowed: number | undefined;
  #isComplete: boolean | undefined;
  readonly #one = new Int32Array(1);

  /**
   * @param gbnf with a rule `root`; whoever asks has checked it under limits, since llama.cpp has none
   * @throws GRAMMAR_INVALID
   */
  constructor(vocabulary: GrammarVocabulary, gbnf: string) {
    this.#vocabulary = vocabulary;
    // An empty text would constrain nothing, and a NUL end the text.
    const isText = gbnf !== '' && !gbnf.includes('\0') && gbnf.isWellFormed();
    this.#grammar = isText ? vocabulary.newGrammar(gbnf) : undefined;
    if (this.#grammar === undefined) {
      throw new FreeholdError('GRAMMAR_INVALID', 'llama.cpp cannot read the grammar of the answer');
    }
  }

  /** One token costs about 0.003 ms. */
  allows(token: number): boolean {
    if (token === this.#allowed) return true;
    this.#one[0] = token;
    const isAllowed = this.allowedAmong(this.#one).length > 0;
    if (isAllowed) this.#allowed = token;
    return isAllowed;
  }

  /** Places in `tokens` of those that may come next, in order. One call for all: 0.02 ms for 64. */
  allowedAmong(tokens: Int32Array): readonly number[] {
    return this.#vocabulary.allowedAmong(this.#open(), this.#state, tokens);
  }

  /**
   * Sets the logits of all tokens that may not come next to −Infinity: for 49,152 about 2 ms between values, 15 ms
   * within a string, where nearly all may come.
   * @throws SCHEMA_NOT_SUPPORTED when none may: no token of this vocabulary spells what the grammar wants
   */
  mask(logits: Float32Array): void {
    if (this.#vocabulary.mask(this.#open(), this.#state, logits) > 0) return;
    throw new FreeholdError(
      'SCHEMA_NOT_SUPPORTED',
      'the form of the answer asks for characters that this model has no token for',
      { hint: 'allow other characters there, or ask another model' },
    );
  }

  /** @throws INTERNAL for a token that may not come: ask before */
  accept(token: number): void {
    if (!this.allows(token)) {
      throw new FreeholdError('INTERNAL', `token ${token} does not fit the grammar of the answer`);
    }
    const { tokens } = this.#vocabulary;
    if (tokens.isEnd(token)) {
      this.#isComplete = true;
      return;
    }
    this.#vocabulary.accept(this.#open(), token);
    this.#state = tokens.stateBehind(token, this.#state);
    this.#allowed = undefined;
    this.#isComplete = undefined;
  }

  /** The answer has its form and nothing can follow but the end. Asked after each token, it costs as much as `allows`. */
  get isComplete(): boolean {
    this.#isComplete ??= this.#mayEnd() && !this.#mayGoOn();
    return this.#isComplete;
  }

  /** Frees the native grammar. Idempotent. */
  close(): void {
    if (this.#grammar !== undefined) this.#vocabulary.free(this.#grammar);
    this.#grammar = undefined;
  }

  /** In a vocabulary without end tokens nobody can tell; then an answer that cannot go on counts as closed. */
  #mayEnd(): boolean {
    const { endToken } = this.#vocabulary.tokens;
    return endToken === undefined || this.allows(endToken);
  }

  #mayGoOn(): boolean {
    const { byteTokens, otherTokens } = this.#vocabulary.tokens;
    return this.allowedAmong(byteTokens).length > 0 || this.allowedAmong(otherTokens).length > 0;
  }

  #open(): Pointer {
    if (this.#grammar === undefined) throw new FreeholdError('INTERNAL', 'the grammar is closed');
    return this.#grammar;
  }
}
