import { type CodePointSet, charactersOf, codePointSet, SCALAR_VALUES, without } from './code-points.ts';
import { PATTERN_CHARACTERS_MAX, PATTERN_DEPTH_MAX } from './grammar-limits.ts';

/** A regular expression of ECMA-262, as far as it describes a regular language. */
export type Pattern =
  | { readonly kind: 'set'; readonly set: CodePointSet }
  | { readonly kind: 'sequence'; readonly parts: readonly Pattern[] }
  | { readonly kind: 'choice'; readonly options: readonly Pattern[] }
  | {
      readonly kind: 'repeat';
      readonly body: Pattern;
      readonly min: number;
      readonly max: number | undefined;
    }
  /** `^` and `$`. */
  | { readonly kind: 'start' }
  | { readonly kind: 'end' };

/** Says what in a pattern is wrong or cannot be enforced; its message ends with the place. */
export class PatternError extends Error {}

const DIGITS = codePointSet([[0x30, 0x39]]);
const WORD = codePointSet([
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]);
/** ECMA-262 WhiteSpace and LineTerminator. */
const BLANK = codePointSet([
  ...charactersOf('\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff'),
  [0x2000, 0x200a],
]);
const CLASS_ESCAPES: Readonly<Record<string, CodePointSet>> = {
  d: DIGITS,
  D: without(SCALAR_VALUES, DIGITS),
  w: WORD,
  W: without(SCALAR_VALUES, WORD),
  s: BLANK,
  S: without(SCALAR_VALUES, BLANK),
};
const CONTROL_ESCAPES: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 };
const ANY_CHARACTER = without(SCALAR_VALUES, charactersOf('\n\r\u2028\u2029'));
const COUNT = /\{(\d{1,6})(?:(,)(\d{1,6})?)?\}/y;

/**
 * Reads a pattern as JSON Schema means it: by code points (flag `u`), without other flags. Alternation, groups (named
 * ones too), classes, the escapes `\d \w \s` and their opposites, `.`, `^`, `$`, and all quantifiers, of which lazy
 * ones match the same texts. Look-around, back references, `\b` and `\p` are refused.
 * @throws PatternError
 */
export function parsePattern(source: string): Pattern {
  if (source.length > PATTERN_CHARACTERS_MAX) {
    throw new PatternError(`${source.length} characters, at most ${PATTERN_CHARACTERS_MAX} are read`);
  }
  if (!source.isWellFormed()) throw new PatternError('half of a surrogate pair');
  return new PatternReader(source).read();
}

class PatternReader {
  readonly #source: string;
  #offset = 0;

  constructor(source: string) {
    this.#source = source;
  }

