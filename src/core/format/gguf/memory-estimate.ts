import { describeGguf, shardsOf } from './gguf-description.ts';
import { BLOCKS_MAX, WIDTH_MAX } from './gguf-limits.ts';
import type { GgufFile } from './gguf-types.ts';
import {
  arrayOfIntegers,
  type GgufKeys,
  ggufInvalid,
  optionalBoolean,
  optionalInteger,
} from './gguf-values.ts';

/** What of a header decides how much memory a model takes; small, so that it can be kept when the header is not. */
export interface MemoryFacts {
  /** What it was trained for; absent: the file does not say. */
  readonly contextTokens?: number;
  readonly vocabularyTokens: number;
  readonly embeddingLength: number;
  /** Keys and values of one token over all blocks, in numbers. 0 for encoders, which remember no tokens. */
  readonly cacheElementsPerToken: number;
  /** State of one sequence over all recurrent blocks, in numbers; 0 where there are none. */
  readonly stateElements: number;
  /** Of the block that has most. */
  readonly attentionHeads: number;
  /** Widest feed-forward layer, over all experts that work on one token. */
  readonly feedForwardLength: number;
  readonly purpose: 'generate' | 'embed';
}

export interface MemoryRequest {
  /** Size of the weights' files. */
  readonly weightsBytes: number;
  /** Tokens that each request may have. */
  readonly contextTokens: number;
  readonly parallelRequests: number;
  /** Size of all adapters' files. */
  readonly adapterBytes?: number;
  /** Tokens that one native call evaluates at most; absent: `BATCH_TOKENS`, and for encoders the whole context. */
  readonly batchTokens?: number;
}

export interface MemoryEstimate {
  /** Weights and adapters, each once. */
  readonly weightsBytes: number;
  /** Keys, values and recurrent states of all requests. */
  readonly contextBytes: number;
  /** Intermediate results of one native call, and its logits. */
  readonly workBytes: number;
  /** The process that holds all this, with its tables of the vocabulary. */
  readonly processBytes: number;
  readonly totalBytes: number;
}

/** Without a wish for another context: enough for a long chat, affordable on a laptop. */
export const CONTEXT_TOKENS_DEFAULT_MAX = 8192;
/** Without a wish for another number: what a person with an editor and a chat window needs. */
export const PARALLEL_REQUESTS_DEFAULT = 4;
/** What the engine evaluates at once: pieces of a prompt have at most as many tokens. */
export const BATCH_TOKENS = 128;

/** llama.cpp rounds the cells of a sequence up to a multiple of this. */
export const CELLS_STEP = 256;
/** Keys and values are kept as F16, … */
const CACHE_ELEMENT_BYTES = 2;
/** … everything else is computed as F32. */
const ELEMENT_BYTES = 4;
/**
 * Rows of the width of the model that live beside the attention scores: measured on the pinned library as 5.3 to 6, for
 * four models and batches of 64 to 512 tokens.
 */
const ROWS_BESIDE_SCORES = 6;
/** Node, llama.cpp, our own code and what generating leaves to the garbage collector, with a model of 3 MiB: 110 MiB. */
const PROCESS_BYTES = 116 * 2 ** 20;
/** llama.cpp's and our own tables of tokens and merges: measured as 290 to 330 bytes. */
const VOCABULARY_TOKEN_BYTES = 320;

/**
 * Reads what decides about memory. For weights that nobody has verified yet as well: a wrong header gives a wrong
 * number, and nothing else.
 * @throws GGUF_INVALID when a key has another type than it must have, or a number that no model has
 */
