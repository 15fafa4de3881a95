import koffi, { type TypeObject } from 'koffi';
import { FreeholdError } from '../../../core/base/errors.ts';

/**
 * Struct layouts of llama.cpp 0.5.0 (`include/llama.h`), as the pinned library has them. Nothing in the library says
 * how its structs lie, so `requireKnownDefaults` compares what its own functions fill in with what they must.
 */

/** What `llama_version()` says of the pinned package. */
export const LLAMA_VERSION = '0.5.0-dev';

export interface LlamaTypes {
  readonly modelParams: TypeObject;
  readonly contextParams: TypeObject;
  readonly batch: TypeObject;
}

/** Fields of `llama_model_params` with the defaults of this version. */
const MODEL_DEFAULTS = {
  devices: null,
  tensor_buft_overrides: null,
  n_gpu_layers: -1,
  split_mode: 1,
  load_mode: -1,
  lazy_mode: 1,
  main_gpu: 0,
  tensor_split: null,
  progress_callback: null,
  progress_callback_user_data: null,
  kv_overrides: null,
  vocab_only: false,
  check_tensors: false,
  use_extra_bufts: true,
  no_host: false,
  no_alloc: false,
  load_mtp: false,
};

/** Fields of `llama_context_params` with the defaults of this version. */
const CONTEXT_DEFAULTS = {
  n_ctx: 512,
  n_batch: 2048,
  n_ubatch: 512,
  n_seq_max: 1,
  n_rs_seq: 0,
  n_outputs_max: 0,
  n_outputs_max_per_seq: 1,
  n_threads: 4,
  n_threads_batch: 4,
  ctx_type: 0,
  rope_scaling_type: -1,
  pooling_type: -1,
  attention_type: -1,
  flash_attn_type: -1,
  rope_freq_base: 0,
  rope_freq_scale: 0,
  yarn_ext_factor: -1,
  yarn_attn_factor: -1,
  yarn_beta_fast: -1,
  yarn_beta_slow: -1,
  yarn_orig_ctx: 0,
  defrag_thold: -1,
  cb_eval: null,
  cb_eval_user_data: null,
  type_k: 1,
  type_v: 1,
  abort_callback: null,
  abort_callback_data: null,
  embeddings: false,
  offload_kqv: true,
  no_perf: true,
  op_offload: true,
  swa_full: true,
  kv_unified: false,
  samplers: null,
  n_samplers: 0,
  ctx_other: null,
};

export type ModelParams = { -readonly [Key in keyof typeof MODEL_DEFAULTS]: unknown };
export type ContextParams = { -readonly [Key in keyof typeof CONTEXT_DEFAULTS]: unknown };

/** 32-bit unsigned where llama.h says so, 32-bit signed otherwise, for whole-number defaults. */
const UNSIGNED = new Set([
  'n_ctx',
  'n_batch',
  'n_ubatch',
  'n_seq_max',
  'n_rs_seq',
  'n_outputs_max',
  'n_outputs_max_per_seq',
  'yarn_orig_ctx',
]);

function fieldTypes(defaults: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(defaults).map(([name, value]) => [name, fieldType(name, value)] as const),
  );
}

function fieldType(name: string, value: unknown): string {
  if (value === null) return 'void *';
  if (typeof value === 'boolean') return 'bool';
  if (name === 'n_samplers') return 'size_t';
  if (/^(rope_freq|yarn_(ext|attn|beta)|defrag)/.test(name)) return 'float';
  return UNSIGNED.has(name) ? 'uint32' : 'int32';
}

export function llamaTypes(): LlamaTypes {
  return {
    modelParams: koffi.struct(fieldTypes(MODEL_DEFAULTS)),
    contextParams: koffi.struct(fieldTypes(CONTEXT_DEFAULTS)),
    batch: koffi.struct({
      n_tokens: 'int32',
      token: 'void *',
      embd: 'void *',
      pos: 'void *',
      n_seq_id: 'void *',
      seq_id: 'void *',
      logits: 'void *',
    }),
  };
}

/**
 * Refuses any library whose version or defaults differ: with other layouts, the first call would write anywhere.
 * @throws PLATFORM_UNSUPPORTED naming what differs
 */
export function requireKnownDefaults(version: string, modelParams: object, contextParams: object): void {
  if (version !== LLAMA_VERSION) throw unknownLibrary('version', LLAMA_VERSION, version);
  for (const [expected, actual] of [
    [MODEL_DEFAULTS, modelParams],
    [CONTEXT_DEFAULTS, contextParams],
  ] as const) {
    const values = new Map(Object.entries(actual));
    for (const [name, value] of Object.entries(expected)) {
      if (values.get(name) !== value) throw unknownLibrary(name, value, values.get(name));
    }
  }
}

function unknownLibrary(what: string, expected: unknown, actual: unknown): FreeholdError {
  return new FreeholdError(
    'PLATFORM_UNSUPPORTED',
    `the llama.cpp library has ${what} = ${String(actual)} where ${String(expected)} is known: another version than the pinned one`,
    { hint: 'npm ci installs the version that this Freehold was built for' },
  );
}
