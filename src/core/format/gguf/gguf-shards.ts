import { FreeholdError } from '../../base/errors.ts';
import { quoted } from '../../base/ids.ts';
import { SHARDS_MAX } from './gguf-limits.ts';
import type { GgufFile } from './gguf-types.ts';
import { ggufInvalid, optionalInteger } from './gguf-values.ts';

const SHARD_NAME = /^(.+)-(\d{5})-of-(\d{5})\.gguf$/s;

/** One file of a split model: `NAME-00001-of-00003.gguf`. */
export interface ShardName {
  readonly prefix: string;
  /** From 1. */
  readonly number: number;
  readonly count: number;
}

/** Reads the name that `llama_split_path` gives; undefined when the file is not part of a split. */
export function parseShardName(fileName: string): ShardName | undefined {
  const [, prefix, numberText, countText] = SHARD_NAME.exec(fileName) ?? [];
  if (prefix === undefined) return undefined;
  const number = Number(numberText);
  const count = Number(countText);
  return number >= 1 && number <= count && count <= SHARDS_MAX ? { prefix, number, count } : undefined;
}

/** The name as `llama_split_path` writes it; `parseShardName` reads it back. */
export function encodeShardName({ prefix, number, count }: ShardName): string {
  const digits = (value: number) => value.toString().padStart(5, '0');
  return `${prefix}-${digits(number)}-of-${digits(count)}.gguf`;
}

/**
 * Puts the names of all files of one split model into order.
 * @throws GGUF_INVALID when one is missing, doubled or of another model
 */
export function verifyShardNames(fileNames: readonly string[]): string[] {
  const [first] = fileNames;
  if (first === undefined || fileNames.length === 1) return [...fileNames];
  const shards = fileNames.map((fileName) => {
    const shard = parseShardName(fileName);
    if (shard === undefined)
      throw shardsInvalid(`${quoted(fileName)} is not named like NAME-00001-of-00002.gguf`);
    return { fileName, ...shard };
  });
  shards.sort((a, b) => a.number - b.number);
  for (const [index, shard] of shards.entries()) {
    if (shard.prefix !== shards[0]?.prefix || shard.count !== shards.length || shard.number !== index + 1) {
      throw shardsInvalid(`${quoted(shard.fileName)} is not file ${index + 1} of the ${shards.length} given`);
    }
  }
  return shards.map((shard) => shard.fileName);
}

/**
 * Checks that these files, in this order, are one model: `split.*` keys as `llama-gguf-split` writes them, each tensor
 * once.
 * @throws GGUF_INVALID naming the file
 */
export function verifyShards(files: readonly GgufFile[]): void {
  const [first] = files;
  if (first === undefined) throw shardsInvalid('no file given');
  const tensorNames = new Set<string>();
  let tensorCount = 0;
  for (const [index, file] of files.entries()) {
    verifySplitKeys(file, index, files.length);
    for (const { name } of file.tensors) {
      if (tensorNames.has(name))
        throw ggufInvalid(file, `tensor ${name}`, 'stands in another file of the split too');
      tensorNames.add(name);
    }
    tensorCount += file.tensors.length;
  }
  const declared = optionalInteger(first, 'split.tensors.count');
  if (files.length > 1 && declared !== tensorCount) {
    throw ggufInvalid(
      first,
      'split.tensors.count',
      `is ${declared}, and the files have ${tensorCount} tensors`,
    );
  }
}

/** A file without these keys, or with a count of 0 (what merging leaves behind) or 1, is whole. */
function verifySplitKeys(file: GgufFile, index: number, fileCount: number): void {
  const count = optionalInteger(file, 'split.count') ?? 0;
  if (Math.max(count, 1) !== fileCount) {
    throw ggufInvalid(
      file,
      'split.count',
      `is ${count}, and ${fileCount} ${fileCount === 1 ? 'file is' : 'files are'} given`,
    );
  }
  const number = optionalInteger(file, 'split.no') ?? 0;
  if (fileCount > 1 && number !== index) {
    throw ggufInvalid(file, 'split.no', `is ${number}, and the file stands at place ${index}`);
  }
}

function shardsInvalid(message: string): FreeholdError {
  return new FreeholdError('GGUF_INVALID', message, {
    hint: 'give all files of the split: NAME-00001-of-0000N.gguf to NAME-0000N-of-0000N.gguf',
  });
}
