import type { FileHandle } from 'node:fs/promises';
import { type ByteSource, requireRange } from '../../core/base/byte-source.ts';
import { FreeholdError } from '../../core/base/errors.ts';

/**
 * Reads exactly `length` bytes at `offset`: one call of the system may give fewer.
 * @param name of the file, for messages
 * @param into where to; absent: new memory
 * @throws SIZE_MISMATCH when the file ends before, a system error
 */
export async function readExactly(
  handle: FileHandle,
  offset: number,
  length: number,
  name: string,
  into?: Uint8Array,
): Promise<Buffer> {
  const bytes =
    into === undefined ? Buffer.allocUnsafe(length) : Buffer.from(into.buffer, into.byteOffset, length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) {
      throw new FreeholdError('SIZE_MISMATCH', `${name} ends at byte ${offset + done} while being read`, {
        detail: { file: name },
      });
    }
    done += bytesRead;
  }
  return bytes;
}

/** An open file as a ByteSource, as long as it is now. The handle stays the caller's to close. */
export async function fileByteSource(handle: FileHandle, name: string): Promise<ByteSource> {
  const { size: sizeBytes } = await handle.stat();
  return {
    sizeBytes,
    async read(offset, length, into) {
      requireRange(offset, length, sizeBytes);
      return readExactly(handle, offset, length, name, into);
    },
  };
}
