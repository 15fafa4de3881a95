import { FreeholdError } from './errors.ts';

/** Random access to bytes of known length: a file, a blob, memory. Readers of formats take this, never a path. */
export interface ByteSource {
  readonly sizeBytes: number;
  /**
   * Reads exactly `length` bytes at `offset`.
   * @param into memory that may be used for them, of at least that length: whoever reads much reads into the same again
   * @throws RangeError when the range is not inside the source
   */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>;
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

/** One read of the disk; more gains nothing beside hashing and sending. */
const PIECE_BYTES = 1 << 20;

/**
 * The bytes from `startBytes` up to, not including, `endBytes`, front to back: while one piece is used, the next is read.
 * A piece is valid until the next one is asked for.
 * @throws what the source throws; the signal's reason
 */
export async function* streamBytes(
  source: ByteSource,
  startBytes: number,
  endBytes: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const pieceBytes = Math.min(PIECE_BYTES, endBytes - startBytes);
  if (pieceBytes <= 0) return;
  let [used, spare] = [new Uint8Array(pieceBytes), new Uint8Array(pieceBytes)];
  const readAt = (offset: number, into: Uint8Array) => {
    const reading = source.read(offset, Math.min(pieceBytes, endBytes - offset), into);
    // A failure is thrown when it is this piece's turn; without this it would count as unhandled until then.
    reading.catch(() => {});
    return reading;
  };
  let reading = readAt(startBytes, used);
  try {
    for (let offset = startBytes; offset < endBytes; offset += pieceBytes) {
      signal.throwIfAborted();
      const piece = await reading;
      if (offset + pieceBytes < endBytes) reading = readAt(offset + pieceBytes, spare);
      yield piece;
      [used, spare] = [spare, used];
    }
  } finally {
    // Who closes the source next must not close it under a read.
    await reading.catch(() => {});
  }
}
