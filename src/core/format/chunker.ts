import { createHash } from 'node:crypto';

/** No chunk but the last of a blob is shorter: bounds how many entries a map can have. */
export const CHUNK_BYTES_MIN = 16 * 1024;
/**
 * Where the boundary becomes likelier. A map takes 36 bytes for each chunk, 0.05 % of the weights; a changed byte costs
 * about one chunk.
 */
export const CHUNK_BYTES_AVERAGE = 64 * 1024;
/** What is held in memory for one chunk. */
export const CHUNK_BYTES_MAX = 256 * 1024;

// Normalised chunking of FastCDC (Xia et al., USENIX ATC 2016, section 3.4), level 2: 18 bits must be zero before the
// average length and 14 behind it. The high bits of a gear hash depend on the most bytes.
const MASK_BEFORE_AVERAGE = 0xffffc000 | 0;
const MASK_AFTER_AVERAGE = 0xfffc0000 | 0;

/** What the numbers of the table are made from; another text would be another chunker, whose maps fit no others. */
const TABLE_SEED = 'freehold chunker 1';

/**
 * The numbers of the gear hash: for each value of a byte, the first four bytes (little-endian) of SHA-256 over the seed
 * and that byte. Nothing is chosen.
 */
export function gearTable(): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) =>
    createHash('sha256').update(TABLE_SEED).update(Uint8Array.of(byte)).digest().readInt32LE(0),
  );
}

/**
 * Finds the boundaries of content-defined chunks in bytes that come in pieces. A boundary depends on the 32 bytes before
 * it and on where its chunk began, so that it is found again after bytes were put in or taken out before it.
 */
export class ChunkBoundaries {
  readonly #table = gearTable();
  /** Of the chunk that is open. */
  #length = 0;
  #hash = 0;

  /**
   * Looks at `bytes` from `start` on.
   * @returns the offset at which the open chunk ends (call again from there), or −1 when it goes on behind these bytes
   */
  next(bytes: Uint8Array, start: number): number {
    const skipped = Math.min(Math.max(0, CHUNK_BYTES_MIN - this.#length), bytes.length - start);
    // Of the bytes before the smallest length only their number matters: a fourth of all is never hashed.
    let position = this.#scan(bytes, start + skipped, this.#length + skipped, true);
    if (position >= 0) return position;
    position = ~position;
    position = this.#scan(bytes, position, this.#length, false);
    return position >= 0 ? position : -1;
  }

  /**
   * Hashes up to the average length, or from there to the greatest.
   * @param length of the open chunk up to `start`
   * @returns where the chunk ends, or the complement of where the next scan must go on
   */
  #scan(bytes: Uint8Array, start: number, length: number, isBeforeAverage: boolean): number {
    const table = this.#table;
    const mask = isBeforeAverage ? MASK_BEFORE_AVERAGE : MASK_AFTER_AVERAGE;
    const limit = isBeforeAverage ? CHUNK_BYTES_AVERAGE : CHUNK_BYTES_MAX;
    const end = Math.min(bytes.length, start + Math.max(0, limit - length));
    let hash = this.#hash;
    let position = start;
    while (position < end) {
      // Both indices are inside: `end` is at most the length, and a byte is below 256.
      hash = ((hash << 1) + (table[bytes[position] as number] as number)) | 0;
      position++;
      if ((hash & mask) === 0) return this.#close(position);
    }
    const reached = length + position - start;
    if (reached >= CHUNK_BYTES_MAX) return this.#close(position);
    this.#hash = hash;
    this.#length = reached;
    return ~position;
  }

  #close(position: number): number {
    this.#length = 0;
    this.#hash = 0;
    return position;
  }
}
