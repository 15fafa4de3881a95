import { writeSync } from 'node:fs';
import koffi, { type LibraryHandle } from 'koffi';
import { FreeholdError } from '../../../core/base/errors.ts';
import type { LibraryFiles } from './library-folder.ts';
import {
  type ContextParams,
  type LlamaTypes,
  llamaTypes,
  type ModelParams,
  requireKnownDefaults,
} from './llama-layouts.ts';

/** An address in native memory. */
export type Pointer = bigint;

/** `llama_batch`; every member points to memory of `allocateNative`. */
export interface LlamaBatch {
  readonly n_tokens: number;
  readonly token: Pointer;
  readonly embd: null;
  readonly pos: Pointer;
  readonly n_seq_id: Pointer;
  readonly seq_id: Pointer;
  readonly logits: Pointer;
}

type Asynchronous<Arguments extends unknown[], Result> = (...args: Arguments) => Promise<Result>;

/** The functions of llama.h that we call, typed. Pointers that may be NULL are `Pointer | null`. */
export interface LlamaLibrary {
  modelDefaultParams(): ModelParams;
  contextDefaultParams(): ContextParams;
  loadFromFile(file: Pointer, params: ModelParams): Pointer | null;
  loadFromSplits(paths: readonly string[], count: number, params: ModelParams): Pointer | null;
  /** `fdopen(3)`. */
  openDescriptor(fd: number, mode: string): Pointer | null;
  newContext(model: Pointer, params: ContextParams): Pointer | null;
  freeContext(context: Pointer): void;
  /** Bytes of what a sequence remembers. */
  stateSize(context: Pointer, sequence: number): number;
  /** @returns bytes written */
  saveState(context: Pointer, state: Uint8Array, stateBytes: number, sequence: number): number;
  /** @returns bytes read, 0 when it was refused */
  restoreState(context: Pointer, state: Uint8Array, stateBytes: number, sequence: number): number;
  decode: Asynchronous<[context: Pointer, batch: LlamaBatch], number>;
  encode: Asynchronous<[context: Pointer, batch: LlamaBatch], number>;
  /** NULL for a position without output. */
  logitsOf(context: Pointer, index: number): Pointer | null;
  embeddingOfSequence(context: Pointer, sequence: number): Pointer | null;
  contextTokensOfSequence(context: Pointer): number;
  setThreads(context: Pointer, decode: number, batch: number): void;
  /** NULL when it is none, or does not fit the model; takes an open file and does not close it. */
  loadAdapter(model: Pointer, file: Pointer): Pointer | null;
  /** Replaces the adapter of a context, at full strength; undefined: none. */
  setAdapter(context: Pointer, adapter: Pointer | undefined): boolean;
  memory(context: Pointer): Pointer | null;
  /** False when the memory cannot forget a part (recurrent models). */
  memoryRemove(memory: Pointer, sequence: number, from: number, to: number): boolean;
  memoryClear(memory: Pointer, alsoData: boolean): void;
  /** Between sequences with cells of their own: the whole sequence only. */
  memoryCopy(memory: Pointer, from: number, to: number, fromPosition: number, toPosition: number): void;
  /** The lowest position that is still there, −1 for none. */
  memoryLowestPosition(memory: Pointer, sequence: number): number;
  setAbortCallback(context: Pointer, callback: Pointer, data: Pointer): void;
  vocabularyOf(model: Pointer): Pointer;
  tokenCount(vocabulary: Pointer): number;
  tokenAttributes(vocabulary: Pointer, token: number): number;
  tokenText(vocabulary: Pointer, token: number): string | null;
  isEndOfGeneration(vocabulary: Pointer, token: number): boolean;
  bosToken(vocabulary: Pointer): number;
  eosToken(vocabulary: Pointer): number;
  addsBos(vocabulary: Pointer): boolean;
  tokenize(
    vocabulary: Pointer,
    text: Uint8Array,
    textBytes: number,
    tokens: Int32Array,
    tokensMax: number,
    addSpecial: boolean,
    parseSpecial: boolean,
  ): number;
  tokenToPiece(
    vocabulary: Pointer,
    token: number,
    bytes: Uint8Array,
    bytesMax: number,
    strippedBlanks: number,
    special: boolean,
  ): number;
  trainedContextTokens(model: Pointer): number;
  embeddingLength(model: Pointer): number;
  hasEncoder(model: Pointer): boolean;
  hasDecoder(model: Pointer): boolean;
  isDiffusion(model: Pointer): boolean;
  chatTemplate(model: Pointer, name: null): string | null;
  /** NULL when the grammar cannot be read. An empty text gives a sampler that constrains nothing. */
  newGrammar(vocabulary: Pointer, grammar: string, root: string): Pointer | null;
  /** `candidates` points to a `llama_token_data_array`; logits of what may not come become −Infinity. */
  samplerApply(sampler: Pointer, candidates: Pointer): void;
  /** Ends the process when the grammar does not allow the token: check before. */
  samplerAccept(sampler: Pointer, token: number): void;
  samplerFree(sampler: Pointer): void;
  /** Address of a native `bool f(void *data)` that returns whether the byte at `data` is set. */
  readonly byteIsSet: Pointer;
  /** The last lines that llama.cpp logged as warning or error. */
  recentComplaints(): readonly string[];
}

