import koffi from 'koffi';
import { FreeholdError } from '../../../core/base/errors.ts';
import type { LlamaBatch, LlamaLibrary, Pointer } from './llama-library.ts';
import { allocateNative } from './native-memory.ts';

/**
 * Tokens per native call while a prompt is read; pieces begin at its multiples. ggml looks at the abort byte between the
 * operations of a graph, the largest of which is about 1 % of a call: at 64 tokens that is 50 ms for a 7B model on one
 * slow core. Larger pieces are not faster on CPUs (measured: 64 to 512 within 3 %) and need more working memory.
 */
export const PIECE_TOKENS = 64;

/** `llama_decode`'s result when the abort callback said so. */
const RESULT_ABORTED = 2;
const RESULT_NO_ROOM = 1;
const FLASH_ATTENTION_DISABLED = 0;

export interface ContextOptions {
  readonly contextTokens: number;
  readonly threads: number;
  readonly purpose: 'generate' | 'embed';
  readonly embeddingLength: number;
}

/**
 * One llama.cpp context with one sequence: the memory of a conversation. Calls must not overlap.
 *
 * Flash attention is off: with it, logits depend on how many tokens a call evaluates even among large calls; without it
 * they are the same to the last bit for every piece of two tokens or more (measured on the pinned library).
 */
export class NativeContext {
  readonly contextTokens: number;
  /** Most tokens in one call. */
  readonly batchTokens: number;
  readonly #library: LlamaLibrary;
  readonly #context: Pointer;
  readonly #memory: Pointer | null;
  readonly #embeddingLength: number;
  readonly #batch: LlamaBatch;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #wanted: Int8Array;
  readonly #abort: Uint8Array;
  #logitsAt: { readonly address: Pointer; readonly values: Float32Array } | undefined;

