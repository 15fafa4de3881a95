import type { ErrorCode } from './error-table.ts';
import { FreeholdError } from './errors.ts';

export interface StrictJsonOptions {
  /** What is read, for messages: a file name, "signature payload". */
  readonly label: string;
  /** Every refusal carries this code. */
  readonly code: ErrorCode;
  readonly bytesMax: number;
  /** Containers inside each other; `[]` alone has depth 1. */
  readonly depthMax: number;
  /** Names in one object; default: as many as the bytes hold. */
  readonly namesMax?: number;
}

/**
 * Reads one JSON text (RFC 8259) of which no two readers can make different things. On top of the grammar it refuses:
 * invalid UTF-8 and a byte order mark; a name that an object has twice (RFC 8259 §4: readers keep the first or the
 * last); the name `__proto__`; half of a surrogate pair (§8.2); numbers that a double cannot hold (integers beyond
 * ±(2⁵³−1), overflow to infinity: §6); and whatever exceeds the limits. Allocates only in proportion to its input.
 * @throws the code of the options, with label and character offset
 */
export function parseStrictJson(bytes: Uint8Array, options: StrictJsonOptions): unknown {
  const { label, code, bytesMax } = options;
  if (bytes.byteLength > bytesMax) {
    throw new FreeholdError(code, `${label}: ${bytes.byteLength} bytes, at most ${bytesMax} are read`);
  }
  const text = decodeUtf8(bytes, options);
  requireUnambiguous(text, options);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FreeholdError(code, `${label}: not JSON`, { cause: error });
  }
}

function decodeUtf8(bytes: Uint8Array, { label, code }: StrictJsonOptions): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new FreeholdError(code, `${label}: not valid UTF-8`, { cause: error });
  }
  if (text.startsWith('\uFEFF')) throw new FreeholdError(code, `${label}: begins with a byte order mark`);
  return text;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const MINUS = 0x2d;
const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;
const OPENING_BRACKET = 0x5b;
const CLOSING_BRACKET = 0x5d;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/**
 * Looks at the tokens only. It needs to be right for well-formed JSON alone: `JSON.parse` refuses everything else
 * afterwards, and in a well-formed text a string is a name exactly when a colon follows it.
 */
function requireUnambiguous(text: string, options: StrictJsonOptions): void {
  const { label, code, depthMax, namesMax = Number.POSITIVE_INFINITY } = options;
  const refuse = (what: string, offset: number) =>
    new FreeholdError(code, `${label}: ${what} at character ${offset}`);
  /** One entry per open container: the names so far of an object, undefined for an array. */
  const open: (Set<string> | undefined)[] = [];
  let offset = 0;
  while (offset < text.length) {
    const unit = text.charCodeAt(offset);
    if (unit === QUOTE) {
      const end = endOfString(text, offset);
      if (end === -1) throw refuse('string without end', offset);
      const value = stringValue(text, offset, end);
      if (value === undefined) throw refuse('malformed string', offset);
      if (!value.isWellFormed()) throw refuse('half of a surrogate pair in a string', offset);
      const next = afterBlanks(text, end);
      if (text.charCodeAt(next) === COLON) {
        const names = open.at(-1);
        if (value === '__proto__') throw refuse('name "__proto__"', offset);
        if (names?.has(value))
          throw refuse(`name ${text.slice(offset, Math.min(end, offset + 80))} a second time`, offset);
        names?.add(value);
        if (names !== undefined && names.size > namesMax) {
          throw refuse(`an object with more than ${namesMax} names`, offset);
        }
      }
      offset = next;
    } else if (unit === OPENING_BRACE || unit === OPENING_BRACKET) {
      open.push(unit === OPENING_BRACE ? new Set() : undefined);
      if (open.length > depthMax) throw refuse(`nested deeper than ${depthMax}`, offset);
      offset++;
    } else if (unit === CLOSING_BRACE || unit === CLOSING_BRACKET) {
      open.pop();
      offset++;
    } else if (unit === MINUS || isDigit(unit)) {
      NUMBER.lastIndex = offset;
      const number = NUMBER.exec(text)?.[0];
      if (number === undefined) throw refuse('malformed number', offset);
      if (!isExactEnough(Number(number))) throw refuse('number that a double cannot hold', offset);
      offset += number.length;
    } else {
      offset++;
    }
  }
}

const isDigit = (unit: number) => unit >= 0x30 && unit <= 0x39;

/** Fractions are rounded everywhere alike; an integer that is rounded has become another one. */
function isExactEnough(value: number): boolean {
  return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value));
}

/** Offset behind the closing quote, or −1. */
function endOfString(text: string, start: number): number {
  let quote = text.indexOf('"', start + 1);
  while (quote !== -1) {
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
    quote = text.indexOf('"', quote + 1);
  }
  return -1;
}

/** Undefined when the escapes are malformed. */
function stringValue(text: string, start: number, end: number): string | undefined {
  const inner = text.slice(start + 1, end - 1);
  if (!inner.includes('\\')) return inner;
  try {
    return String(JSON.parse(text.slice(start, end)));
  } catch {
    return undefined;
  }
}

function afterBlanks(text: string, start: number): number {
  let offset = start;
  while (' \t\r\n'.includes(text.charAt(offset)) && offset < text.length) offset++;
  return offset;
}
