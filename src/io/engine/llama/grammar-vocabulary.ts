import { type GrammarToken, GrammarTokens } from './grammar-tokens.ts';
import type { LlamaLibrary, Pointer } from './llama-library.ts';
import { allocateNative } from './native-memory.ts';
import { INVALID } from './utf8-state.ts';
import { ATTRIBUTE_CONTROL, ATTRIBUTE_UNKNOWN, pieceReader } from './vocabulary.ts';

/** `llama_token_data`: `{ int32 id; float logit; float p; }`. */
const CANDIDATE_WORDS = 3;
/** `llama_token_data_array`: `{ data *; size_t size; int64_t selected; bool sorted; }`. */
const ARRAY_BYTES = 32;

/**
 * What the constrained answers of one model share: what each token stands for, and the memory through which llama.cpp's
 * grammar sampler is asked. Everything in it is used within one call, so any number of answers may take turns.
 *
 * llama.cpp matches a token by its text, that of control tokens included, and takes bytes that are not UTF-8 for
 * characters (overlong forms pass). Such an answer would read otherwise than the grammar has read it. So control tokens,
 * and bytes that are not UTF-8 where they stand, are refused before the grammar is asked.
 */
export class GrammarVocabulary {
  readonly tokens: GrammarTokens;
  readonly #library: LlamaLibrary;
  readonly #vocabulary: Pointer;
  readonly #candidateIds: Int32Array;
  readonly #candidateLogits: Float32Array;
  readonly #candidates: Pointer;
  readonly #array: Pointer;
  readonly #arrayWords: BigInt64Array;
  /** Of the candidates, where they stand with whoever asks. */
  readonly #places: Int32Array;

  /** Reads every token once: 60 ms for 49,152. The native memory is never given back: make one for each model. */
  constructor(library: LlamaLibrary, vocabulary: Pointer, tokenCount: number) {
    this.#library = library;
    this.#vocabulary = vocabulary;
    this.tokens = new GrammarTokens(tokenCount, tokenReader(library, vocabulary));
    const candidates = allocateNative(Math.max(1, tokenCount) * CANDIDATE_WORDS * 4);
    this.#candidates = candidates.address;
    this.#candidateIds = new Int32Array(candidates.bytes);
    this.#candidateLogits = new Float32Array(candidates.bytes);
    const array = allocateNative(ARRAY_BYTES);
    this.#array = array.address;
    this.#arrayWords = new BigInt64Array(array.bytes);
    this.#places = new Int32Array(tokenCount);
  }

  /** @returns undefined when llama.cpp cannot read it */
  newGrammar(gbnf: string): Pointer | undefined {
    return this.#library.newGrammar(this.#vocabulary, gbnf, 'root') ?? undefined;
  }

  /** Only a token that may come: native code ends the process otherwise. */
  accept(grammar: Pointer, token: number): void {
    this.#library.samplerAccept(grammar, token);
  }

  free(grammar: Pointer): void {
    this.#library.samplerFree(grammar);
  }

  /**
   * Asks about at most as many tokens as the vocabulary has, in one call.
   * @param state UTF-8 state of the answer so far
   * @returns the places in `tokens` of those that may come, in order
   */
  allowedAmong(grammar: Pointer, state: number, tokens: Int32Array): number[] {
    // Native code would read behind its memory.
    if (tokens.length > this.tokens.count) throw new RangeError(`${tokens.length} tokens at once`);
    let count = 0;
    for (let place = 0; place < tokens.length; place++) {
      const token = tokens[place] as number;
      if (this.tokens.stateBehind(token, state) !== INVALID) this.#put(count++, token, place);
    }
    this.#apply(grammar, count);
    const allowed: number[] = [];
    for (let index = 0; index < count; index++) {
      if (this.#isLeft(index)) allowed.push(this.#places[index] as number);
    }
    return allowed;
  }

  /**
   * Sets the logits of all tokens that may not come to −Infinity. What begins with an ASCII character that may not come
   * by itself is not asked about: between the values of a JSON text that is nearly everything.
   * @returns how many may come
   */
  mask(grammar: Pointer, state: number, logits: Float32Array): number {
    const isPossible = this.tokens.possibleWith(this.allowedAmong(grammar, state, this.tokens.asciiTokens));
    let count = 0;
    for (let token = 0; token < logits.length; token++) {
      if (isPossible(token) && this.tokens.stateBehind(token, state) !== INVALID) {
        this.#put(count++, token, token);
      } else {
        logits[token] = Number.NEGATIVE_INFINITY;
      }
    }
    this.#apply(grammar, count);
    let left = 0;
    for (let index = 0; index < count; index++) {
      if (this.#isLeft(index)) left++;
      else logits[this.#places[index] as number] = Number.NEGATIVE_INFINITY;
    }
    return left;
  }

  #put(index: number, token: number, place: number): void {
    this.#candidateIds[index * CANDIDATE_WORDS] = token;
    this.#candidateLogits[index * CANDIDATE_WORDS + 1] = 0;
    this.#places[index] = place;
  }

  #isLeft(index: number): boolean {
    return this.#candidateLogits[index * CANDIDATE_WORDS + 1] === 0;
  }

  #apply(grammar: Pointer, count: number): void {
    if (count === 0) return;
    this.#arrayWords[0] = this.#candidates;
    this.#arrayWords[1] = BigInt(count);
    this.#arrayWords[2] = -1n;
    this.#arrayWords[3] = 0n;
    this.#library.samplerApply(grammar, this.#array);
  }
}

function tokenReader(library: LlamaLibrary, vocabulary: Pointer): (token: number) => GrammarToken {
  const bytesOf = pieceReader(library, vocabulary, true);
  return (token) => {
    if (library.isEndOfGeneration(vocabulary, token)) return { kind: 'end' };
    const attributes = library.tokenAttributes(vocabulary, token);
    if ((attributes & (ATTRIBUTE_UNKNOWN | ATTRIBUTE_CONTROL)) !== 0) return { kind: 'hidden' };
    return { kind: 'text', bytes: bytesOf(token) };
  };
}
