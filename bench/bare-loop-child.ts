/**
 * Greedy decoding over llama.cpp's C API with nothing around it, in a process of its own: the floor that our engine
 * stands on. Started by `bare-loop.ts` with a file and a number of threads; each message asks for one run.
 */
import process from 'node:process';
import koffi from 'koffi';
import { locateLibrary } from '../src/io/engine/llama/library-folder.ts';
import { llamaTypes } from '../src/io/engine/llama/llama-layouts.ts';

const CONTEXT_TOKENS = 1024;
const FLASH_ATTENTION_DISABLED = 0;
const PROMPT = 'The history of computing began with';

/** Loads the model; the function returned decodes so many tokens and says how many per second that were. */
function openLoop(file: string, threads: number): (tokens: number) => number {
  const { folder, llama, ggml } = locateLibrary();
  koffi.load(ggml).func('void ggml_backend_load_all_from_path(const char *)')(folder);
  const library = koffi.load(llama);
  const types = llamaTypes();
  const quiet = koffi.pointer(koffi.proto('void bench_log(int, const char *, void *)'));
  library.func('llama_log_set', 'void', [quiet, 'void *'])(
    koffi.register(() => {}, quiet),
    null,
  );
  library.func('void llama_backend_init()')();
  const modelParams = library.func('llama_model_default_params', types.modelParams, [])();
  const model: unknown = library.func('llama_model_load_from_file', 'void *', ['str', types.modelParams])(
    file,
    modelParams,
  );
  const contextParams = library.func('llama_context_default_params', types.contextParams, [])();
  Object.assign(contextParams, {
    n_ctx: CONTEXT_TOKENS,
    n_threads: threads,
    n_threads_batch: threads,
    flash_attn_type: FLASH_ATTENTION_DISABLED,
  });
  const context: unknown = library.func('llama_init_from_model', 'void *', ['void *', types.contextParams])(
    model,
    contextParams,
  );
  const vocabulary: unknown = library.func('void *llama_model_get_vocab(void *)')(model);
  const memory: unknown = library.func('void *llama_get_memory(void *)')(context);
  const clear = library.func('void llama_memory_clear(void *, bool)');
  const tokenize = library.func('int llama_tokenize(void *, str, int, void *, int, bool, bool)');
  const batchOf = library.func('llama_batch_get_one', types.batch, ['void *', 'int']);
  const decode = library.func('llama_decode', 'int', ['void *', types.batch]);
  const greedy: unknown = library.func('void *llama_sampler_init_greedy()')();
  const sample = library.func('int llama_sampler_sample(void *, void *, int)');
  const ids: unknown = koffi.alloc('int32', CONTEXT_TOKENS);
  const view = new Int32Array(koffi.view(ids, CONTEXT_TOKENS * Int32Array.BYTES_PER_ELEMENT));
  return (tokens) => {
    clear(memory, true);
    const length = Buffer.byteLength(PROMPT);
    const promptTokens: number = tokenize(vocabulary, PROMPT, length, ids, CONTEXT_TOKENS, true, false);
    decode(context, batchOf(ids, promptTokens));
    const started = performance.now();
    for (let count = 0; count < tokens; count++) {
      view[0] = sample(greedy, context, -1);
      decode(context, batchOf(ids, 1));
    }
    return (tokens * 1000) / (performance.now() - started);
  };
}

const [file = '', threads = '1'] = process.argv.slice(2);
const loop = openLoop(file, Number(threads));
process.on('message', (tokens: number) => process.send?.(loop(tokens)));
process.on('disconnect', () => process.exit(0));
process.send?.('ready');