  read(): Pattern {
    const pattern = this.#choice(0);
    if (this.#offset < this.#source.length) throw this.#fault(`"${this.#peek()}" without its beginning`);
    return pattern;
  }

  #choice(depth: number): Pattern {
    if (depth > PATTERN_DEPTH_MAX) throw this.#fault(`groups nested deeper than ${PATTERN_DEPTH_MAX}`);
    const options = [this.#sequence(depth)];
    while (this.#take('|')) options.push(this.#sequence(depth));
    const [only] = options;
    return only !== undefined && options.length === 1 ? only : { kind: 'choice', options };
  }

  #sequence(depth: number): Pattern {
    const parts: Pattern[] = [];
    while (this.#offset < this.#source.length && this.#peek() !== '|' && this.#peek() !== ')') {
      const atom = this.#atom(depth);
      parts.push(atom.kind === 'start' || atom.kind === 'end' ? atom : this.#quantified(atom));
    }
    return { kind: 'sequence', parts };
  }

  #quantified(body: Pattern): Pattern {
    const bounds = this.#bounds();
    if (bounds === undefined) return body;
    this.#take('?');
    const { min, max } = bounds;
    if (max !== undefined && max < min) throw this.#fault(`{${min},${max}} ends before it begins`);
    return { kind: 'repeat', body, min, max };
  }

  #bounds(): { min: number; max: number | undefined } | undefined {
    if (this.#take('*')) return { min: 0, max: undefined };
    if (this.#take('+')) return { min: 1, max: undefined };
    if (this.#take('?')) return { min: 0, max: 1 };
    if (this.#peek() !== '{') return undefined;
    COUNT.lastIndex = this.#offset;
    const match = COUNT.exec(this.#source);
    if (match === null) throw this.#fault('"{" that is no quantifier (a plain one is written "\\{")');
    this.#offset += match[0].length;
    const min = Number(match[1]);
    if (match[2] === undefined) return { min, max: min };
    return { min, max: match[3] === undefined ? undefined : Number(match[3]) };
  }

  #atom(depth: number): Pattern {
    const character = this.#next();
    switch (character) {
      case '^':
        return { kind: 'start' };
      case '$':
        return { kind: 'end' };
      case '.':
        return { kind: 'set', set: ANY_CHARACTER };
      case '[':
        return { kind: 'set', set: this.#class() };
      case '(':
        return this.#group(depth);
      case '\\':
        return { kind: 'set', set: this.#escape(false) };
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        throw this.#fault(`"${character}" out of place (a plain one is written "\\${character}")`);
      default:
        return { kind: 'set', set: charactersOf(character) };
    }
  }

  #group(depth: number): Pattern {
    if (this.#take('?')) {
      if (this.#take('=') || this.#take('!') || this.#take('<=') || this.#take('<!')) {
        throw this.#fault('look-around cannot be enforced');
      }
      if (!this.#take(':')) {
        const name = /<[A-Za-z_$][\w$]*>/y;
        name.lastIndex = this.#offset;
        const match = name.exec(this.#source);
        if (match === null) throw this.#fault('an unknown kind of group');
        this.#offset += match[0].length;
      }
    }
    const body = this.#choice(depth + 1);
    if (!this.#take(')')) throw this.#fault('a group without ")"');
    return body;
  }

  #class(): CodePointSet {
    const isNegated = this.#take('^');
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take(']')) {
      const low = this.#classAtom();
      if (this.#peek() === '-' && this.#source[this.#offset + 1] !== ']') {
        this.#offset++;
        const high = this.#classAtom();
        if (
          low.length !== 1 ||
          high.length !== 1 ||
          low[0]?.[0] !== low[0]?.[1] ||
          high[0]?.[0] !== high[0]?.[1]
        ) {
          throw this.#fault('a range whose ends are not characters');
        }
        const range = [low[0]?.[0] ?? 0, high[0]?.[0] ?? 0] as const;
        if (range[0] > range[1]) throw this.#fault('a range that ends before it begins');
        ranges.push(range);
      } else ranges.push(...low);
    }
    const set = codePointSet(ranges);
    return isNegated ? without(SCALAR_VALUES, set) : without(set, [[0xd800, 0xdfff]]);
  }

  #classAtom(): CodePointSet {
    if (this.#offset >= this.#source.length) throw this.#fault('a class without "]"');
    const character = this.#next();
    return character === '\\' ? this.#escape(true) : charactersOf(character);
  }

  #escape(inClass: boolean): CodePointSet {
    if (this.#offset >= this.#source.length) throw this.#fault('"\\" at the end');
    const character = this.#next();
    const set = CLASS_ESCAPES[character];
    if (set !== undefined) return set;
    if (character === '0' && /\d/.test(this.#peek())) throw this.#fault('an octal escape');
    const control = CONTROL_ESCAPES[character];
    if (control !== undefined) return [[control, control]];
    if (character === 'b' && inClass) return [[8, 8]];
    if (character === 'x') return this.#single(this.#hex(2));
    if (character === 'u') return this.#single(this.#unicode());
    if (character === 'c' && /[A-Za-z]/.test(this.#peek())) {
      return this.#single((this.#next().codePointAt(0) ?? 0) % 32);
    }
    if (/[A-Za-z0-9]/.test(character)) throw this.#fault(`"\\${character}" cannot be enforced`);
    return charactersOf(character);
  }

  #unicode(): number {
    if (this.#take('{')) {
      const end = this.#source.indexOf('}', this.#offset);
      const digits = this.#source.slice(this.#offset, end);
      if (end === -1 || !/^[0-9a-fA-F]{1,6}$/.test(digits)) throw this.#fault('a malformed "\\u{…}"');
      this.#offset = end + 1;
      return Number.parseInt(digits, 16);
    }
    const unit = this.#hex(4);
    const second = /\\u([dD][c-fC-F][0-9a-fA-F]{2})/y;
    second.lastIndex = this.#offset;
    const match = unit >= 0xd800 && unit <= 0xdbff ? second.exec(this.#source) : null;
    if (match === null) return unit;
    this.#offset += match[0].length;
    return 0x1_0000 + ((unit - 0xd800) << 10) + (Number.parseInt(match[1] ?? '', 16) - 0xdc00);
  }

  #single(codePoint: number): CodePointSet {
    if (codePoint > 0x10_ffff) throw this.#fault('an escape beyond U+10FFFF');
    if (codePoint >= 0xd800 && codePoint <= 0xdfff) throw this.#fault('half of a surrogate pair');
    return [[codePoint, codePoint]];
  }

  #hex(length: number): number {
    const digits = this.#source.slice(this.#offset, this.#offset + length);
    if (digits.length < length || !/^[0-9a-fA-F]+$/.test(digits)) throw this.#fault('a malformed escape');
    this.#offset += length;
    return Number.parseInt(digits, 16);
  }

  /** A whole code point, or nothing at the end. */
  #peek(): string {
    const codePoint = this.#source.codePointAt(this.#offset);
    return codePoint === undefined ? '' : String.fromCodePoint(codePoint);
  }

  #next(): string {
    const character = this.#peek();
    this.#offset += character.length;
    return character;
  }

  #take(expected: string): boolean {
    if (!this.#source.startsWith(expected, this.#offset)) return false;
    this.#offset += expected.length;
    return true;
  }

  #fault(what: string): PatternError {
    return new PatternError(`${what}, before character ${this.#offset + 1}`);
  }
}
