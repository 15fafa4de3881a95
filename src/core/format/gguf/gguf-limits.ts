/**
 * Everything before the tensor data. The largest we know (512,000 merges, 262,000 tokens with scores) have about
 * 20 MiB; what a reader keeps is at most this, plus 1/64 of it for indexes, plus the tensor list.
 */
export const HEADER_BYTES_MAX = 32 << 20;
/** Keys and single strings become JavaScript strings of up to twice their size; real headers have under 1 MiB. */
export const TEXT_BYTES_MAX = 6 << 20;
/** Real headers have 20 to 100 keys. */
export const METADATA_ENTRIES_MAX = 4096;
/** The specification allows 65,535; ggml's own keys stay under 64. */
export const KEY_BYTES_MAX = 1024;
/** One string per expert and layer of an unmerged mixture model: about 25,000. A tensor costs us some 400 bytes. */
export const TENSORS_MAX = 32_768;
/** `GGML_MAX_NAME` is 64 with its final NUL: ggml refuses a name of 64 bytes. */
export const TENSOR_NAME_BYTES_MAX = 63;
/** `GGML_MAX_DIMS`. */
export const TENSOR_DIMENSIONS_MAX = 4;
/** A page of the largest page size in use is 64 KiB; ggml itself sets no bound, and pads by this. */
export const ALIGNMENT_BYTES_MAX = 1 << 20;
/** The specification asks for a multiple of 8. */
export const ALIGNMENT_BYTES_MIN = 8;
/** How much is read at once while the header is parsed: few calls, little memory. */
export const WINDOW_BYTES = 1 << 20;

/** `LLAMA_MAX_LAYERS` of v0.5.0: arrays of this length on native stack and heap are indexed by layer. */
export const BLOCKS_MAX = 512;
/** `LLAMA_MAX_EXPERTS` of v0.5.0. */
export const EXPERTS_MAX = 512;
/** The largest vocabularies have 262,144 tokens; `none` tokenizers allocate what the file claims. */
export const VOCABULARY_TOKENS_MAX = 1 << 21;
/** Real tokens stay under 1 KiB. */
export const TOKEN_BYTES_MAX = 1 << 16;
/** Ten million tokens are advertised; the engine caps what it allocates, this only stops nonsense. */
export const CONTEXT_TOKENS_MAX = 1 << 27;
/** The widest models have 20,000; products of two widths must stay far below 2⁶³. */
export const WIDTH_MAX = 1 << 24;
/** Published adapters have ranks of 1 to 256; one as large as the matrix would be no low-rank adapter any more. */
export const LORA_RANK_MAX = 4096;
/** Published adapters have one or two times their rank; far more makes every logit infinite. */
export const LORA_ALPHA_MAX = 1 << 16;
/** llama.cpp counts split files in 16 bits; five digits stand in the file name. */
export const SHARDS_MAX = 65_535;
