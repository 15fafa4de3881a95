import { paddingBytes } from './gguf-alignment.ts';
import { describeGguf, type GgufDescription, shardsOf } from './gguf-description.ts';
import { BLOCKS_MAX, CONTEXT_TOKENS_MAX, EXPERTS_MAX, WIDTH_MAX } from './gguf-limits.ts';
import { verifyShards } from './gguf-shards.ts';
import type { GgufFile } from './gguf-types.ts';
import {
  arrayOfIntegers,
  type GgufKeys,
  ggufInvalid,
  optionalInteger,
  optionalNumber,
  optionalString,
  stringValue,
} from './gguf-values.ts';
import { verifyVocabulary } from './gguf-vocabulary.ts';

const ARCHITECTURE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
/** Intermediate results of matrix products; as weights, native code calls a conversion that does not exist. */
const NEVER_WEIGHTS = new Set(['q8_1', 'q8_K']);

/** llama.cpp aborts on another one (`GGML_ASSERT` on `rope_scaling_type_train`). */
const ROPE_SCALINGS = ['none', 'linear', 'yarn', 'longrope'];

/**
 * Checks what must hold before native code sees a model: everything that once made llama.cpp read or write out of
 * bounds, divide by zero or abort, and that can be told from the header. Errors that llama.cpp reports cleanly by
 * itself (a missing tensor, an unknown architecture) are left to it.
 *
 * Takes all files of a split in order.
 * @returns what the model is
 * @throws GGUF_INVALID, GGUF_LIMIT naming file and key
 */
export function verifyModelGguf(files: GgufFile | readonly GgufFile[]): GgufDescription {
  const shards = shardsOf(files);
  const [first] = shards;
  verifyShards(shards);
  const architecture = stringValue(first, 'general.architecture');
  if (!ARCHITECTURE_NAME.test(architecture)) {
    throw ggufInvalid(first, 'general.architecture', 'is not the name of an architecture');
  }
  const type = first.metadata.has('general.type') ? stringValue(first, 'general.type') : 'model';
  if (type !== 'model')
    throw ggufInvalid(first, 'general.type', `is "${type.slice(0, 40)}" instead of "model"`);
  for (const file of shards) verifyTensors(file);
  verifyFloats(first, architecture);
  verifyDimensions(first, architecture);
  verifyAttention(first, architecture, shards);
  verifyExperts(first, architecture);
  verifyVocabulary(first, architecture, shards);
  return describeGguf(shards);
}

function verifyTensors(file: GgufFile): void {
  let expected = file.dataOffset;
  for (const { name, type, offset, sizeBytes } of file.tensors) {
    // ggml computes where each tensor must lie and refuses another place; bytes between could hide anything.
    if (offset !== expected) {
      throw ggufInvalid(
        file,
        `tensor ${name}`,
        `lies at ${offset} instead of ${expected}, behind the one before`,
      );
    }
    expected = offset + sizeBytes + paddingBytes(sizeBytes, file.alignmentBytes);
    if (NEVER_WEIGHTS.has(type.name)) {
      throw ggufInvalid(file, `tensor ${name}`, `is of type ${type.name}, which no weights have`);
    }
  }
}

/** A NaN as scale or epsilon makes every logit NaN; ggml asserts that an epsilon is not negative. */
function verifyFloats(file: GgufFile, architecture: string): void {
  for (const [key, value] of file.metadata) {
    if (!key.startsWith(`${architecture}.`) && !key.startsWith('general.sampling.')) continue;
    if (value.kind !== 'float32' && value.kind !== 'float64') continue;
    const number = optionalNumber(file, key) ?? 0;
    const mayBeNegative = !key.endsWith('_epsilon') && !key.includes('.rope.freq_base');
    if (number < 0 && !mayBeNegative) throw ggufInvalid(file, key, `is ${number}, below 0`);
  }
}

function verifyDimensions(file: GgufFile, architecture: string): void {
  // n_layer indexes arrays of LLAMA_MAX_LAYERS (llama.cpp pull requests 25821 and 26051).
  requireBetween(file, `${architecture}.block_count`, 1, BLOCKS_MAX, true);
  requireBetween(file, `${architecture}.context_length`, 1, CONTEXT_TOKENS_MAX, true);
  requireBetween(file, `${architecture}.embedding_length`, 1, WIDTH_MAX, true);
  // The same for parts of an architecture that have blocks of their own (pull request 26892).
  const blocks = optionalInteger(file, `${architecture}.block_count`) ?? BLOCKS_MAX;
  for (const part of [
    'posnet.block_count',
    'convnext.block_count',
    'nextn_predict_layers',
    'leading_dense_block_count',
  ]) {
    requireBetween(file, `${architecture}.${part}`, 0, blocks);
  }
  requireBetween(file, `${architecture}.decoder_block_count`, 0, BLOCKS_MAX);
  for (const [key, value] of file.metadata) {
    if (!key.startsWith(`${architecture}.`)) continue;
    // Per-layer values are copied into an array of LLAMA_MAX_LAYERS.
    if (value.kind === 'array' && isPerLayer(key) && value.value.length > BLOCKS_MAX) {
      throw ggufInvalid(file, key, `has ${value.value.length} elements, above ${BLOCKS_MAX}`);
    }
    if (typeof value.value === 'number' && /_(length|length_swa|length_mla|rank|size)$/.test(key)) {
      requireBetween(file, key, 0, Math.max(WIDTH_MAX, CONTEXT_TOKENS_MAX));
    }
  }
}

