import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { CODE_POINT_MAX, type CodePointRange, codePointSet } from './code-points.ts';
import { GRAMMAR_CHARACTERS_MAX, NATIVE_REPETITIONS_MAX } from './grammar-limits.ts';

/** An expression as it is written, and at which offset. */
export type GbnfNode = { readonly offset: number } & (
  | { readonly kind: 'text'; readonly characters: readonly number[] }
  | { readonly kind: 'class'; readonly isNegated: boolean; readonly ranges: readonly CodePointRange[] }
  | { readonly kind: 'rule'; readonly name: string }
  | { readonly kind: 'sequence'; readonly parts: readonly GbnfNode[] }
  | { readonly kind: 'choice'; readonly options: readonly GbnfNode[] }
  | {
      readonly kind: 'repeat';
      readonly body: GbnfNode;
      readonly min: number;
      readonly max: number | undefined;
    }
);

export interface GbnfRule {
  readonly name: string;
  readonly offset: number;
  readonly body: GbnfNode;
}

/** In the order in which they are written. */
export type GbnfRules = ReadonlyMap<string, GbnfRule>;

/** Brackets inside each other: llama.cpp's parser recurses. */
const NESTING_MAX = 100;

const BLANK = /[ \t]|#[^\r\n]*/y;
const BLANK_LINE = /[ \t\r\n]|#[^\r\n]*/y;
const NAME = /[A-Za-z0-9-]+/y;
const COUNT = /\d{1,9}/y;
const ESCAPES: Readonly<Record<string, number>> = {
  t: 9,
  n: 10,
  r: 13,
  '\\': 0x5c,
  '"': 0x22,
  '[': 0x5b,
  ']': 0x5d,
};
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/** @throws GRAMMAR_INVALID with line and column */
export function parseGbnf(source: string): GbnfRules {
  if (source.length > GRAMMAR_CHARACTERS_MAX) {
    const message = `${source.length} characters, at most ${GRAMMAR_CHARACTERS_MAX} are read`;
    throw new FreeholdError('GRAMMAR_INVALID', `the grammar has ${message}`);
  }
  return new GbnfParser(source).rules();
}

/** @param offset in the source, in UTF-16 units */
export function grammarFault(source: string, offset: number, what: string): FreeholdError {
  const before = source.slice(0, offset).split(/\r\n|\r|\n/);
  const line = before.length;
  const column = Array.from(before.at(-1) ?? '').length + 1;
  return new FreeholdError('GRAMMAR_INVALID', `line ${line} column ${column}: ${what}`, {
    detail: { line, column },
  });
}

class GbnfParser {
  readonly #source: string;
  #offset = 0;

  constructor(source: string) {
    this.#source = source;
  }

  rules(): GbnfRules {
    const rules = new Map<string, GbnfRule>();
    const odd = /\0|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.exec(
      this.#source,
    );
    if (odd !== null) throw this.#fault('a character that no text can have', odd.index);
    this.#skip(BLANK_LINE);
    while (this.#offset < this.#source.length) {
      const rule = this.#rule();
      // llama.cpp would take the last one.
      if (rules.has(rule.name)) throw this.#fault(`the rule ${quoted(rule.name)} a second time`, rule.offset);
      rules.set(rule.name, rule);
    }
    return rules;
  }

  #rule(): GbnfRule {
    const offset = this.#offset;
    const name = this.#match(NAME);
    if (name === undefined) throw this.#fault('expected the name of a rule (letters, digits, "-")');
    this.#skip(BLANK);
    if (!this.#take('::=')) throw this.#fault('expected "::="');
    this.#skip(BLANK_LINE);
    const body = this.#choice(0);
    if (this.#offset < this.#source.length && !/[\r\n]/.test(this.#peek())) {
      throw this.#fault(`${quoted(this.#peek())} out of place`);
    }
    this.#skip(BLANK_LINE);
    return { name, offset, body };
  }

