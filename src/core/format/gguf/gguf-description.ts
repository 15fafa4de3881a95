import { fileTypeName } from './ggml-types.ts';
import type { GgufFile } from './gguf-types.ts';
import {
  optionalArray,
  optionalBoolean,
  optionalInteger,
  optionalString,
  stringValue,
} from './gguf-values.ts';

export type PoolingType = 'none' | 'mean' | 'cls' | 'last' | 'rank';

/** `enum llama_pooling_type` of llama.h. */
const POOLING_TYPES: readonly PoolingType[] = ['none', 'mean', 'cls', 'last', 'rank'];

/** What a person or a package descriptor wants to know of a model. */
export interface GgufDescription {
  readonly architecture: string;
  /** `general.name`. */
  readonly name?: string;
  /** `general.license`: what the file says, not what its publisher does. */
  readonly license?: string;
  /** Elements of all tensors. */
  readonly parameterCount: number;
  readonly tensorCount: number;
  /** Bytes of all tensors, without header and padding. */
  readonly weightsBytes: number;
  /** What was trained for. */
  readonly contextTokens?: number;
  readonly embeddingLength?: number;
  readonly blockCount?: number;
  readonly vocabularyTokens?: number;
  /** Name of the mix: `Q4_K_M`; of the type with most elements where the file does not say. */
  readonly quantization: string;
  /** Over all tensors: what the mix really costs, fallbacks included. */
  readonly bitsPerWeight: number;
  /** Type name → elements, most first. */
  readonly elementsByType: Readonly<Record<string, number>>;
  /** Jinja source. */
  readonly chatTemplate?: string;
  readonly pooling?: PoolingType;
  /** A model that pools, or whose attention looks ahead, embeds; all others generate. */
  readonly purpose: 'generate' | 'embed';
}

/**
 * Describes one model. Takes all files of a split in order; metadata stand in the first.
 * @throws GGUF_INVALID when a key has another type than it must have
 */
export function describeGguf(files: GgufFile | readonly GgufFile[]): GgufDescription {
  const shards = shardsOf(files);
  const [first] = shards;
  const architecture = stringValue(first, 'general.architecture');
  const ofModel = (key: string) => optionalInteger(first, `${architecture}.${key}`);
  const pooling = POOLING_TYPES[ofModel('pooling_type') ?? -1];
  const isCausal = optionalBoolean(first, `${architecture}.attention.causal`) ?? true;
  const weights = weighTensors(shards);
  return {
    architecture,
    ...present('name', optionalString(first, 'general.name')),
    ...present('license', optionalString(first, 'general.license')),
    ...weights,
    ...present('contextTokens', ofModel('context_length')),
    ...present('embeddingLength', ofModel('embedding_length')),
    ...present('blockCount', ofModel('block_count')),
    ...present('vocabularyTokens', vocabularyTokens(first, architecture)),
    quantization: quantizationName(first, weights.elementsByType),
    ...present('chatTemplate', optionalString(first, 'tokenizer.chat_template')),
    ...present('pooling', pooling),
    purpose: (pooling !== undefined && pooling !== 'none') || !isCausal ? 'embed' : 'generate',
  };
}

/** One file, or all of a split, as a list that is not empty. */
export function shardsOf(files: GgufFile | readonly GgufFile[]): readonly [GgufFile, ...GgufFile[]] {
  const list: readonly GgufFile[] = 'tensors' in files ? [files] : files;
  const [first, ...others] = list;
  if (first === undefined) throw new TypeError('no GGUF file given');
  return [first, ...others];
}

function vocabularyTokens(file: GgufFile, architecture: string): number | undefined {
  return (
    optionalArray(file, 'tokenizer.ggml.tokens', ['string'])?.length ??
    optionalInteger(file, `${architecture}.vocab_size`)
  );
}

type Weights = Pick<
  GgufDescription,
  'parameterCount' | 'tensorCount' | 'weightsBytes' | 'bitsPerWeight' | 'elementsByType'
>;

function weighTensors(files: readonly GgufFile[]): Weights {
  const tensors = files.flatMap((file) => file.tensors);
  const byType = new Map<string, number>();
  let parameterCount = 0;
  let weightsBytes = 0;
  for (const { type, elementCount, sizeBytes } of tensors) {
    byType.set(type.name, (byType.get(type.name) ?? 0) + elementCount);
    parameterCount += elementCount;
    weightsBytes += sizeBytes;
  }
  return {
    parameterCount,
    tensorCount: tensors.length,
    weightsBytes,
    bitsPerWeight: parameterCount === 0 ? 0 : (weightsBytes * 8) / parameterCount,
    elementsByType: Object.fromEntries([...byType].sort(([, a], [, b]) => b - a)),
  };
}

function quantizationName(file: GgufFile, elementsByType: Readonly<Record<string, number>>): string {
  const fileType = optionalInteger(file, 'general.file_type');
  const declared = fileType === undefined ? undefined : fileTypeName(fileType);
  return declared ?? Object.keys(elementsByType)[0]?.toUpperCase() ?? 'none';
}

/** A field that is there only when it has a value, as `exactOptionalPropertyTypes` wants it. */
function present<Key extends string, Value>(
  key: Key,
  value: Value | undefined,
): { readonly [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [K in Key]?: Value };
}