export function memoryFacts(files: GgufFile | readonly GgufFile[]): MemoryFacts {
  const shards = shardsOf(files);
  const [first] = shards;
  const description = describeGguf(shards);
  const { architecture, contextTokens, vocabularyTokens = 0, purpose } = description;
  const keys = { first, architecture };
  const embeddingLength = ofModel(keys, 'embedding_length') ?? 0;
  const blocks = ofModel(keys, 'block_count', BLOCKS_MAX) ?? 0;
  const model: Model = { ...keys, blocks, embeddingLength, attentionBlocks: attentionBlocks(shards) };
  const isCausal = optionalBoolean(first, `${architecture}.attention.causal`) ?? true;
  return {
    ...(contextTokens === undefined ? {} : { contextTokens }),
    vocabularyTokens,
    embeddingLength,
    cacheElementsPerToken: isCausal ? cacheElements(model) : 0,
    stateElements: model.blocks * stateElementsPerBlock(model),
    attentionHeads: Math.max(0, ...perBlock(model, 'attention.head_count')),
    feedForwardLength: feedForwardLength(model),
    purpose,
  };
}

/** The context that a model gets when nobody asks for another one. */
export function defaultContextTokens(facts: Pick<MemoryFacts, 'contextTokens'>): number {
  return Math.min(Math.max(1, facts.contextTokens ?? CONTEXT_TOKENS_DEFAULT_MAX), CONTEXT_TOKENS_DEFAULT_MAX);
}

/**
 * How much memory a loaded model needs at its busiest: what it must have, without pages that the system may drop. It
 * stays within 0.9 and 1.3 of what was measured (`tests/memory-estimate.full.test.ts`), rather above than below.
 *
 * Sliding windows are counted as whole contexts, since the engine keeps them whole; a model that shares keys between
 * blocks, or keeps them compressed, needs less than is said here.
 */
export function estimateMemory(facts: MemoryFacts, request: MemoryRequest): MemoryEstimate {
  const { contextTokens, parallelRequests, adapterBytes = 0 } = request;
  const weightsBytes = request.weightsBytes + adapterBytes;
  const cells = Math.ceil(contextTokens / CELLS_STEP) * CELLS_STEP;
  const contextBytes =
    parallelRequests *
    (cells * facts.cacheElementsPerToken * CACHE_ELEMENT_BYTES + facts.stateElements * ELEMENT_BYTES);
  const isEncoder = facts.purpose === 'embed';
  const batchTokens =
    request.batchTokens ?? (isEncoder ? contextTokens : Math.max(BATCH_TOKENS, parallelRequests));
  // An encoder reserves logits for each token of an input; others for the last one of each request.
  const logitRows = isEncoder ? batchTokens : 2 * parallelRequests;
  const workBytes =
    graphBytes(facts, batchTokens, cells) + logitRows * facts.vocabularyTokens * ELEMENT_BYTES;
  const processBytes = PROCESS_BYTES + facts.vocabularyTokens * VOCABULARY_TOKEN_BYTES;
  return {
    weightsBytes,
    contextBytes,
    workBytes,
    processBytes,
    totalBytes: weightsBytes + contextBytes + workBytes + processBytes,
  };
}

/** Attention without a fused kernel holds the scores of every head of one block, and its mask, at once. */
function graphBytes(facts: MemoryFacts, batchTokens: number, cells: number): number {
  const scores = facts.attentionHeads * cells;
  const attention = (scores + cells + ROWS_BESIDE_SCORES * facts.embeddingLength) * ELEMENT_BYTES;
  // Gate and up lie beside each other.
  const feedForward = (2 * facts.feedForwardLength + 3 * facts.embeddingLength) * ELEMENT_BYTES;
  // Inputs of a product are converted to the type of the other side first: scores and feed-forward rows to 16 bits.
  const converted = 2 * Math.max(scores, facts.feedForwardLength);
  return batchTokens * (Math.max(attention, feedForward) + converted);
}

interface Model {
  readonly first: GgufKeys;
  readonly architecture: string;
  readonly blocks: number;
  readonly embeddingLength: number;
  /** Blocks whose tensors show attention; empty where the names say nothing. */
  readonly attentionBlocks: ReadonlySet<number>;
}

/** Hybrid models have blocks without attention, which keep no keys. */
function attentionBlocks(shards: readonly GgufFile[]): Set<number> {
  const blocks = new Set<number>();
  for (const { tensors } of shards) {
    for (const { name } of tensors) {
      const block = /^blk\.(\d+)\.attn_(?:k|v|qkv|kv)\b/.exec(name)?.[1] ?? mlaBlock(name);
      if (block !== undefined) blocks.add(Number(block));
    }
  }
  return blocks;
}

