import { FreeholdError } from '../../base/errors.ts';
import { quoted } from '../../base/ids.ts';
import { shardsOf } from './gguf-description.ts';
import { LORA_ALPHA_MAX, LORA_RANK_MAX } from './gguf-limits.ts';
import { verifyTensorPlaces } from './gguf-tensor-places.ts';
import { isFactorType } from './gguf-tensor-types.ts';
import type { GgufFile, GgufTensor } from './gguf-types.ts';
import { optionalInteger, optionalString, stringValue } from './gguf-values.ts';

/** What a person, or an engine that loads it, wants to know of a LoRA adapter. */
export interface AdapterDescription {
  /** The same as the base's. */
  readonly architecture: string;
  /** `general.name`. */
  readonly name?: string;
  /** `general.license`: what the file says, not what its publisher does. */
  readonly license?: string;
  /** The strength it was trained with; llama.cpp multiplies each product by alpha / rank, or by 1 where it is 0. */
  readonly alpha: number;
  /** The largest of all pairs. */
  readonly rank: number;
  /** Tensors of the base that it changes, in file order. */
  readonly targets: readonly string[];
  readonly parameterCount: number;
  /** Bytes of all tensors: llama.cpp copies them into memory of its own. */
  readonly weightsBytes: number;
  /** Trained norms, which llama.cpp passes over: the adapter acts a little less than it was trained to. */
  readonly withoutEffect: readonly string[];
}

/** Two matrices whose product is added to one of the base. */
interface Pair {
  readonly target: string;
  readonly a: GgufTensor;
  readonly b: GgufTensor;
}

const SUFFIX = /\.lora_([ab])$/;
const TOKEN_EMBEDDING = 'token_embd.weight';

/**
 * Checks a LoRA adapter against its base before native code sees it: everything that makes `llama_adapter_lora_init`,
 * or the first decoding with the adapter, abort, divide by zero or read out of bounds; and what llama.cpp would refuse
 * only after the base is loaded.
 *
 * @param base that has passed `verifyModelGguf`; all files of a split in order
 * @throws ADAPTER_INVALID naming file and tensor or key; GGUF_INVALID for a broken file
 */
export function verifyAdapter(adapter: GgufFile, base: GgufFile | readonly GgufFile[]): AdapterDescription {
  const [first, ...others] = shardsOf(base);
  verifyKind(adapter, first);
  verifyTensorPlaces(adapter);
  const alpha = alphaOf(adapter);
  const baseTensors = new Map(
    [first, ...others].flatMap(({ tensors }) => tensors.map((tensor) => [tensor.name, tensor] as const)),
  );
  const { pairs, withoutEffect } = pairTensors(adapter);
  for (const pair of pairs) verifyPair(adapter, pair, baseTensors);
  const name = optionalString(adapter, 'general.name');
  const license = optionalString(adapter, 'general.license');
  const factors = pairs.flatMap(({ a, b }) => [a, b]);
  return {
    architecture: stringValue(adapter, 'general.architecture'),
    ...(name === undefined ? {} : { name }),
    ...(license === undefined ? {} : { license }),
    alpha,
    rank: Math.max(...pairs.map(({ b }) => b.dimensions[0] ?? 0)),
    targets: pairs.map(({ target }) => target),
    parameterCount: factors.reduce((sum, { elementCount }) => sum + elementCount, 0),
    weightsBytes: factors.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    withoutEffect,
  };
}

function verifyKind(adapter: GgufFile, base: GgufFile): void {
  requireText(adapter, 'general.type', 'adapter');
  requireText(adapter, 'adapter.type', 'lora');
  const architecture = stringValue(base, 'general.architecture');
  requireText(adapter, 'general.architecture', architecture);
  const count = optionalInteger(adapter, 'split.count') ?? 0;
  if (count > 1) throw adapterInvalid(adapter, 'split.count', `is ${count}: an adapter is one file`);
  // "Activated" adapters shall act only behind a sequence of tokens. Applied to everything they answer wrongly.
  const activation = 'adapter.alora.invocation_tokens';
  if (adapter.metadata.has(activation)) {
    throw adapterInvalid(adapter, activation, 'is there, and activated adapters are not supported');
  }
}

/** Native code takes these without a look at their type, and aborts on another one. */
function requireText(adapter: GgufFile, key: string, expected: string): void {
  const value = optionalString(adapter, key);
  if (value === expected) return;
  const found = value === undefined ? 'missing' : quoted(value.slice(0, 40));
  throw adapterInvalid(adapter, key, `is ${found} instead of ${quoted(expected)}`);
}

