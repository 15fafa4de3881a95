import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import type { GgufDescription } from '../../core/format/gguf/gguf-description.ts';
import { readGguf } from '../../core/format/gguf/gguf-reader.ts';
import { encodeShardName, parseShardName } from '../../core/format/gguf/gguf-shards.ts';
import type { GgufFile } from '../../core/format/gguf/gguf-types.ts';
import { verifyModelGguf } from '../../core/format/gguf/gguf-verification.ts';
import { fileByteSource } from '../../io/files/file-range.ts';
import { fileError, requirePlainFile } from './local-file.ts';

export interface GgufWeights {
  /** Absolute paths in shard order. */
  readonly paths: readonly string[];
  readonly description: GgufDescription;
  readonly bytes: number;
}

/**
 * Reads the headers of a GGUF model on disk (all its shards, found by their names) and checks everything that must
 * hold before native code may see it.
 * @param file the model, or the first of its shards
 * @throws NOT_FOUND, NOT_SUPPORTED for other formats, GGUF_INVALID, GGUF_LIMIT, PERMISSION_DENIED
 */
export async function readGgufWeights(file: string): Promise<GgufWeights> {
  const absolute = path.resolve(file);
  const stats = await stat(absolute).catch((error: unknown) => {
    throw fileError(error, file);
  });
  if (stats.isDirectory()) {
    throw new FreeholdError('NOT_SUPPORTED', `${file} is a folder; this version packages GGUF files only`, {
      hint: 'convert the safetensors to GGUF first (convert_hf_to_gguf.py of llama.cpp)',
    });
  }
  const paths = shardPaths(absolute);
  const headers: GgufFile[] = [];
  for (const shard of paths) headers.push(await readHeader(shard));
  const description = verifyModelGguf(headers);
  const bytes = headers.reduce((sum, header) => sum + header.sizeBytes, 0);
  return { paths, description, bytes };
}

/** A shard stands for all of its model: `NAME-00001-of-00003.gguf`. */
function shardPaths(file: string): string[] {
  const shard = parseShardName(path.basename(file));
  if (shard === undefined) return [file];
  const names = Array.from({ length: shard.count }, (_, index) =>
    encodeShardName({ ...shard, number: index + 1 }),
  );
  return names.map((name) => path.join(path.dirname(file), name));
}

async function readHeader(file: string): Promise<GgufFile> {
  await requirePlainFile(file);
  const handle = await open(file, 'r').catch((error: unknown) => {
    throw fileError(error, file);
  });
  try {
    return await readGguf(await fileByteSource(handle, path.basename(file)), path.basename(file));
  } finally {
    await handle.close();
  }
}