/** An adapter's own `alpha` is part of its file. */
const FULL_STRENGTH = [1];
/** Lines kept for error messages; llama.cpp says why within two or three. */
const COMPLAINTS_MAX = 12;
const COMPLAINT_CHARACTERS_MAX = 300;
/** `GGML_LOG_LEVEL_WARN`; 4 is an error, 5 continues a line. */
const LOG_LEVEL_WARNING = 3;
const LOG_LEVEL_CONTINUED = 5;

/**
 * Loads the shared libraries and checks that they are the known ones.
 * @throws PLATFORM_UNSUPPORTED
 */
export function openLibrary(files: LibraryFiles): LlamaLibrary {
  const llama = loadShared(files.llama);
  const types = llamaTypes();
  const modelDefaultParams: () => ModelParams = llama.func(
    'llama_model_default_params',
    types.modelParams,
    [],
  );
  const contextDefaultParams: () => ContextParams = llama.func(
    'llama_context_default_params',
    types.contextParams,
    [],
  );
  const version: () => string = llama.func('const char *llama_version()');
  requireKnownDefaults(version(), modelDefaultParams(), contextDefaultParams());

  const recentComplaints = captureLog(llama);
  loadShared(files.ggml).func('void ggml_backend_load_all_from_path(const char *)')(files.folder);
  llama.func('void llama_backend_init()')();
  return {
    modelDefaultParams,
    contextDefaultParams,
    ...loadingFunctions(llama, types),
    ...contextFunctions(llama, types),
    ...vocabularyFunctions(llama),
    ...modelFunctions(llama),
    ...samplerFunctions(llama),
    ...libcFunctions(),
    recentComplaints,
  };
}

function loadShared(file: string): LibraryHandle {
  try {
    return koffi.load(file);
  } catch (cause) {
    throw new FreeholdError('PLATFORM_UNSUPPORTED', `cannot load ${file}`, { cause });
  }
}

function loadingFunctions(llama: LibraryHandle, types: LlamaTypes) {
  return {
    loadFromFile: llama.func('llama_model_load_from_file_ptr', 'void *', ['void *', types.modelParams]),
    loadFromSplits: llama.func('llama_model_load_from_splits', 'void *', [
      'const char **',
      'size_t',
      types.modelParams,
    ]),
    newContext: llama.func('llama_init_from_model', 'void *', ['void *', types.contextParams]),
  };
}

function contextFunctions(llama: LibraryHandle, types: LlamaTypes) {
  const setAdapters: (context: Pointer, adapters: Pointer[], count: number, scales: number[]) => number =
    llama.func('llama_set_adapters_lora', 'int32', ['void *', 'void **', 'size_t', 'float *']);
  const asynchronous = (name: string): Asynchronous<[Pointer, LlamaBatch], number> => {
    const call = llama.func(name, 'int32', ['void *', types.batch]);
    return (context, batch) =>
      new Promise((resolve, reject) => {
        call.async(context, batch, (error: unknown, result: number) => {
          if (error) reject(error);
          else resolve(result);
        });
      });
  };
  return {
    freeContext: llama.func('void llama_free(void *)'),
    stateSize: llama.func('size_t llama_state_seq_get_size(void *, int32_t)'),
    saveState: llama.func('size_t llama_state_seq_get_data(void *, void *, size_t, int32_t)'),
    restoreState: llama.func('size_t llama_state_seq_set_data(void *, void *, size_t, int32_t)'),
    decode: asynchronous('llama_decode'),
    encode: asynchronous('llama_encode'),
    logitsOf: llama.func('void *llama_get_logits_ith(void *, int32_t)'),
    embeddingOfSequence: llama.func('void *llama_get_embeddings_seq(void *, int32_t)'),
    contextTokensOfSequence: llama.func('uint32_t llama_n_ctx_seq(void *)'),
    setThreads: llama.func('void llama_set_n_threads(void *, int32_t, int32_t)'),
    loadAdapter: llama.func('void *llama_adapter_lora_init_from_file_ptr(void *, void *)'),
    setAdapter: (context: Pointer, adapter: Pointer | undefined): boolean =>
      setAdapters(
        context,
        adapter === undefined ? [] : [adapter],
        adapter === undefined ? 0 : 1,
        FULL_STRENGTH,
      ) === 0,
    memory: llama.func('void *llama_get_memory(void *)'),
    memoryRemove: llama.func('bool llama_memory_seq_rm(void *, int32_t, int32_t, int32_t)'),
    memoryCopy: llama.func('void llama_memory_seq_cp(void *, int32_t, int32_t, int32_t, int32_t)'),
    memoryClear: llama.func('void llama_memory_clear(void *, bool)'),
    memoryLowestPosition: llama.func('int32_t llama_memory_seq_pos_min(void *, int32_t)'),
    setAbortCallback: llama.func('void llama_set_abort_callback(void *, void *, void *)'),
  };
}

