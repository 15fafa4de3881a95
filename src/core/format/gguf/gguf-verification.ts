import { architectureRule } from './gguf-architectures.ts';
import { verifyAttention } from './gguf-attention.ts';
import { describeGguf, type GgufDescription, shardsOf } from './gguf-description.ts';
import { BLOCKS_MAX, CONTEXT_TOKENS_MAX, EXPERTS_MAX, WIDTH_MAX } from './gguf-limits.ts';
import { verifyRelations } from './gguf-relations.ts';
import { verifyShards } from './gguf-shards.ts';
import { verifyTensorPlaces } from './gguf-tensor-places.ts';
import { verifyNativeAlignment, verifyTensorTypes } from './gguf-tensor-types.ts';
import type { GgufFile } from './gguf-types.ts';
import {
  arrayOfIntegers,
  ggufInvalid,
  integerBetween,
  optionalInteger,
  optionalNumber,
  stringValue,
} from './gguf-values.ts';
import { verifyVocabulary } from './gguf-vocabulary.ts';

const ARCHITECTURE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

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
  for (const file of shards) {
    verifyTensorPlaces(file);
    verifyTensorTypes(file);
    verifyNativeAlignment(file);
  }
  verifyFloats(first, architecture);
  verifyDimensions(first, architecture);
  verifyAttention(first, architecture, shards);
  verifyExperts(first, architecture);
  verifyVocabulary(first, architecture, shards);
  return describeGguf(shards);
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
  integerBetween(file, `${architecture}.block_count`, 1, BLOCKS_MAX, true);
  integerBetween(file, `${architecture}.context_length`, 1, CONTEXT_TOKENS_MAX, true);
  integerBetween(file, `${architecture}.embedding_length`, 1, WIDTH_MAX, true);
  // The same for parts of an architecture that have blocks of their own (pull request 26892).
  const blocks = optionalInteger(file, `${architecture}.block_count`) ?? BLOCKS_MAX;
  for (const part of [
    'posnet.block_count',
    'convnext.block_count',
    'nextn_predict_layers',
    'leading_dense_block_count',
  ]) {
    integerBetween(file, `${architecture}.${part}`, 0, blocks);
  }
  integerBetween(file, `${architecture}.decoder_block_count`, 0, BLOCKS_MAX);
  verifyRelations(file, architecture);
  for (const [key, value] of file.metadata) {
    if (!key.startsWith(`${architecture}.`)) continue;
    // Per-layer values are copied into an array of LLAMA_MAX_LAYERS.
    if (value.kind === 'array' && isPerLayer(key) && value.value.length > BLOCKS_MAX) {
      throw ggufInvalid(file, key, `has ${value.value.length} elements, above ${BLOCKS_MAX}`);
    }
    if (typeof value.value === 'number' && /_(length|length_swa|length_mla|rank|size)$/.test(key)) {
      integerBetween(file, key, 0, Math.max(WIDTH_MAX, CONTEXT_TOKENS_MAX));
    }
  }
}

function isPerLayer(key: string): boolean {
  return /\.(feed_forward_length|attention\.[a-z_]+|expert_[a-z_]+|rope\.dimension_sections)$/.test(key);
}

/** llama.cpp asserts, which ends the process, on each of these relations (`load_hparams`). */
function verifyExperts(file: GgufFile, architecture: string): void {
  const key = `${architecture}.expert_count`;
  const experts = integerBetween(file, key, 0, EXPERTS_MAX) ?? 0;
  const usedKey = `${architecture}.expert_used_count`;
  const isPerBlock = file.metadata.get(usedKey)?.kind === 'array';
  const used = isPerBlock
    ? Math.max(0, ...arrayOfIntegers(file, usedKey))
    : integerBetween(file, usedKey, 0, experts);
  // Dense variants of this family say that they have one expert, and none used.
  const isDense = experts === 1 && architecture.startsWith('hunyuan');
  if (experts === 0 && architectureRule(architecture).needsExperts) {
    throw ggufInvalid(file, key, `is 0, and ${architecture} has no variant without experts`);
  }
  if ((used ?? 0) > experts || (experts > 0 && (used ?? 0) === 0 && !isDense)) {
    throw ggufInvalid(file, usedKey, `is ${used ?? 'missing'} of ${experts} experts`);
  }
  const groups = integerBetween(file, `${architecture}.expert_group_count`, 0, experts) ?? 0;
  if (groups > 0 && (groups >= experts || experts % groups !== 0)) {
    throw ggufInvalid(file, `${architecture}.expert_group_count`, `is ${groups}, of ${experts} experts`);
  }
  if (groups > 1) {
    integerBetween(file, `${architecture}.expert_group_used_count`, 1, groups - 1, true);
  }
}
