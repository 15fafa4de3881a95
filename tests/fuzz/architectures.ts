import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ggmlType } from '../../src/core/format/gguf/ggml-types.ts';
import { ggufNumbers } from '../../src/core/format/gguf/gguf-array.ts';
import type { GgufValue } from '../../src/core/format/gguf/gguf-types.ts';
import { ggufValue } from '../../src/core/format/gguf/gguf-values.ts';
import type { GgufContent } from '../../src/core/format/gguf/gguf-writer.ts';
import { tinyModelContent } from '../fixtures/tiny-model.ts';

/** Whole numbers are unsigned integers, unless the key is known to hold floats. */
export type KeyValue = number | boolean | readonly number[];

/** What one architecture needs besides the shared keys: keys without its name, tensors with their shapes. */
export interface ArchitectureModel {
  readonly keys: Readonly<Record<string, KeyValue>>;
  readonly tensors: Readonly<Record<string, readonly number[]>>;
}

/** What nearly all architectures ask for. Widths are small, and multiples of the smallest block. */
const SHARED_KEYS: readonly (readonly [key: string, value: number])[] = [
  ['block_count', 2],
  ['context_length', 64],
  ['embedding_length', 64],
  ['feed_forward_length', 64],
  ['attention.head_count', 2],
  ['attention.head_count_kv', 2],
  ['attention.key_length', 32],
  ['attention.value_length', 32],
  ['rope.dimension_count', 32],
  ['rope.freq_base', 10_000],
  ['attention.layer_norm_rms_epsilon', 1e-5],
  ['attention.layer_norm_epsilon', 1e-5],
];

/** Keys that hold floats also where the number is whole. */
const FLOAT_KEY = /epsilon|freq_base|scale|softcap|weight|clamp|factor|alpha|beta|theta|logit/;

/** Models with random names of tokens only: nobody reads their answers. */
export function architectureContent(name: string, model: ArchitectureModel): GgufContent {
  const { metadata } = tinyModelContent();
  const tokenizer = [...metadata].filter(
    ([key]) => key.startsWith('tokenizer.') && key !== 'tokenizer.chat_template',
  );
  const keys = new Map<string, GgufValue>([['general.architecture', ggufValue.string(name)]]);
  for (const [key, value] of [...SHARED_KEYS, ...Object.entries(model.keys)]) {
    keys.set(
      key.startsWith('tokenizer.') || key.startsWith('xielu.') ? key : `${name}.${key}`,
      keyValue(key, value),
    );
  }
  return {
    name: `${name}.gguf`,
    metadata: new Map([...keys, ...tokenizer]),
    tensors: Object.entries(model.tensors).map(([tensor, dimensions]) => ({
      name: tensor,
      type: ggmlType('f32'),
      dimensions,
    })),
  };
}

function keyValue(key: string, value: KeyValue): GgufValue {
  if (typeof value === 'boolean') return ggufValue.boolean(value);
  if (typeof value !== 'number') return ggufValue.array(ggufNumbers('int32', value));
  const isFloat = FLOAT_KEY.test(key) || !Number.isInteger(value);
  return ggufValue.number(isFloat ? 'float32' : 'uint32', value);
}

/** Every architecture of llama.cpp v0.5.0 of which a model was found that runs. */
export function architectureModels(): ReadonlyMap<string, ArchitectureModel> {
  const file = path.join(import.meta.dirname, 'architectures.json');
  const all = JSON.parse(readFileSync(file, 'utf8')) as Record<string, ArchitectureModel | null>;
  return new Map(
    Object.entries(all).flatMap(([name, model]) => (model === null ? [] : [[name, model] as const])),
  );
}