/** `gguf_get_val_f32` aborts unless the type is exactly this. A NaN would make every logit NaN. */
function alphaOf(adapter: GgufFile): number {
  const key = 'adapter.lora.alpha';
  const value = adapter.metadata.get(key);
  if (value === undefined) return 0;
  if (value.kind !== 'float32') throw adapterInvalid(adapter, key, `is ${value.kind} instead of float32`);
  if (!(Math.abs(value.value) <= LORA_ALPHA_MAX)) {
    throw adapterInvalid(adapter, key, `is ${value.value}, beyond ±${LORA_ALPHA_MAX}`);
  }
  return value.value;
}

function pairTensors(adapter: GgufFile): { pairs: Pair[]; withoutEffect: string[] } {
  const halves = new Map<string, { a?: GgufTensor; b?: GgufTensor }>();
  const withoutEffect: string[] = [];
  for (const tensor of adapter.tensors) {
    const half = SUFFIX.exec(tensor.name)?.[1];
    if (half === undefined) {
      if (!tensor.name.endsWith('_norm.weight')) {
        throw adapterInvalid(adapter, `tensor ${tensor.name}`, 'is no half of a pair: X.lora_a, X.lora_b');
      }
      withoutEffect.push(tensor.name);
      continue;
    }
    const target = tensor.name.slice(0, -'.lora_a'.length);
    // Native code takes the suffix out wherever it stands: two names could become one.
    if (/\.lora_[ab]/.test(target))
      throw adapterInvalid(adapter, `tensor ${tensor.name}`, 'has two suffixes');
    halves.set(target, { ...halves.get(target), [half]: tensor });
  }
  const pairs = [...halves].map(([target, { a, b }]): Pair => {
    if (a !== undefined && b !== undefined) return { target, a, b };
    const half = a === undefined ? 'lora_a' : 'lora_b';
    throw adapterInvalid(adapter, `tensor ${target}.${half}`, 'is missing beside its other half');
  });
  if (pairs.length === 0) throw adapterInvalid(adapter, 'the file', 'holds no pair of tensors');
  return { pairs, withoutEffect };
}

/**
 * A product of the right shape: a is [in, rank], b is [rank, out], in ggml's order, and of the embedding table, whose
 * rows are taken from a, [rank, tokens] and [rank, width]. Both have as many experts as the base.
 */
function verifyPair(adapter: GgufFile, pair: Pair, baseTensors: ReadonlyMap<string, GgufTensor>): void {
  const { target, a, b } = pair;
  const base = baseTensors.get(target);
  if (base === undefined)
    throw adapterInvalid(adapter, `tensor ${a.name}`, 'changes a tensor that the base lacks');
  if (base.dimensions.length < 2) {
    throw adapterInvalid(adapter, `tensor ${a.name}`, 'changes a tensor of the base that is no matrix');
  }
  for (const half of [a, b]) {
    if (!isFactorType(half.type.name)) {
      throw adapterInvalid(adapter, `tensor ${half.name}`, `is of type ${half.type.name}`);
    }
  }
  // ggml asserts on adapters over this type with a scale (`build_ffn`).
  if (base.type.name === 'nvfp4') {
    throw adapterInvalid(
      adapter,
      `tensor ${a.name}`,
      'changes a tensor of type nvfp4, which takes no adapter',
    );
  }
  // Where input and output share one table, llama.cpp applies the pair to both; the second product aborts.
  if (target === TOKEN_EMBEDDING && !baseTensors.has('output.weight')) {
    throw adapterInvalid(
      adapter,
      `tensor ${a.name}`,
      'changes the table that the base uses for its output too',
    );
  }
  const rank = b.dimensions[0] ?? 0;
  if (rank > LORA_RANK_MAX) {
    throw adapterInvalid(adapter, `tensor ${b.name}`, `has the rank ${rank}, above ${LORA_RANK_MAX}`);
  }
  const [inputs = 1, outputs = 1, ...experts] = base.dimensions;
  const isTable = target === TOKEN_EMBEDDING;
  requireShape(adapter, a, isTable ? [rank, outputs] : [inputs, rank, ...experts]);
  requireShape(adapter, b, isTable ? [rank, inputs] : [rank, outputs, ...experts]);
}

/** Trailing dimensions of 1 count for nothing. */
function requireShape(adapter: GgufFile, tensor: GgufTensor, expected: readonly number[]): void {
  const length = Math.max(tensor.dimensions.length, expected.length);
  for (let index = 0; index < length; index++) {
    if ((tensor.dimensions[index] ?? 1) === (expected[index] ?? 1)) continue;
    throw adapterInvalid(
      adapter,
      `tensor ${tensor.name}`,
      `is [${tensor.dimensions.join(', ')}] instead of [${expected.join(', ')}]`,
    );
  }
}

function adapterInvalid(file: GgufFile, field: string, message: string): FreeholdError {
  return new FreeholdError('ADAPTER_INVALID', `${file.name}: ${field} ${message}`, {
    detail: { file: file.name, field },
  });
}
