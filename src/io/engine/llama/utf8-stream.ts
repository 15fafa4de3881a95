/**
 * Turns bytes that arrive in pieces into text of whole characters. A character's first bytes are held back until the
 * rest is there; bytes that can never become a character turn into U+FFFD as the WHATWG decoder does it.
 */
export class Utf8Stream {
  // `ignoreBOM`: a byte order mark that a model writes is text like any other.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  /** The last three bytes: no unfinished character is longer. */
  #tail: readonly number[] = [];

  /** The characters that became complete. */
  push(bytes: Uint8Array): string {
    this.#tail = [...this.#tail, ...bytes.subarray(-3)].slice(-3);
    return this.#decoder.decode(bytes, { stream: true });
  }

  /** A character has begun and is not complete. */
  get isHolding(): boolean {
    return [1, 2, 3].some((length) => isUnfinishedCharacter(this.#tail.slice(-length)));
  }

  /** The end: half a character becomes one U+FFFD. */
  finish(): string {
    this.#tail = [];
    return this.#decoder.decode();
  }
}

/** A lead byte with too few continuation bytes, all of them possible (Unicode 16, table 3-7). */
function isUnfinishedCharacter(bytes: readonly number[]): boolean {
  const [lead, second, third] = bytes;
  if (lead === undefined || lead < 0xc2 || lead > 0xf4) return false;
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (bytes.length >= length) return false;
  if (second === undefined) return true;
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  return second >= low && second <= high && (third === undefined || (third & 0xc0) === 0x80);
}