function isPerLayer(key: string): boolean {
  return /\.(feed_forward_length|attention\.[a-z_]+|expert_[a-z_]+|rope\.dimension_sections)$/.test(key);
}

/** A head count of zero divides by zero (llama.cpp issue 2247) wherever there is attention. */
function verifyAttention(file: GgufFile, architecture: string, shards: readonly GgufFile[]): void {
  const heads = requireBetweenOrArray(file, `${architecture}.attention.head_count`);
  const keyValueHeads = requireBetweenOrArray(file, `${architecture}.attention.head_count_kv`);
  const hasAttention = shards.some(({ tensors }) =>
    tensors.some(({ name }) => /^blk\.\d+\.attn_(q|qkv)\.weight$/.test(name)),
  );
  if (heads === 0 && hasAttention) throw ggufInvalid(file, `${architecture}.attention.head_count`, 'is 0');
  if (heads !== undefined && heads > 0 && keyValueHeads !== undefined && keyValueHeads > 0) {
    if (heads % keyValueHeads !== 0) {
      throw ggufInvalid(
        file,
        `${architecture}.attention.head_count_kv`,
        `is ${keyValueHeads}, which does not divide the ${heads} heads`,
      );
    }
  }
  verifyRotation(file, architecture, heads);
}

function verifyRotation(file: GgufKeys, architecture: string, heads: number | undefined): void {
  const scaling = optionalString(file, `${architecture}.rope.scaling.type`);
  if (scaling !== undefined && !ROPE_SCALINGS.includes(scaling)) {
    throw ggufInvalid(
      file,
      `${architecture}.rope.scaling.type`,
      `is "${scaling.slice(0, 40)}" instead of ${ROPE_SCALINGS.join(', ')}`,
    );
  }
  const width = optionalInteger(file, `${architecture}.embedding_length`) ?? 0;
  const declared = optionalInteger(file, `${architecture}.attention.key_length`);
  if (declared === undefined && heads !== undefined && heads > 0 && width < heads) {
    throw ggufInvalid(
      file,
      `${architecture}.attention.head_count`,
      `is ${heads}, more than the width of ${width}`,
    );
  }
  // ggml_rope asserts an even number of rotated elements inside a head.
  const rotated = optionalInteger(file, `${architecture}.rope.dimension_count`);
  const headLength = declared ?? (heads !== undefined && heads > 0 ? Math.floor(width / heads) : undefined);
  if (rotated === undefined) return;
  if (rotated < 0 || rotated % 2 !== 0 || (headLength !== undefined && rotated > headLength)) {
    throw ggufInvalid(
      file,
      `${architecture}.rope.dimension_count`,
      `is ${rotated}, which is no even number up to the head length of ${headLength ?? 'unknown'}`,
    );
  }
}

/** A number of heads; undefined when absent or given per layer, which llama.cpp checks against the block count. */
function requireBetweenOrArray(file: GgufFile, key: string): number | undefined {
  if (file.metadata.get(key)?.kind === 'array') return undefined;
  return requireBetween(file, key, 0, WIDTH_MAX);
}

/** llama.cpp asserts, which ends the process, on each of these relations (`load_hparams`). */
function verifyExperts(file: GgufFile, architecture: string): void {
  const key = `${architecture}.expert_count`;
  const experts = requireBetween(file, key, 0, EXPERTS_MAX) ?? 0;
  const usedKey = `${architecture}.expert_used_count`;
  const isPerBlock = file.metadata.get(usedKey)?.kind === 'array';
  const used = isPerBlock
    ? Math.max(0, ...arrayOfIntegers(file, usedKey))
    : requireBetween(file, usedKey, 0, experts);
  // Dense variants of this family say that they have one expert, and none used.
  const isDense = experts === 1 && architecture.startsWith('hunyuan');
  if ((used ?? 0) > experts || (experts > 0 && (used ?? 0) === 0 && !isDense)) {
    throw ggufInvalid(file, usedKey, `is ${used ?? 'missing'} of ${experts} experts`);
  }
  const groups = requireBetween(file, `${architecture}.expert_group_count`, 0, experts) ?? 0;
  if (groups > 0 && (groups >= experts || experts % groups !== 0)) {
    throw ggufInvalid(file, `${architecture}.expert_group_count`, `is ${groups}, of ${experts} experts`);
  }
  if (groups > 1) {
    requireBetween(file, `${architecture}.expert_group_used_count`, 1, groups - 1, true);
  }
}

function requireBetween(
  file: GgufKeys,
  key: string,
  low: number,
  high: number,
  isRequired = false,
): number | undefined {
  const value = optionalInteger(file, key);
  if (value === undefined && !isRequired) return undefined;
  if (value === undefined || value < low || value > high) {
    throw ggufInvalid(
      file,
      key,
      value === undefined ? 'is missing' : `is ${value} instead of ${low} to ${high}`,
    );
  }
  return value;
}
