import { FreeholdError } from './errors.ts';

/** Random access to bytes of known length: a file, a blob, memory. Readers of formats take this, never a path. */
export interface ByteSource {
  readonly sizeBytes: number;
  /**
   * Reads exactly `length` bytes at `offset`.
   * @throws RangeError when the range is not inside the source
   */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** A ByteSource over bytes in memory; the views it returns share that memory. */
export function memoryByteSource(bytes: Uint8Array): ByteSource {
  return {
    sizeBytes: bytes.byteLength,
    async read(offset, length) {
      requireRange(offset, length, bytes.byteLength);
      return bytes.subarray(offset, offset + length);
    },
  };
}

/** @throws RangeError unless 0 ≤ offset, 0 ≤ length and offset + length ≤ sizeBytes, all safe integers */
export function requireRange(offset: number, length: number, sizeBytes: number): void {
  if (
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    offset < 0 ||
    length < 0 ||
    offset > sizeBytes - length
  ) {
    throw new RangeError(`read of ${length} bytes at ${offset} is outside of ${sizeBytes} bytes`);
  }
}

/**
 * Collects a byte stream into memory under a stated cap.
 * @throws SIZE_MISMATCH when the stream is longer than `bytesMax`
 */
export async function collectBytes(stream: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of stream) {
    total += part.byteLength;
    if (total > bytesMax) {
      throw new FreeholdError('SIZE_MISMATCH', `more than the allowed ${bytesMax} bytes`);
    }
    // A copy: the stream may use its memory again.
    parts.push(Uint8Array.from(part));
  }
  return Buffer.concat(parts);
}
