// Runs in a sandboxed child process: one call of llama_model_quantize, one JSON line to the parent.
import koffi from 'koffi';
import { z } from 'zod';
import { locateLibrary } from '../../io/engine/llama/library-folder.ts';
import { LLAMA_VERSION } from '../../io/engine/llama/llama-layouts.ts';
import { openChannel } from '../../io/engine/sandbox/child-channel.ts';

/** Two threads fill this machine; more cores help little, since writing the file is the slow part. */
const THREADS = 2;

const orderSchema = z.strictObject({
  input: z.string(),
  output: z.string(),
  fileType: z.number().int(),
  mayRequantize: z.boolean(),
});

/**
 * Fields of `llama_model_quantize_params` (llama.h of llama.cpp 0.5.0) with the defaults that the pinned library
 * returns. The library cannot tell its layouts, so a default that differs means another layout: refuse.
 */
const DEFAULTS: Readonly<Record<string, unknown>> = {
  nthread: 0,
  ftype: 7,
  output_tensor_type: 43,
  token_embedding_type: 43,
  allow_requantize: false,
  quantize_output_tensor: true,
  only_copy: false,
  pure: false,
  keep_split: false,
  dry_run: false,
  imatrix: null,
  kv_overrides: null,
  tt_overrides: null,
  prune_layers: null,
};

function quantize(order: z.infer<typeof orderSchema>): string {
  const files = locateLibrary();
  koffi.load(files.ggml).func('void ggml_backend_load_all_from_path(const char *)')(files.folder);
  const llama = koffi.load(files.llama);
  const version: unknown = llama.func('const char *llama_version()')();
  if (version !== LLAMA_VERSION) throw new Error(`llama.cpp ${String(version)} is not ${LLAMA_VERSION}`);
  const Params = koffi.struct({
    nthread: 'int32',
    ftype: 'int32',
    output_tensor_type: 'int32',
    token_embedding_type: 'int32',
    allow_requantize: 'bool',
    quantize_output_tensor: 'bool',
    only_copy: 'bool',
    pure: 'bool',
    keep_split: 'bool',
    dry_run: 'bool',
    imatrix: 'void *',
    kv_overrides: 'void *',
    tt_overrides: 'void *',
    prune_layers: 'void *',
    max_buffer_bytes: 'size_t',
  });
  const params: Record<string, unknown> = llama.func('llama_model_quantize_default_params', Params, [])();
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (params[name] !== value)
      throw new Error(`unknown library: ${name} is ${String(params[name])}, not ${String(value)}`);
  }
  llama.func('void llama_backend_init()')();
  params.ftype = order.fileType;
  params.nthread = THREADS;
  params.allow_requantize = order.mayRequantize;
  const run = llama.func('llama_model_quantize', 'uint32', ['str', 'str', koffi.pointer(Params)]);
  const code: unknown = run(order.input, order.output, params);
  if (code !== 0) throw new Error(`llama_model_quantize returned ${String(code)}`);
  return `llama.cpp ${LLAMA_VERSION}`;
}

const channel = openChannel();
let report: unknown;
try {
  report = { kind: 'done', tool: quantize(orderSchema.parse(JSON.parse(process.argv[2] ?? ''))) };
} catch (error) {
  report = { kind: 'failed', message: String(error instanceof Error ? error.message : error).slice(0, 2000) };
}
channel.end(`${JSON.stringify(report)}\n`);