  /** @throws OUT_OF_MEMORY, ENGINE_FAILED with llama.cpp's own words */
  constructor(library: LlamaLibrary, model: Pointer, options: ContextOptions) {
    const isEmbedding = options.purpose === 'embed';
    // An encoder looks at all tokens of an input at once.
    this.batchTokens = isEmbedding ? options.contextTokens : Math.min(PIECE_TOKENS, options.contextTokens);
    const context = library.newContext(model, {
      ...library.contextDefaultParams(),
      n_ctx: options.contextTokens,
      n_batch: this.batchTokens,
      n_ubatch: this.batchTokens,
      n_threads: options.threads,
      n_threads_batch: options.threads,
      flash_attn_type: FLASH_ATTENTION_DISABLED,
      embeddings: isEmbedding,
    });
    if (context === null) throw creationFailed(library, options.contextTokens);
    this.#library = library;
    this.#context = context;
    this.#memory = library.memory(context);
    this.#embeddingLength = options.embeddingLength;
    this.contextTokens = library.contextTokens(context);

    const tokens = allocateNative(this.batchTokens * 4);
    const positions = allocateNative(this.batchTokens * 4);
    const sequenceCounts = allocateNative(this.batchTokens * 4);
    const sequences = allocateNative(this.batchTokens * 8);
    const sequenceZero = allocateNative(4);
    const wanted = allocateNative(this.batchTokens);
    new Int32Array(sequenceCounts.bytes).fill(1);
    new BigUint64Array(sequences.bytes).fill(sequenceZero.address);
    this.#tokens = new Int32Array(tokens.bytes);
    this.#positions = new Int32Array(positions.bytes);
    this.#wanted = new Int8Array(wanted.bytes);
    this.#batch = {
      n_tokens: 0,
      token: tokens.address,
      embd: null,
      pos: positions.address,
      n_seq_id: sequenceCounts.address,
      seq_id: sequences.address,
      logits: wanted.address,
    };
    // Two bytes: the flag and the zero that ends `strlen`.
    const abort = allocateNative(16);
    this.#abort = new Uint8Array(abort.bytes);
    library.setAbortCallback(context, library.byteIsSet, abort.address);
  }

  /** Ends the call that is running, from the event loop; and every further one until `resume`. */
  abort(): void {
    this.#abort[0] = 1;
  }

  resume(): void {
    this.#abort[0] = 0;
  }

  /**
   * Evaluates tokens from `position` on; logits of the last one if wanted.
   * @returns false when aborted: nothing of it counts
   * @throws ENGINE_FAILED
   */
  async decode(tokens: readonly number[], position: number, wantsLogits: boolean): Promise<boolean> {
    this.#fill(tokens, position);
    this.#wanted.fill(0);
    if (wantsLogits) this.#wanted[tokens.length - 1] = 1;
    const result = await this.#library.decode(this.#context, { ...this.#batch, n_tokens: tokens.length });
    return this.#isDone(result, tokens.length);
  }

  /** Evaluates one whole input with an encoder and pools it. @returns undefined when aborted */
  async embed(tokens: readonly number[]): Promise<Float32Array | undefined> {
    if (this.#memory !== null) this.#library.memoryClear(this.#memory, true);
    this.#fill(tokens, 0);
    this.#wanted.fill(1, 0, tokens.length);
    const batch = { ...this.#batch, n_tokens: tokens.length };
    // Encoders have no memory of earlier tokens; models with one (last-token pooling) decode.
    const call = this.#memory === null ? this.#library.encode : this.#library.decode;
    if (!this.#isDone(await call(this.#context, batch), tokens.length)) return undefined;
    const address = this.#library.embeddingOfSequence(this.#context, 0);
    if (address === null) throw new FreeholdError('ENGINE_FAILED', 'llama.cpp gave no embedding');
    return new Float32Array(koffi.view(address, 4 * this.#embeddingLength)).slice();
  }

  /** Logits of the last token of the last `decode` that wanted them. Valid until the next call. */
  logits(vocabularyTokens: number): Float32Array {
    const address = this.#library.logitsOf(this.#context, -1);
    // A view of NULL would end the process.
    if (address === null) throw new FreeholdError('ENGINE_FAILED', 'llama.cpp gave no logits');
    if (this.#logitsAt?.address !== address) {
      this.#logitsAt = { address, values: new Float32Array(koffi.view(address, 4 * vocabularyTokens)) };
    }
    return this.#logitsAt.values;
  }

  /** Forgets everything from `position` on. @returns how many leading positions are left: `position`, or 0 */
  keep(position: number): number {
    if (this.#memory === null) return 0;
    if (position > 0 && this.#library.memoryRemove(this.#memory, 0, position, -1)) {
      // Sliding-window memories may have dropped the beginning already.
      if (this.#library.memoryLowestPosition(this.#memory, 0) === 0) return position;
    }
    this.#library.memoryClear(this.#memory, true);
    return 0;
  }

  #fill(tokens: readonly number[], position: number): void {
    if (
      tokens.length === 0 ||
      tokens.length > this.batchTokens ||
      position + tokens.length > this.contextTokens
    ) {
      throw new FreeholdError('INTERNAL', `batch of ${tokens.length} tokens at ${position}`);
    }
    for (let index = 0; index < tokens.length; index++) {
      this.#tokens[index] = tokens[index] as number;
      this.#positions[index] = position + index;
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

function creationFailed(library: LlamaLibrary, contextTokens: number): FreeholdError {
  const said = complaints(library);
  const isMemory = /alloc|memory/i.test(said);
  return new FreeholdError(
    isMemory ? 'OUT_OF_MEMORY' : 'ENGINE_FAILED',
    `llama.cpp could not make a context of ${contextTokens} tokens${said}`,
    isMemory ? { hint: 'ask for a smaller context, or choose a smaller variant' } : {},
  );
}

/** llama.cpp's last complaints, to be appended to a message. */
export function complaints(library: LlamaLibrary): string {
  const lines = library.recentComplaints();
  return lines.length === 0 ? '' : `: ${lines.slice(-3).join('; ')}`;
}
