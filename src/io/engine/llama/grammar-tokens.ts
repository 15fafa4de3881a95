import { CHARACTER_BORDER, INVALID, utf8After } from './utf8-state.ts';

/** What one token is to a constrained answer. */
export type GrammarToken =
  /** It ends the answer; the grammar says when. */
  | { readonly kind: 'end' }
  | { readonly kind: 'text'; readonly bytes: Uint8Array }
  /** Never part of an answer: control tokens, tokens without text. */
  | { readonly kind: 'hidden' };

/** Beside the states of `utf8After`. */
const END = -2;
/** Behind the ASCII characters. */
const NO_ASCII = 128;

/**
 * What the tokens of a vocabulary stand for, as far as a constrained answer cares: which may follow where in a text that
 * must be UTF-8, and which cannot come where none of one byte can.
 */
export class GrammarTokens {
  readonly count: number;
  /** One that ends the answer; undefined in a vocabulary without any. */
  readonly endToken: number | undefined;
  /** Tokens of one byte: where an answer can go on at all, one of these can nearly always come. */
  readonly byteTokens: Int32Array;
  /** Those of them that are an ASCII character. */
  readonly asciiTokens: Int32Array;
  /** Tokens that may come even where none of `byteTokens` may. Those that end the answer are not among them. */
  readonly otherTokens: Int32Array;
  /** By token: the UTF-8 state behind it, begun at a border; or INVALID, or END. */
  readonly #stateBehind: Int8Array;
  /** By token: the ASCII character with which it begins, where that is a token too; else NO_ASCII. */
  readonly #first: Uint8Array;
  /** Tokens that begin within a character. */
  readonly #continuations = new Map<number, Uint8Array>();

  constructor(count: number, tokenOf: (token: number) => GrammarToken) {
    this.count = count;
    this.#stateBehind = new Int8Array(count).fill(INVALID);
    const first = new Uint8Array(count).fill(NO_ASCII);
    const textTokens: number[] = [];
    const byteTokens: number[] = [];
    for (let token = 0; token < count; token++) {
      const described = tokenOf(token);
      if (described.kind === 'end') {
        this.#stateBehind[token] = END;
        this.endToken ??= token;
      }
      // llama.cpp reads a token's text up to a NUL.
      if (described.kind !== 'text' || described.bytes.length === 0 || described.bytes.includes(0)) continue;
      this.#addText(token, described.bytes);
      first[token] = Math.min(NO_ASCII, described.bytes[0] as number);
      textTokens.push(token);
      if (described.bytes.length === 1) byteTokens.push(token);
    }
    this.byteTokens = Int32Array.from(byteTokens);
    this.asciiTokens = this.byteTokens.filter((token) => (first[token] as number) < NO_ASCII);
    const spelt = new Set(Array.from(this.asciiTokens, (token) => first[token] as number));
    this.#first = first.map((character) => (spelt.has(character) ? character : NO_ASCII));
    this.otherTokens = Int32Array.from(textTokens.filter((token) => this.#first[token] === NO_ASCII));
  }

  isEnd(token: number): boolean {
    return this.#stateBehind[token] === END;
  }

  /** The UTF-8 state behind `token` when it follows `state`; INVALID when it cannot. */
  stateBehind(token: number, state: number): number {
    const behind = this.#stateBehind[token] ?? INVALID;
    if (behind === END) return state;
    if (state === CHARACTER_BORDER) return behind;
    const bytes = this.#continuations.get(token);
    return bytes === undefined ? INVALID : utf8After(bytes, state);
  }

  /**
   * Whether a token can come when of `asciiTokens` only those at `places` can: it begins with one of them, or with none
   * of `asciiTokens`. Bytes beyond ASCII say nothing: a grammar may refuse the first one and take the whole character.
   */
  possibleWith(places: readonly number[]): (token: number) => boolean {
    const mayBegin = new Uint8Array(NO_ASCII + 1).fill(1, NO_ASCII);
    for (const place of places) mayBegin[this.#first[this.asciiTokens[place] as number] as number] = 1;
    return (token) => mayBegin[this.#first[token] ?? NO_ASCII] === 1;
  }

  #addText(token: number, bytes: Uint8Array): void {
    const isWithinCharacter = ((bytes[0] as number) & 0xc0) === 0x80;
    if (isWithinCharacter) this.#continuations.set(token, bytes);
    else this.#stateBehind[token] = utf8After(bytes, CHARACTER_BORDER);
  }
}
