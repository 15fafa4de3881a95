/**
 * What the engine costs over llama.cpp itself: tokens per second of a bare decode loop over the C API and of the whole
 * engine (sandboxed child, sampling in TypeScript, channel), in turn within one run, so that a noisy machine hits both.
 * `node bench/decode.ts [MODEL.gguf] [ROUNDS]`; without a model the starter. Prints one JSON object.
 */
import koffi from 'koffi';
import { silentLog } from '../src/core/base/log.ts';
import { locateLibrary } from '../src/io/engine/llama/library-folder.ts';
import { createLlamaEngine } from '../src/io/engine/llama/llama-engine.ts';
import { llamaTypes } from '../src/io/engine/llama/llama-layouts.ts';
import { weightsFile } from '../tests/conformance/engine-fixture.ts';
import { realModel } from '../tests/fixtures/real-models.ts';

const TOKENS = 128;
const CONTEXT_TOKENS = 1024;
const FLASH_ATTENTION_DISABLED = 0;
const PROMPT = 'The history of computing began with';

type Loop = () => Promise<number>;

/** Greedy decoding with nothing around it. @returns tokens per second */
function bareLoop(file: string): Loop {
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
    n_threads: 1,
    n_threads_batch: 1,
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
  const view = new Int32Array(koffi.view(ids, CONTEXT_TOKENS * 4));
  return async () => {
    clear(memory, true);
    const promptTokens: number = tokenize(
      vocabulary,
      PROMPT,
      Buffer.byteLength(PROMPT),
      ids,
      CONTEXT_TOKENS,
      true,
      false,
    );
    decode(context, batchOf(ids, promptTokens));
    const started = performance.now();
    for (let count = 0; count < TOKENS; count++) {
      view[0] = sample(greedy, context, -1);
      decode(context, batchOf(ids, 1));
    }
    return (TOKENS * 1000) / (performance.now() - started);
  };
}

async function engineLoop(file: string): Promise<{ loop: Loop; isolation: string; close(): Promise<void> }> {
  const engine = createLlamaEngine({ log: silentLog });
  const model = await engine.load({
    name: 'bench',
    weights: [weightsFile(file)],
    threads: 1,
    contextTokens: CONTEXT_TOKENS,
  });
  const loop = async () => {
    // End tokens must not cut the run short: none of them may be chosen.
    const request = {
      prompt: { kind: 'text', text: PROMPT },
      sampling: { temperature: 0, logitBias: { 0: -100, 2: -100 } },
      maxTokens: TOKENS,
    } as const;
    for await (const event of model.generate(request)) {
      if (event.kind === 'finished') return (event.usage.completionTokens * 1000) / event.usage.completionMs;
    }
    return Number.NaN;
  };
  return { loop, isolation: model.info.isolation, close: () => model.close() };
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
}

const file = process.argv[2] ?? (await realModel('smollm2-135m-instruct'));
const rounds = Number(process.argv[3] ?? 7);
const bare = bareLoop(file);
const engine = await engineLoop(file);
const results = { bare: [] as number[], engine: [] as number[] };
await bare();
await engine.loop();
for (let round = 0; round < rounds; round++) {
  results.bare.push(await bare());
  results.engine.push(await engine.loop());
}
await engine.close();
const ratios = results.engine.map((value, index) => value / (results.bare[index] ?? Number.NaN));
const rounded = (value: number) => Number(value.toFixed(3));
console.log(
  JSON.stringify({
    tokens: TOKENS,
    rounds,
    bareTokensPerSecond: rounded(median(results.bare)),
    engineTokensPerSecond: rounded(median(results.engine)),
    ratio: {
      median: rounded(median(ratios)),
      min: rounded(Math.min(...ratios)),
      max: rounded(Math.max(...ratios)),
    },
    isolation: engine.isolation,
  }),
);
