import { FreeholdError } from '../../base/errors.ts';
import {
  type GgufBigintKind,
  type GgufNumberKind,
  type GgufScalarKind,
  KIND_BYTES,
  NUMBER_CODECS,
} from './gguf-types.ts';

/** Every how many strings the index remembers a place: 4 bytes for 64, at the price of a short walk. */
export const STRINGS_PER_MARK = 16;

/**
 * An array of a GGUF header, kept as the bytes that stand in the file: a vocabulary of 262,000 tokens is one
 * buffer and a sparse index instead of 262,000 strings. Elements are decoded when they are asked for.
 */
export class GgufArray {
  readonly elementKind: GgufScalarKind;
  readonly length: number;
  /** The elements as the file has them, without type and count. */
  readonly encoded: Uint8Array;
  readonly #view: DataView;
  readonly #marks: Uint32Array;

  /**
   * @param marks offset within `encoded` of every `STRINGS_PER_MARK`-th string; empty for other kinds
   */
  constructor(elementKind: GgufScalarKind, length: number, encoded: Uint8Array, marks: Uint32Array) {
    this.elementKind = elementKind;
    this.length = length;
    this.encoded = encoded;
    this.#view = new DataView(encoded.buffer, encoded.byteOffset, encoded.byteLength);
    this.#marks = marks;
  }

  /** @throws GGUF_INVALID for strings and 64-bit integers; RangeError outside of the array */
  numberAt(index: number): number {
    const kind = this.elementKind;
    if (kind === 'string' || kind === 'uint64' || kind === 'int64' || kind === 'bool')
      throw this.#wrongKind('numbers');
    return NUMBER_CODECS[kind].read(this.#view, index * KIND_BYTES[kind]);
  }

  /** @throws GGUF_INVALID unless the elements are 64-bit integers; RangeError outside of the array */
  bigintAt(index: number): bigint {
    if (this.elementKind === 'uint64') return this.#view.getBigUint64(index * 8, true);
    if (this.elementKind === 'int64') return this.#view.getBigInt64(index * 8, true);
    throw this.#wrongKind('64-bit integers');
  }

  /** @throws GGUF_INVALID unless the elements are booleans; RangeError outside of the array */
  booleanAt(index: number): boolean {
    if (this.elementKind !== 'bool') throw this.#wrongKind('booleans');
    return this.#view.getUint8(index) !== 0;
  }

  /** The bytes of one string: tokens need not be UTF-8. @throws GGUF_INVALID unless the elements are strings; RangeError outside of the array */
  bytesAt(index: number): Uint8Array {
    const [start, length] = this.#stringAt(index);
    return this.encoded.subarray(start, start + length);
  }

  /** One string, with U+FFFD for bytes that are not UTF-8. @throws like `bytesAt` */
  stringAt(index: number): string {
    return Buffer.from(this.bytesAt(index)).toString('utf8');
  }

  /** All strings in order, without the walk that each `bytesAt` does. @throws GGUF_INVALID unless the elements are strings */
  *strings(): Generator<Uint8Array> {
    if (this.elementKind !== 'string') throw this.#wrongKind('strings');
    let offset = 0;
    for (let index = 0; index < this.length; index++) {
      const length = this.#stringLength(offset);
      yield this.encoded.subarray(offset + 8, offset + 8 + length);
      offset += 8 + length;
    }
  }

  #stringAt(index: number): [start: number, length: number] {
    if (this.elementKind !== 'string') throw this.#wrongKind('strings');
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new RangeError(`no element ${index} in an array of ${this.length}`);
    }
    let offset = this.#marks[Math.floor(index / STRINGS_PER_MARK)] ?? 0;
    for (let skip = index % STRINGS_PER_MARK; skip > 0; skip--) offset += 8 + this.#stringLength(offset);
    return [offset + 8, this.#stringLength(offset)];
  }

  /** Checked again at each use: the source may have changed between the walk over the header and the read. */
  #stringLength(offset: number): number {
    if (offset + 8 <= this.encoded.byteLength) {
      const length = this.#view.getUint32(offset, true);
      if (this.#view.getUint32(offset + 4, true) === 0 && length <= this.encoded.byteLength - offset - 8)
        return length;
    }
    throw new FreeholdError('GGUF_INVALID', 'a string array changed while it was read');
  }

  #wrongKind(wanted: string): FreeholdError {
    return new FreeholdError('GGUF_INVALID', `an array of ${this.elementKind} where ${wanted} are needed`);
  }
}

/** An array of strings, for writers. */
export function ggufStrings(strings: readonly (string | Uint8Array)[]): GgufArray {
  const parts: Uint8Array[] = [];
  const marks: number[] = [];
  let offset = 0;
  for (const [index, text] of strings.entries()) {
    if (index % STRINGS_PER_MARK === 0) marks.push(offset);
    const bytes = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
    const length = Buffer.alloc(8);
    length.writeUInt32LE(bytes.byteLength, 0);
    parts.push(length, bytes);
    offset += 8 + bytes.byteLength;
  }
  return new GgufArray('string', strings.length, Buffer.concat(parts), Uint32Array.from(marks));
}

/** An array of numbers, for writers. */
export function ggufNumbers(kind: GgufNumberKind, numbers: ArrayLike<number>): GgufArray {
  const encoded = new Uint8Array(numbers.length * KIND_BYTES[kind]);
  const view = new DataView(encoded.buffer);
  for (let index = 0; index < numbers.length; index++) {
    NUMBER_CODECS[kind].write(view, index * KIND_BYTES[kind], numbers[index] ?? 0);
  }
  return new GgufArray(kind, numbers.length, encoded, new Uint32Array());
}

/** An array of 64-bit integers, for writers. */
export function ggufBigints(kind: GgufBigintKind, integers: readonly bigint[]): GgufArray {
  const encoded = new Uint8Array(integers.length * 8);
  const view = new DataView(encoded.buffer);
  for (const [index, integer] of integers.entries()) {
    view.setBigUint64(index * 8, BigInt.asUintN(64, integer), true);
  }
  return new GgufArray(kind, integers.length, encoded, new Uint32Array());
}

/** An array of booleans, for writers. */
export function ggufBooleans(booleans: readonly boolean[]): GgufArray {
  return new GgufArray('bool', booleans.length, Uint8Array.from(booleans, Number), new Uint32Array());
}
