import { read } from 'node:fs';
import { promisify } from 'node:util';
import { type ByteSource, requireRange } from '../../../core/base/byte-source.ts';
import type { LoadRequest, VerifiedFile, WeightsFile } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { verifyAdapter } from '../../../core/format/gguf/adapter-verification.ts';
import type { GgufDescription } from '../../../core/format/gguf/gguf-description.ts';
import { readGguf } from '../../../core/format/gguf/gguf-reader.ts';
import type { GgufFile } from '../../../core/format/gguf/gguf-types.ts';
import { verifyModelGguf } from '../../../core/format/gguf/gguf-verification.ts';

const readDescriptor = promisify(read);

/** The weights and adapters of one model, open, hashed, and with headers that native code may see. */
export interface OpenWeights {
  readonly description: GgufDescription;
  /** Of all shards, in order. */
  readonly descriptors: readonly number[];
  readonly adapterDescriptors: readonly number[];
  /** @throws DIGEST_MISMATCH naming the file */
  requireUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens all files and reads their headers through the very descriptors that the child gets.
 * @throws NOT_FOUND, DIGEST_MISMATCH, SIZE_MISMATCH, GGUF_INVALID, GGUF_LIMIT, ADAPTER_INVALID, each naming the file;
 * CANCELLED
 */
export async function openWeights(
  { weights, adapters = [] }: Pick<LoadRequest, 'weights' | 'adapters'>,
  signal?: AbortSignal,
): Promise<OpenWeights> {
  if (weights.length === 0) throw new FreeholdError('ENGINE_FAILED', 'the model has no weights');
  const files: VerifiedFile[] = [];
  const close = async (): Promise<void> => {
    await Promise.allSettled(files.map((file) => file.close()));
  };
  const open = async (wanted: WeightsFile): Promise<GgufFile> => {
    const file = await wanted.open(signal);
    files.push(file);
    return readGguf(descriptorSource(file), wanted.name);
  };
  try {
    const headers: GgufFile[] = [];
    for (const shard of weights) headers.push(await open(shard));
    const description = verifyModelGguf(headers);
    for (const adapter of adapters) verifyAdapter(await open(adapter.file), headers);
    const descriptors = files.map((file) => file.fd);
    return {
      description,
      descriptors: descriptors.slice(0, weights.length),
      adapterDescriptors: descriptors.slice(weights.length),
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
