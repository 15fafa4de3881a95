import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { type ArchitectureModel, architectureContent, type KeyValue } from './architectures.ts';
import { encodePlan, planOf } from './gguf-plan.ts';
import type { LlamaOracle, LlamaVerdict } from './llama-oracle.ts';

const ATTEMPTS_MAX = 400;

/** What an unknown key gets, by what it says it is. */
function guess(key: string): number {
  for (const [pattern, value] of [
    [/epsilon/, 1e-5],
    [/freq_base/, 10_000],
    [/embedding_length_per_layer/, 32],
    [/vocab_size/, 283],
    [/rank$/, 16],
    [/conv_kernel|l_cache/, 4],
    [/inner_size/, 128],
    [/state_size/, 16],
    [/sliding_window$/, 32],
    [/(feed_forward|shared_feed_forward).*length/, 32],
    [/length/, 32],
    [/head_size/, 32],
    [/expert_count/, 4],
    [/head_count/, 2],
  ] as const) {
    if (pattern.test(key)) return value;
  }
  return 1;
}

/** Keys that are optional, but without which some architectures are not what they are. Tried in this order. */
export const PROFILES: readonly Readonly<Record<string, KeyValue>>[] = [
  {},
  { expert_count: 4, expert_used_count: 2, expert_feed_forward_length: 32, expert_shared_count: 1 },
  {
    'attention.key_length_mla': 48,
    'attention.value_length_mla': 32,
    'attention.kv_lora_rank': 16,
    'rope.dimension_count': 16,
  },
  {
    'ssm.conv_kernel': 4,
    'ssm.inner_size': 128,
    'ssm.state_size': 16,
    'ssm.time_step_rank': 4,
    'ssm.group_count': 1,
    'attention.head_count': [2, 0],
    'attention.head_count_kv': [2, 0],
  },
];

/** Puts right what llama.cpp said is wrong; false when it does not say. */
function mend(name: string, model: Draft, said: string): boolean {
  const key = /key not found in model: (\S+)/.exec(said)?.[1]?.replace(`${name}.`, '');
  const [, wrongKey, , wantedType] =
    /key (\S+) has wrong type (\w+) but expected type (\w+)/.exec(said) ?? [];
  const [, ...missing] = /tensor '([^']+)' not found|missing tensor '([^']+)'/.exec(said) ?? [];
  const [, shaped, sizes] = /tensor '([^']+)' has wrong shape; expected\s+([\d, ]+),? got/.exec(said) ?? [];
  const tensor = missing.find((text) => text !== undefined);
  if (wrongKey !== undefined) {
    const short = wrongKey.replace(`${name}.`, '');
    const fitting: Readonly<Record<string, KeyValue>> = { bool: true, f32: 0.5, i32: [8, 8, 0, 0] };
    const value = fitting[wantedType ?? ''];
    if (value === undefined || JSON.stringify(model.keys[short]) === JSON.stringify(value)) return false;
    model.keys[short] = value;
  } else if (key !== undefined) {
    model.keys[key] = said.includes('array key') ? [1, 0] : guess(key);
  } else if (tensor !== undefined) {
    model.tensors[tensor] = [1];
  } else if (shaped !== undefined) {
    const dimensions = (sizes ?? '').replace(/,\s*$/, '').split(',').map(Number);
    while (dimensions.length > 1 && dimensions.at(-1) === 1) dimensions.pop();
    if (dimensions.includes(0) || String(model.tensors[shaped]) === String(dimensions)) return false;
    model.tensors[shaped] = dimensions;
  } else if (/token type count/.test(said) && model.keys['tokenizer.ggml.token_type_count'] === undefined) {
    model.keys['tokenizer.ggml.token_type_count'] = 2;
  } else {
    return false;
  }
  return true;
}

type Draft = { keys: Record<string, KeyValue>; tensors: Record<string, number[]> };

export interface Synthesis {
  readonly model: ArchitectureModel;
  /** Of the last file that was offered. */
  readonly verdict: LlamaVerdict;
}

/**
 * Offers a file of this architecture, and puts right what is refused as missing or of the wrong shape, until it runs or
 * nothing more can be done.
 * @param keys that are not touched, without the name of the architecture
 */
export async function synthesizeModel(
  name: string,
  keys: Readonly<Record<string, KeyValue>>,
  oracle: LlamaOracle,
  folder: string,
): Promise<Synthesis> {
  const file = path.join(folder, `${name}.gguf`);
  const model: Draft = { keys: { ...keys }, tensors: {} };
  for (let attempt = 0; ; attempt++) {
    writeFileSync(file, encodePlan(planOf(architectureContent(name, model), name)));
    const verdict = await oracle.judge({ file });
    const isDone = verdict.verdict !== 'refuses' || attempt >= ATTEMPTS_MAX;
    if (isDone || !mend(name, model, verdict.said)) return { model, verdict };
  }
}
