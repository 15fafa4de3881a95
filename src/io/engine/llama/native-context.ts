import koffi from 'koffi';
import { FreeholdError } from '../../../core/base/errors.ts';
import { BATCH_TOKENS } from '../../../core/format/gguf/memory-estimate.ts';
import type { LlamaBatch, LlamaLibrary, Pointer } from './llama-library.ts';
import { allocateNative } from './native-memory.ts';

/**
 * Tokens per native call at most, while a prompt is read. Larger pieces are not faster on CPUs, and without flash attention
 * the working memory of a call grows with its tokens times the context.
 */
export const PIECE_TOKENS_MAX = BATCH_TOKENS;

/** `llama_decode`'s result when the abort callback said so. */
const RESULT_ABORTED = 2;
const RESULT_NO_ROOM = 1;
const FLASH_ATTENTION_DISABLED = 0;

export interface ContextOptions {
  /** Of each sequence. */
  readonly contextTokens: number;
  /** Sequences that can ever be evaluated side by side; there is one at first. */
  readonly sequencesMax: number;
  readonly threads: ThreadCounts;
  readonly purpose: 'generate' | 'embed';
  readonly embeddingLength: number;
}

export interface ThreadCounts {
  /** For calls with one token of each sequence. */
  readonly decode: number;
  /** For pieces of prompts. */
  readonly batch: number;
}

/** One token to be evaluated. */
export interface Row {
  readonly token: number;
  readonly position: number;
  readonly sequence: number;
  readonly wantsLogits: boolean;
}

/**
 * One llama.cpp context: the memory of several conversations. Calls must not overlap.
 *
 * Each sequence has cells of its own (`kv_unified` is off), and flash attention is off: so what a call computes for a
 * sequence does not depend on what the others hold, and pieces of any size that is a multiple of four give the same
 * numbers to the last bit (measured on the pinned library; `docs/decisions/2026-11-22-batching.md`). It is also the faster
 * way: a shared cache makes each sequence look at the cells of all.
 *
 * The cells of a sequence cost as much as a small model, and making them as long as loading one: there is one sequence
 * until several are needed (`grow`).
 */
export class NativeContext {
  /** Of each sequence. */
  readonly contextTokens: number;
  readonly sequencesMax: number;
  /** Most tokens in one call. */
  readonly batchTokens: number;
  readonly #library: LlamaLibrary;
  readonly #model: Pointer;
  readonly #options: ContextOptions;
  readonly #batch: BatchBuffers;
  readonly #abort: Uint8Array;
  readonly #abortAddress: Pointer;
  #open: OpenContext;
  #threads: ThreadCounts;
  #adapter: Pointer | undefined;
  /** Views of the rows of llama.cpp's output buffer, by address. */
  readonly #logitsViews = new Map<Pointer, Float32Array>();