function vocabularyFunctions(llama: LibraryHandle) {
  return {
    vocabularyOf: llama.func('void *llama_model_get_vocab(void *)'),
    tokenCount: llama.func('int32_t llama_vocab_n_tokens(void *)'),
    tokenAttributes: llama.func('int32_t llama_vocab_get_attr(void *, int32_t)'),
    tokenText: llama.func('const char *llama_vocab_get_text(void *, int32_t)'),
    isEndOfGeneration: llama.func('bool llama_vocab_is_eog(void *, int32_t)'),
    bosToken: llama.func('int32_t llama_vocab_bos(void *)'),
    eosToken: llama.func('int32_t llama_vocab_eos(void *)'),
    addsBos: llama.func('bool llama_vocab_get_add_bos(void *)'),
    tokenize: llama.func('int32_t llama_tokenize(void *, void *, int32_t, void *, int32_t, bool, bool)'),
    tokenToPiece: llama.func('int32_t llama_token_to_piece(void *, int32_t, void *, int32_t, int32_t, bool)'),
  };
}

function modelFunctions(llama: LibraryHandle) {
  return {
    trainedContextTokens: llama.func('int32_t llama_model_n_ctx_train(void *)'),
    embeddingLength: llama.func('int32_t llama_model_n_embd_out(void *)'),
    hasEncoder: llama.func('bool llama_model_has_encoder(void *)'),
    hasDecoder: llama.func('bool llama_model_has_decoder(void *)'),
    isDiffusion: llama.func('bool llama_model_is_diffusion(void *)'),
    chatTemplate: llama.func('const char *llama_model_chat_template(void *, const char *)'),
  };
}

function samplerFunctions(llama: LibraryHandle) {
  return {
    newGrammar: llama.func('void *llama_sampler_init_grammar(void *, const char *, const char *)'),
    samplerApply: llama.func('void llama_sampler_apply(void *, void *)'),
    samplerAccept: llama.func('void llama_sampler_accept(void *, int32_t)'),
    samplerFree: llama.func('void llama_sampler_free(void *)'),
  };
}

function libcFunctions() {
  const libc = loadShared('libc.so.6');
  return {
    openDescriptor: libc.func('void *fdopen(int, const char *)'),
    // `strlen` of a buffer whose second byte is 0: 1 when the first byte is set, else 0. As a native function it may
    // be called from any thread of ggml while JavaScript does something else.
    byteIsSet: koffi.address(libc.symbol('strlen')),
  };
}

/**
 * Keeps the last complaints and writes them to stderr as well, where they survive an abort of native code. llama.cpp
 * calls back from worker threads; koffi then runs this on the main thread, which `decode` leaves free.
 */
function captureLog(llama: LibraryHandle): () => readonly string[] {
  const lines: string[] = [];
  let level = 0;
  const callback = koffi.register(
    (lineLevel: number, text: string | null) => {
      if (lineLevel !== LOG_LEVEL_CONTINUED) level = lineLevel;
      const line = (text ?? '').trim().slice(0, COMPLAINT_CHARACTERS_MAX);
      if (level < LOG_LEVEL_WARNING || line === '' || /^\.+$/.test(line)) return;
      lines.push(line);
      if (lines.length > COMPLAINTS_MAX) lines.shift();
      writeLine(line);
    },
    koffi.pointer(koffi.proto('void', ['int', 'const char *', 'void *'])),
  );
  llama.func('void llama_log_set(void *, void *)')(callback, null);
  return () => lines;
}

function writeLine(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {
    // A full pipe must not stop the model; the line is kept in memory.
  }
}