/** Compressed keys have tensors of other names (`attn_kv_a_mqa`, `attn_k_b`). */
function mlaBlock(name: string): string | undefined {
  return /^blk\.(\d+)\.attn_(?:kv_|k_|v_)/.exec(name)?.[1];
}

function cacheElements(model: Model): number {
  const { attentionBlocks: named } = model;
  const heads = perBlock(model, 'attention.head_count');
  const keyHeads = perBlock(model, 'attention.head_count_kv', heads);
  let elements = 0;
  for (let block = 0; block < model.blocks; block++) {
    if (named.size > 0 && !named.has(block)) continue;
    const width = headLength(model, heads[block] ?? 0);
    elements += (keyHeads[block] ?? 0) * (lengthOf(model, 'key', width) + lengthOf(model, 'value', width));
  }
  return elements;
}

function headLength({ embeddingLength }: Model, heads: number): number {
  return heads > 0 ? Math.floor(embeddingLength / heads) : 0;
}

/** Of one head; blocks with a sliding window may have another length, of which the longer counts. */
function lengthOf(model: Model, what: 'key' | 'value', absent: number): number {
  const whole = ofModel(model, `attention.${what}_length`) ?? absent;
  return Math.max(whole, ofModel(model, `attention.${what}_length_swa`) ?? 0);
}

/** Rolling inputs and state of one recurrent block and one sequence; all blocks of a hybrid are taken for such. */
function stateElementsPerBlock(model: Model): number {
  const { embeddingLength } = model;
  const wkvHead = ofModel(model, 'wkv.head_size');
  if (wkvHead !== undefined) return embeddingLength * (wkvHead + (ofModel(model, 'token_shift_count') ?? 2));
  const shortConvolution = ofModel(model, 'shortconv.l_cache');
  if (shortConvolution !== undefined) return embeddingLength * Math.max(0, shortConvolution - 1);
  const inner = ofModel(model, 'ssm.inner_size') ?? 0;
  const state = ofModel(model, 'ssm.state_size') ?? 0;
  const kernel = ofModel(model, 'ssm.conv_kernel') ?? 1;
  const groups = ofModel(model, 'ssm.group_count') ?? 0;
  return Math.max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner;
}

function feedForwardLength(model: Model): number {
  const dense = Math.max(0, ...perBlock(model, 'feed_forward_length'));
  const used = Math.max(0, ...perBlock(model, 'expert_used_count'));
  const expert = ofModel(model, 'expert_feed_forward_length') ?? dense;
  const shared = ofModel(model, 'expert_shared_feed_forward_length') ?? 0;
  return Math.max(dense, used * expert + shared);
}

function ofModel(model: Pick<Model, 'first' | 'architecture'>, key: string, most = WIDTH_MAX) {
  const { first, architecture } = model;
  const value = optionalInteger(first, `${architecture}.${key}`);
  return value === undefined ? undefined : requireCount(model, key, value, most);
}

/** One number for each block, from one for all or a list of them. */
function perBlock(model: Model, key: string, absent: readonly number[] = []): readonly number[] {
  const name = `${model.architecture}.${key}`;
  const listed = model.first.metadata.get(name);
  if (listed?.kind === 'array') {
    // Before a list is made of it: a hostile one has millions.
    requireCount(model, key, listed.value.length, BLOCKS_MAX);
    return arrayOfIntegers(model.first, name).map((value) => requireCount(model, key, value, WIDTH_MAX));
  }
  const value = ofModel(model, key);
  return value === undefined ? absent : new Array<number>(model.blocks).fill(value);
}

function requireCount(
  { first, architecture }: Pick<Model, 'first' | 'architecture'>,
  key: string,
  value: number,
  most: number,
): number {
  if (value >= 0 && value <= most) return value;
  throw ggufInvalid(first, `${architecture}.${key}`, `is ${value} instead of 0 to ${most}`);
}