  /** @throws OUT_OF_MEMORY, ENGINE_FAILED with llama.cpp's own words */
  constructor(library: LlamaLibrary, model: Pointer, options: ContextOptions) {
    const { contextTokens, sequencesMax, purpose, threads } = options;
    this.#library = library;
    this.#model = model;
    this.#options = options;
    this.sequencesMax = sequencesMax;
    // An encoder looks at all tokens of an input at once.
    this.batchTokens = purpose === 'embed' ? contextTokens : Math.max(PIECE_TOKENS_MAX, sequencesMax);
    // Two bytes: the flag and the zero that ends `strlen`.
    const abort = allocateNative(16);
    this.#abort = new Uint8Array(abort.bytes);
    this.#abortAddress = abort.address;
    this.#threads = threads;
    this.#open = this.#make(1);
    if (sequencesMax > 1 && !this.#canMove()) {
      library.freeContext(this.#open.context);
      this.#open = this.#make(sequencesMax);
    }
    // The library rounds up to its own blocks; a model is not asked for more than it was trained for.
    this.contextTokens = Math.min(contextTokens, library.contextTokensOfSequence(this.#open.context));
    this.#batch = new BatchBuffers(this.batchTokens, sequencesMax);
  }

  /** Sequences that can be evaluated side by side now. */
  get sequences(): number {
    return this.#open.sequences;
  }

  /**
   * Makes room for twice as many sequences, at most `sequencesMax`. What they remember stays, to the last bit. Takes as long
   * as touching the new memory: do it between calls.
   * @throws ENGINE_FAILED, OUT_OF_MEMORY when not even the old size can be had again: the context is of no use then
   */
  grow(): void {
    const sequences = Math.min(this.sequencesMax, 2 * this.sequences);
    if (sequences === this.sequences) return;
    const states = Array.from({ length: this.sequences }, (_, sequence) => this.#save(sequence));
    // Before the new one is made: there may not be memory for both.
    this.#library.freeContext(this.#open.context);
    this.#logitsViews.clear();
    this.#open = this.#make(sequences);
    for (const [sequence, state] of states.entries()) {
      this.#restore(sequence, withStreams(state, states.length, sequences));
    }
  }

  /** Ends the call that is running, from the event loop; and every further one until `resume`. */
  abort(): void {
    this.#abort[0] = 1;
  }

  resume(): void {
    this.#abort[0] = 0;
  }

  /** For the calls from now on. */
  setThreads(threads: ThreadCounts): void {
    this.#threads = threads;
    this.#library.setThreads(this.#open.context, threads.decode, threads.batch);
  }

  /** The adapter of the calls from now on. @throws ENGINE_FAILED */
  setAdapter(adapter: Pointer | undefined): void {
    if (!this.#library.setAdapter(this.#open.context, adapter)) {
      throw new FreeholdError('ENGINE_FAILED', `llama.cpp refused an adapter${complaints(this.#library)}`);
    }
    this.#adapter = adapter;
  }

  /**
   * Evaluates rows; those of one sequence are in order and go on where its memory ends.
   * @returns false when aborted: nothing of it counts, call `trim` for every sequence of it
   * @throws ENGINE_FAILED
   */
  async decode(rows: readonly Row[]): Promise<boolean> {
    this.#requireFit(rows);
    const batch = this.#batch.fill(rows);
    return this.#isDone(await this.#library.decode(this.#open.context, batch), rows.length);
  }

  /** Evaluates one whole input with an encoder and pools it. @returns undefined when aborted */
  async embed(tokens: readonly number[]): Promise<Float32Array | undefined> {
    const { context, memory } = this.#open;
    if (memory !== null) this.#library.memoryClear(memory, true);
    const rows = tokens.map((token, position) => ({ token, position, sequence: 0, wantsLogits: true }));
    this.#requireFit(rows);
    const batch = this.#batch.fill(rows);
    // Encoders have no memory of earlier tokens; models with one (last-token pooling) decode.
    const call = memory === null ? this.#library.encode : this.#library.decode;
    if (!this.#isDone(await call(context, batch), tokens.length)) return undefined;
    const address = this.#library.embeddingOfSequence(context, 0);
    if (address === null) throw new FreeholdError('ENGINE_FAILED', 'llama.cpp gave no embedding');
    return new Float32Array(koffi.view(address, 4 * this.#options.embeddingLength)).slice();
  }

  /** Logits of row `index` of the last `decode`, which must have wanted them. Valid until the next call. */
  logits(index: number, vocabularyTokens: number): Float32Array {
    const address = this.#library.logitsOf(this.#open.context, index);
    // A view of NULL would end the process.
    if (address === null) throw new FreeholdError('ENGINE_FAILED', 'llama.cpp gave no logits');
    let view = this.#logitsViews.get(address);
    if (view === undefined) {
      // The buffer has one row for each sequence, and moves at most a few times.
      if (this.#logitsViews.size > 4 * this.sequences) this.#logitsViews.clear();
      view = new Float32Array(koffi.view(address, 4 * vocabularyTokens));
      this.#logitsViews.set(address, view);
    }
    return view;
  }

  /**
   * Forgets everything of a sequence from `position` on.
   * @returns how many leading positions are left: `position`, or 0
   */
  trim(sequence: number, position: number): number {
    const { memory } = this.#open;
    if (memory === null) return 0;
    if (position > 0 && this.#library.memoryRemove(memory, sequence, position, -1)) {
      // Sliding-window memories may have dropped the beginning already.
      if (this.#library.memoryLowestPosition(memory, sequence) === 0) return position;
    }
    this.#library.memoryRemove(memory, sequence, -1, -1);
    return 0;
  }

  /** Makes `to` remember what `from` does. Takes about as long as copying the whole memory of a sequence. */
  copy(from: number, to: number): void {
    const { memory } = this.#open;
    if (memory === null) return;
    this.#library.memoryRemove(memory, to, -1, -1);
    this.#library.memoryCopy(memory, from, to, -1, -1);
  }

  #make(sequences: number): OpenContext {
    const { contextTokens, purpose } = this.#options;
    const isEmbedding = purpose === 'embed';
    const context = this.#library.newContext(this.#model, {
      ...this.#library.contextDefaultParams(),
      n_ctx: contextTokens * sequences,
      n_batch: this.batchTokens,
      n_ubatch: this.batchTokens,
      n_seq_max: sequences,
      // Else room is made for the logits of a whole piece: half a gigabyte for the largest vocabularies.
      n_outputs_max: isEmbedding ? 0 : sequences,
      n_threads: this.#threads.decode,
      n_threads_batch: this.#threads.batch,
      flash_attn_type: FLASH_ATTENTION_DISABLED,
      kv_unified: false,
      embeddings: isEmbedding,
    });
    if (context === null) throw creationFailed(this.#library, contextTokens, sequences);
    this.#library.setAbortCallback(context, this.#library.byteIsSet, this.#abortAddress);
    if (this.#adapter !== undefined) this.#library.setAdapter(context, this.#adapter);
    return { context, memory: this.#library.memory(context), sequences };
  }

  /**
   * Whether what a sequence remembers can be moved into a context with more of them. An empty plain cache says "one stream,
   * no cells"; caches with windows, states or indexes say more, and `withStreams` does not know their form.
   */
  #canMove(): boolean {
    return this.#library.stateSize(this.#open.context, 0) === EMPTY_STATE_BYTES;
  }

  #save(sequence: number): Uint8Array {
    const { context } = this.#open;
    const state = new Uint8Array(this.#library.stateSize(context, sequence));
    const written = this.#library.saveState(context, state, state.length, sequence);
    if (written !== state.length)
      throw new FreeholdError('ENGINE_FAILED', 'llama.cpp did not give its state');
    return state;
  }

  #restore(sequence: number, state: Uint8Array): void {
    if (this.#library.restoreState(this.#open.context, state, state.length, sequence) > 0) return;
    throw new FreeholdError('ENGINE_FAILED', 'llama.cpp did not take its state back');
  }

  #requireFit(rows: readonly Row[]): void {
    const outside = rows.find(
      ({ position, sequence }) => position >= this.contextTokens || sequence >= this.sequences,
    );
    if (rows.length === 0 || rows.length > this.batchTokens || outside !== undefined) {
      throw new FreeholdError(
        'INTERNAL',
        `batch of ${rows.length} tokens${outside === undefined ? '' : `, one at ${outside.position} of sequence ${outside.sequence}`}`,
      );
    }
  }

  #isDone(result: number, tokens: number): boolean {
    if (result === 0) return true;
    if (result === RESULT_ABORTED) return false;
    const reason = result === RESULT_NO_ROOM ? 'no room in the context' : `code ${result}`;
    throw new FreeholdError(
      'ENGINE_FAILED',
      `llama.cpp could not evaluate ${tokens} tokens: ${reason}${complaints(this.#library)}`,
    );
  }
}

const COUNT_BYTES = 4;
/** The number of streams, and the number of cells in the only one. */
const EMPTY_STATE_BYTES = 2 * COUNT_BYTES;

/**
 * The state of one sequence, as a context with more streams takes it: it begins with the number of streams, and each stream
 * in which the sequence has no cells is a zero (`llama_kv_cache::state_write` of the pinned version).
 */
function withStreams(state: Uint8Array, streams: number, wanted: number): Uint8Array {
  const moved = new Uint8Array(state.length + COUNT_BYTES * (wanted - streams));
  moved.set(state);
  new DataView(moved.buffer).setUint32(0, wanted, true);
  return moved;
}

interface OpenContext {
  readonly context: Pointer;
  /** Encoders have none. */
  readonly memory: Pointer | null;
  readonly sequences: number;
}

/** The arrays behind `llama_batch`. */
class BatchBuffers {
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #sequencePointers: BigUint64Array;
  readonly #sequenceAddress: Pointer;
  readonly #wanted: Int8Array;
  readonly #batch: LlamaBatch;

  constructor(rowsMax: number, sequences: number) {
    const tokens = allocateNative(rowsMax * 4);
    const positions = allocateNative(rowsMax * 4);
    const sequenceCounts = allocateNative(rowsMax * 4);
    const sequencePointers = allocateNative(rowsMax * 8);
    const sequenceIds = allocateNative(sequences * 4);
    const wanted = allocateNative(rowsMax);
    new Int32Array(sequenceCounts.bytes).fill(1);
    new Int32Array(sequenceIds.bytes).forEach((_, index, ids) => {
      ids[index] = index;
    });
    this.#tokens = new Int32Array(tokens.bytes);
    this.#positions = new Int32Array(positions.bytes);
    this.#sequencePointers = new BigUint64Array(sequencePointers.bytes);
    this.#sequenceAddress = sequenceIds.address;
    this.#wanted = new Int8Array(wanted.bytes);
    this.#batch = {
      n_tokens: 0,
      token: tokens.address,
      embd: null,
      pos: positions.address,
      n_seq_id: sequenceCounts.address,
      seq_id: sequencePointers.address,
      logits: wanted.address,
    };
  }

  fill(rows: readonly Row[]): LlamaBatch {
    for (const [index, row] of rows.entries()) {
      this.#tokens[index] = row.token;
      this.#positions[index] = row.position;
      this.#sequencePointers[index] = this.#sequenceAddress + 4n * BigInt(row.sequence);
      this.#wanted[index] = row.wantsLogits ? 1 : 0;
    }
    return { ...this.#batch, n_tokens: rows.length };
  }
}

function creationFailed(library: LlamaLibrary, contextTokens: number, sequences: number): FreeholdError {
  const said = complaints(library);
  const isMemory = /alloc|memory/i.test(said);
  return new FreeholdError(
    isMemory ? 'OUT_OF_MEMORY' : 'ENGINE_FAILED',
    `llama.cpp could not make ${sequences} contexts of ${contextTokens} tokens${said}`,
    isMemory
      ? { hint: 'ask for a smaller context or fewer parallel requests, or choose a smaller variant' }
      : {},
  );
}

/** llama.cpp's last complaints, to be appended to a message. */
export function complaints(library: LlamaLibrary): string {
  const lines = library.recentComplaints();
  return lines.length === 0 ? '' : `: ${lines.slice(-3).join('; ')}`;
}
