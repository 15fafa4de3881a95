import { type ArchitectureRule, architectureRule } from './gguf-architectures.ts';
import { WIDTH_MAX } from './gguf-limits.ts';
import type { GgufFile } from './gguf-types.ts';
import {
  arrayOfIntegers,
  ggufInvalid,
  integerBetween,
  optionalInteger,
  optionalString,
} from './gguf-values.ts';

/** llama.cpp aborts on another one (`GGML_ASSERT` on `rope_scaling_type_train`). */
const ROPE_SCALINGS = ['none', 'linear', 'yarn', 'longrope'];

/**
 * Heads, their lengths and how far they are rotated, as `load_hparams` of llama.cpp works them out.
 * @throws GGUF_INVALID naming file and key
 */
export function verifyAttention(file: GgufFile, architecture: string, shards: readonly GgufFile[]): void {
  const key = `${architecture}.attention.head_count`;
  const heads = headCounts(file, key);
  const hasAttention = shards.some(({ tensors }) =>
    tensors.some(({ name }) => /^blk\.\d+\.attn_(q|qkv)\.weight$/.test(name)),
  );
  // Divides by zero (llama.cpp issue 2247) wherever there is attention, in some architectures before a tensor is loaded.
  const needsHeads = hasAttention || architectureRule(architecture).equalHeads;
  if (needsHeads && (heads === undefined || (typeof heads === 'number' && heads === 0))) {
    throw ggufInvalid(file, key, `is ${heads ?? 'missing'}, and ${architecture} has attention`);
  }
  const keyValueHeads = headCounts(file, `${key}_kv`) ?? heads;
  const blocks = optionalInteger(file, `${architecture}.block_count`) ?? 0;
  for (let block = 0; block < blocks; block++) {
    const queries = headsOf(heads, block);
    const keys = headsOf(keyValueHeads, block);
    if (queries === 0 || keys === 0 || queries % keys === 0) continue;
    throw ggufInvalid(file, `${key}_kv`, `is ${keys}, which does not divide the ${queries} heads`);
  }
  verifyScaling(file, architecture);
  const keyLength = verifyHeadLengths(
    file,
    architecture,
    heads === undefined ? undefined : headsOf(heads, 0),
  );
  if (keyLength === undefined) return;
  verifyRows(architecture, shards, 'attn_q', (block) => headsOf(heads, block) * keyLength);
  verifyRows(architecture, shards, 'attn_k', (block) => headsOf(keyValueHeads, block) * keyLength);
}

/** Some graphs cut queries and keys into heads without a look at how many there are (BERT and its kin). */
function verifyRows(
  architecture: string,
  shards: readonly GgufFile[],
  part: 'attn_q' | 'attn_k',
  widthOf: (block: number) => number,
): void {
  if (!architectureRule(architecture).equalHeads) return;
  for (const shard of shards) {
    for (const { name, dimensions } of shard.tensors) {
      const [, block] = /^blk\.(\d+)\.(?:attn_[qk])\.weight$/.exec(name) ?? [];
      if (block === undefined || !name.endsWith(`.${part}.weight`)) continue;
      const width = widthOf(Number(block));
      const rows = dimensions[1] ?? 1;
      if (width === 0 || rows % width === 0) continue;
      throw ggufInvalid(
        shard,
        `tensor ${name}`,
        `has ${rows} rows, no multiple of the ${width} that all heads have`,
      );
    }
  }
}

/** One number for all blocks, or one for each; llama.cpp checks how many. */
type HeadCounts = number | readonly number[];

function headCounts(file: GgufFile, key: string): HeadCounts | undefined {
  return file.metadata.get(key)?.kind === 'array'
    ? arrayOfIntegers(file, key)
    : integerBetween(file, key, 0, WIDTH_MAX);
}

/** 0 where nothing is said. */
function headsOf(counts: HeadCounts | undefined, block: number): number {
  return typeof counts === 'number' ? counts : (counts?.[block] ?? 0);
}

function verifyScaling(file: GgufFile, architecture: string): void {
  const key = `${architecture}.rope.scaling.type`;
  const scaling = optionalString(file, key);
  if (scaling !== undefined && !ROPE_SCALINGS.includes(scaling)) {
    throw ggufInvalid(file, key, `is "${scaling.slice(0, 40)}" instead of ${ROPE_SCALINGS.join(', ')}`);
  }
}

/** @returns the length of a key; undefined where nothing is known of the heads, or their length differs between blocks */
function verifyHeadLengths(
  file: GgufFile,
  architecture: string,
  heads: number | undefined,
): number | undefined {
  const width = optionalInteger(file, `${architecture}.embedding_length`) ?? 0;
  const declared = optionalInteger(file, `${architecture}.attention.key_length`);
  if (declared === undefined && heads !== undefined && heads > 0 && width < heads) {
    throw ggufInvalid(
      file,
      `${architecture}.attention.head_count`,
      `is ${heads}, more than the width of ${width}`,
    );
  }
  const shared = heads !== undefined && heads > 0 ? Math.floor(width / heads) : undefined;
  const rule = architectureRule(architecture);
  let keyLength = shared;
  let valueLength = shared;
  // Blocks that look back only a window have lengths of their own, or where nothing is said, those of the others.
  for (const suffix of ['', '_swa']) {
    keyLength = optionalInteger(file, `${architecture}.attention.key_length${suffix}`) ?? keyLength;
    valueLength = optionalInteger(file, `${architecture}.attention.value_length${suffix}`) ?? valueLength;
    verifyHead(file, architecture, rule, {
      suffix,
      keyLength,
      valueLength,
      hasHeads: shared !== undefined,
    });
  }
  const differ = file.metadata.has(`${architecture}.attention.key_length_swa`);
  return shared === undefined || differ ? undefined : keyLength;
}

interface Head {
  /** Of the keys that say so. */
  readonly suffix: string;
  readonly keyLength: number | undefined;
  readonly valueLength: number | undefined;
  readonly hasHeads: boolean;
}

function verifyHead(file: GgufFile, architecture: string, rule: ArchitectureRule, head: Head): void {
  const { suffix, keyLength, valueLength } = head;
  const rotationKey = `${architecture}.rope.dimension_count${suffix}`;
  const rotated = rotation(file, rotationKey, keyLength);
  if (!head.hasHeads) return;
  if (rule.equalHeads && valueLength !== keyLength) {
    throw ggufInvalid(
      file,
      `${architecture}.attention.value_length${suffix}`,
      `is ${valueLength}, and keys have ${keyLength}: ${architecture} needs one length`,
    );
  }
  if (rule.wholeRotation && rotated !== undefined && rotated !== keyLength) {
    throw ggufInvalid(
      file,
      rotationKey,
      `is ${rotated}, and ${architecture} rotates all ${keyLength} of a head`,
    );
  }
}

/**
 * ggml asserts an even number of rotated elements inside a head, and never ends when it is to rotate none: models that
 * rotate nothing say so by their architecture.
 */
function rotation(file: GgufFile, key: string, headLength: number | undefined): number | undefined {
  const rotated = optionalInteger(file, key);
  if (rotated === undefined) return undefined;
  if (rotated > 0 && rotated % 2 === 0 && rotated <= (headLength ?? rotated)) return rotated;
  throw ggufInvalid(
    file,
    key,
    `is ${rotated}, which is no even number from 2 to the head length of ${headLength ?? 'unknown'}`,
  );
}
