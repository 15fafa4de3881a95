import { read } from 'node:fs';
import { promisify } from 'node:util';
import { type ByteSource, requireRange } from '../../../core/base/byte-source.ts';
import type { VerifiedFile, WeightsFile } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import type { GgufDescription } from '../../../core/format/gguf/gguf-description.ts';
import { readGguf } from '../../../core/format/gguf/gguf-reader.ts';
import type { GgufFile } from '../../../core/format/gguf/gguf-types.ts';
import { verifyModelGguf } from '../../../core/format/gguf/gguf-verification.ts';

const readDescriptor = promisify(read);

/** The weights of one model, open, hashed, and with a header that native code may see. */
export interface OpenWeights {
  readonly description: GgufDescription;
  readonly descriptors: readonly number[];
  /** @throws DIGEST_MISMATCH naming the file */
  requireUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens all shards and reads their headers through the very descriptors that the child gets.
 * @throws NOT_FOUND, DIGEST_MISMATCH, SIZE_MISMATCH, GGUF_INVALID, GGUF_LIMIT, each naming the file; CANCELLED
 */
export async function openWeights(
  weights: readonly WeightsFile[],
  signal?: AbortSignal,
): Promise<OpenWeights> {
  if (weights.length === 0) throw new FreeholdError('ENGINE_FAILED', 'the model has no weights');
  const files: VerifiedFile[] = [];
  const close = async (): Promise<void> => {
    await Promise.allSettled(files.map((file) => file.close()));
  };
  try {
    const headers: GgufFile[] = [];
    for (const shard of weights) {
      const file = await shard.open(signal);
      files.push(file);
      headers.push(await readGguf(descriptorSource(file), shard.name));
    }
    return {
      description: verifyModelGguf(headers),
      descriptors: files.map((file) => file.fd),
      requireUnchanged: async () => {
        for (const file of files) await file.requireUnchanged();
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function descriptorSource(file: VerifiedFile): ByteSource {
  return {
    sizeBytes: file.sizeBytes,
    read: async (offset, length) => {
      requireRange(offset, length, file.sizeBytes);
      const bytes = new Uint8Array(length);
      for (let filled = 0; filled < length; ) {
        const { bytesRead } = await readDescriptor(file.fd, bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0)
          throw new FreeholdError('SIZE_MISMATCH', 'a weights file became shorter while it was read');
        filled += bytesRead;
      }
      return bytes;
    },
  };
}
