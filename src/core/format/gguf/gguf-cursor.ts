import type { ByteSource } from '../../base/byte-source.ts';
import { FreeholdError } from '../../base/errors.ts';
import { HEADER_BYTES_MAX, WINDOW_BYTES } from './gguf-limits.ts';

/** Both words of an unsigned 64-bit number below 2⁵³ fit: the upper one then has 21 bits. */
const HIGH_WORD_MAX = 0x1f_ffff;

/**
 * Reads a header from front to back through one window. `require` first, then the synchronous readers: so a
 * vocabulary is walked without a promise per token.
 */
export class GgufCursor {
  readonly name: string;
  readonly sizeBytes: number;
  /** From the beginning of the file. */
  position = 0;
  readonly #source: ByteSource;
  #window: DataView = new DataView(new ArrayBuffer(0));
  #windowStart = 0;

  constructor(source: ByteSource, name: string) {
    this.#source = source;
    this.name = name;
    this.sizeBytes = source.sizeBytes;
  }

  get remainingBytes(): number {
    return this.sizeBytes - this.position;
  }

  /** The next `length` bytes can be read without `require`. */
  has(length: number): boolean {
    const start = this.position - this.#windowStart;
    return start >= 0 && start + length <= this.#window.byteLength;
  }

  /**
   * Makes the next `length` bytes (at most a window) readable.
   * @throws GGUF_INVALID when the file ends before, GGUF_LIMIT when the header would be too large
   */
  async require(length: number, what: string): Promise<void> {
    if (this.has(length)) return;
    this.#requireInside(length, what);
    const bytes = await this.#source.read(this.position, Math.min(WINDOW_BYTES, this.remainingBytes));
    this.#window = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#windowStart = this.position;
  }

  /** A copy of any number of bytes: a view would keep its whole window alive. @throws like `require` */
  async bytes(length: number, what: string): Promise<Uint8Array> {
    if (length > WINDOW_BYTES) {
      this.#requireInside(length, what);
      const bytes = await this.#source.read(this.position, length);
      this.position += length;
      return bytes;
    }
    await this.require(length, what);
    const start = this.#window.byteOffset + this.position - this.#windowStart;
    this.position += length;
    return new Uint8Array(this.#window.buffer, start, length).slice();
  }

  /** Moves on without reading. @throws like `require` */
  skip(length: number, what: string): void {
    this.#requireInside(length, what);
    this.position += length;
  }

  uint32(): number {
    const value = this.#window.getUint32(this.position - this.#windowStart, true);
    this.position += 4;
    return value;
  }

  /** An unsigned 64-bit count, length or offset. @throws GGUF_INVALID from 2⁵³ on: no file is that long */
  size(what: string): number {
    const at = this.position - this.#windowStart;
    const low = this.#window.getUint32(at, true);
    const high = this.#window.getUint32(at + 4, true);
    if (high > HIGH_WORD_MAX) {
      const value = (BigInt(high) << 32n) | BigInt(low);
      throw this.invalid(`${what} is ${value}, in a file of ${this.sizeBytes} bytes`);
    }
    this.position += 8;
    return high * 2 ** 32 + low;
  }

  uint64(): bigint {
    const value = this.#window.getBigUint64(this.position - this.#windowStart, true);
    this.position += 8;
    return value;
  }

  invalid(message: string, offset = this.position): FreeholdError {
    return new FreeholdError('GGUF_INVALID', `${this.name}: ${message} (at byte ${offset})`, {
      detail: { file: this.name, offset },
    });
  }

  limit(message: string, limit: number, offset = this.position): FreeholdError {
    return new FreeholdError('GGUF_LIMIT', `${this.name}: ${message} (at byte ${offset})`, {
      detail: { file: this.name, offset, limit },
    });
  }

  /** Stops reads behind the file, and allocations that only a header claims (CVE-2024-23496, llama.cpp issue 19003). */
  #requireInside(length: number, what: string): void {
    if (length > this.remainingBytes) {
      throw this.invalid(`${what} needs ${length} bytes, ${this.remainingBytes} are left`);
    }
    if (this.position + length > HEADER_BYTES_MAX) {
      throw this.limit(`the header is larger than ${HEADER_BYTES_MAX} bytes`, HEADER_BYTES_MAX);
    }
  }
}