  /** Inside brackets (`depth` above 0) a line may end anywhere, outside only after "|". */
  #choice(depth: number): GbnfNode {
    if (depth > NESTING_MAX) throw this.#fault(`brackets nested deeper than ${NESTING_MAX}`);
    const { offset } = this.#here();
    const options = [this.#sequence(depth)];
    while (this.#take('|')) {
      this.#skip(BLANK_LINE);
      options.push(this.#sequence(depth));
    }
    const [only] = options;
    return only !== undefined && options.length === 1 ? only : { kind: 'choice', options, offset };
  }

  #sequence(depth: number): GbnfNode {
    const { offset } = this.#here();
    const blank = depth > 0 ? BLANK_LINE : BLANK;
    const parts: GbnfNode[] = [];
    for (;;) {
      const node = this.#item(depth);
      if (node === undefined) return { kind: 'sequence', parts, offset };
      this.#skip(blank);
      parts.push(this.#repeated(node, blank));
    }
  }

  #item(depth: number): GbnfNode | undefined {
    const { offset } = this.#here();
    if (this.#take('"')) return { kind: 'text', characters: this.#literal(offset), offset };
    if (this.#take('[')) return { kind: 'class', ...this.#class(offset), offset };
    if (this.#take('.')) return { kind: 'class', isNegated: false, ranges: [[0, CODE_POINT_MAX]], offset };
    if (this.#take('(')) {
      this.#skip(BLANK_LINE);
      const body = this.#choice(depth + 1);
      if (!this.#take(')')) throw this.#fault('expected ")"');
      return body;
    }
    if (this.#peek() === '<' || this.#peek() === '!') {
      throw this.#fault('tokens cannot be named: what they stand for differs from model to model');
    }
    const name = this.#match(NAME);
    return name === undefined ? undefined : { kind: 'rule', name, offset };
  }

  #repeated(node: GbnfNode, blank: RegExp): GbnfNode {
    let body = node;
    for (let depth = 0; ; depth++) {
      const { offset } = this.#here();
      const bounds = this.#bounds(blank);
      if (bounds === undefined) return body;
      if (depth >= NESTING_MAX)
        throw this.#fault(`more than ${NESTING_MAX} repetitions of repetitions`, offset);
      this.#skip(blank);
      body = { kind: 'repeat', body, ...bounds, offset };
    }
  }

  #bounds(blank: RegExp): { min: number; max: number | undefined } | undefined {
    if (this.#take('*')) return { min: 0, max: undefined };
    if (this.#take('+')) return { min: 1, max: undefined };
    if (this.#take('?')) return { min: 0, max: 1 };
    if (!this.#take('{')) return undefined;
    const min = this.#count(blank);
    if (min === undefined) throw this.#fault('expected a number of repetitions');
    if (this.#take('}')) return { min, max: min };
    if (!this.#take(',')) throw this.#fault('expected "," or "}"');
    this.#skip(blank);
    const max = this.#count(blank);
    if (!this.#take('}')) throw this.#fault('expected "}"');
    // llama.cpp counts the difference without sign, and takes all memory.
    if (max !== undefined && max < min) throw this.#fault(`{${min},${max}} ends before it begins`);
    return { min, max };
  }

  #count(blank: RegExp): number | undefined {
    this.#skip(blank);
    const { offset } = this.#here();
    const count = this.#match(COUNT);
    this.#skip(blank);
    if (count !== undefined && Number(count) > NATIVE_REPETITIONS_MAX) {
      throw this.#fault(`${count} repetitions, at most ${NATIVE_REPETITIONS_MAX} are possible`, offset);
    }
    return count === undefined ? undefined : Number(count);
  }

  #literal(start: number): number[] {
    const characters: number[] = [];
    while (!this.#take('"')) characters.push(this.#character(start, '"'));
    return characters;
  }

  #class(start: number): { isNegated: boolean; ranges: CodePointRange[] } {
    const isNegated = this.#take('^');
    const ranges: CodePointRange[] = [];
    while (!this.#take(']')) {
      const { offset } = this.#here();
      const low = this.#character(start, ']');
      const isRange = this.#peek() === '-' && this.#source[this.#offset + 1] !== ']';
      if (isRange) this.#offset++;
      const high = isRange ? this.#character(start, ']') : low;
      if (high < low) throw this.#fault('a range that ends before it begins', offset);
      ranges.push([low, high]);
    }
    if (codePointSet(ranges).length === 0) throw this.#fault('a class without characters', start);
    return { isNegated, ranges };
  }

  #character(start: number, end: string): number {
    if (this.#offset >= this.#source.length) throw this.#fault(`expected ${end} for what begins here`, start);
    const { offset } = this.#here();
    const codePoint = this.#source.codePointAt(this.#offset) ?? 0;
    this.#offset += codePoint > 0xffff ? 2 : 1;
    if (codePoint !== 0x5c) return codePoint;
    const letter = this.#source.charAt(this.#offset++);
    const plain = Object.hasOwn(ESCAPES, letter) ? ESCAPES[letter] : undefined;
    if (plain !== undefined) return plain;
    const length = Object.hasOwn(HEX_DIGITS, letter) ? (HEX_DIGITS[letter] ?? 0) : 0;
    const digits = this.#source.slice(this.#offset, this.#offset + length);
    if (length === 0 || digits.length < length || !/^[0-9a-fA-F]+$/.test(digits)) {
      throw this.#fault('an unknown escape: \\\\ \\" \\[ \\] \\t \\r \\n \\xHH \\uHHHH \\UHHHHHHHH', offset);
    }
    this.#offset += length;
    const value = Number.parseInt(digits, 16);
    // A range may begin at zero, but zero ends a text for llama.cpp.
    if (value > CODE_POINT_MAX || (value === 0 && end === '"')) {
      throw this.#fault('a character that no text can have', offset);
    }
    return value;
  }

  #skip(blank: RegExp): void {
    while (this.#match(blank) !== undefined);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#offset;
    const text = pattern.exec(this.#source)?.[0];
    this.#offset += text?.length ?? 0;
    return text;
  }

  #take(expected: string): boolean {
    if (!this.#source.startsWith(expected, this.#offset)) return false;
    this.#offset += expected.length;
    return true;
  }

  #peek(): string {
    return this.#source.charAt(this.#offset);
  }

  #here(): { offset: number } {
    return { offset: this.#offset };
  }

  #fault(what: string, offset = this.#offset): FreeholdError {
    return grammarFault(this.#source, offset, what);
  }
}
