import type { Digest } from './digest.ts';

/**
 * The port between whoever needs a language model and whatever runs one (llama.cpp in a child process, a remote
 * server, a fake). A route implements `LoadedModel` as well, so that evaluation takes "any model" as an argument.
 */
export interface LoadedModel {
  readonly info: ModelInfo;
  /**
   * Runs one generation. The iteration ends after a `finished` event and throws a FreeholdError otherwise: a stream
   * that ends without `finished` never happens.
   * @throws CONTEXT_EXCEEDED, TEMPLATE_FAILED, REQUEST_INVALID, ENGINE_LOST, ENGINE_FAILED, CANCELLED
   */
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncIterable<GenerateEvent>;
  /** @throws CONTEXT_EXCEEDED, NOT_SUPPORTED when the model does not embed, ENGINE_LOST, CANCELLED */
  embed(request: EmbedRequest, signal?: AbortSignal): Promise<EmbedResult>;
  /** Ends the model and frees its memory; running requests fail with CANCELLED. Idempotent. */
  close(): Promise<void>;
}

export interface ModelInfo {
  /** `llama`, `qwen2`, `bert`, …: `general.architecture` of the weights. */
  readonly architecture: string;
  readonly parameterCount: number;
  /** Tokens that prompt and answer may have together in this process. */
  readonly contextTokens: number;
  readonly vocabularyTokens: number;
  readonly embeddingLength: number;
  readonly hasChatTemplate: boolean;
  /** Embedding models (encoder-only, pooled) cannot generate. */
  readonly purpose: 'generate' | 'embed';
  /** Which isolation is in force for the process that holds the weights, in words for a log line. */
  readonly isolation: string;
}

export type Role = 'system' | 'user' | 'assistant';

export interface ChatMessage {
  readonly role: Role;
  readonly content: string;
  /** Some templates show it; must be plain text. */
  readonly name?: string;
}

export type Prompt =
  | {
      readonly kind: 'chat';
      readonly messages: readonly ChatMessage[];
      /** The last message is the beginning of the answer, to be continued. */
      readonly continueLast?: boolean;
    }
  /** Plain text for `/v1/completions`; never parsed for control tokens. */
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly tokens: readonly number[] };

/** All optional: what is absent comes from the package's `parameters`, then from the engine's defaults. */
export interface SamplingParameters {
  /** 0 is greedy. */
  readonly temperature?: number;
  readonly topP?: number;
  /** 0 turns it off. */
  readonly topK?: number;
  readonly minP?: number;
  readonly repeatPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  /** Token id → bias added to its logit, −100 … 100. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Unsigned 32 bit. Absent: random. */
  readonly seed?: number;
}

export interface GenerateRequest {
  readonly prompt: Prompt;
  readonly sampling?: SamplingParameters;
  /** Absent: until the model stops or the context is full. */
  readonly maxTokens?: number;
  /** The answer ends before the first of these; they are never part of the text. */
  readonly stop?: readonly string[];
  /** Log-probabilities of each chosen token, and of the `top` most likely ones (0–20). */
  readonly logprobs?: { readonly top: number };
}

/** Natural logarithms over the whole vocabulary, from the raw logits (before temperature, penalties and cuts). */
export interface TokenLogprob {
  readonly id: number;
  /** The token's own bytes; may be half a character. */
  readonly bytes: Uint8Array;
  readonly logprob: number;
}

export interface GeneratedToken extends TokenLogprob {
  readonly top: readonly TokenLogprob[];
}

export interface Usage {
  readonly promptTokens: number;
  /** Of the prompt, those that were not evaluated again. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly promptMs: number;
  readonly completionMs: number;
}

export type GenerateEvent =
  | { readonly kind: 'started'; readonly promptTokens: number }
  /**
   * `text` is whole characters only and contains no part of a stop string; `tokens` are those whose bytes ended in it
   * (with `logprobs` only, else empty). Text can be empty when tokens were held back before.
   */
  | { readonly kind: 'text'; readonly text: string; readonly tokens: readonly GeneratedToken[] }
  | {
      readonly kind: 'finished';
      readonly reason: 'stop' | 'length';
      readonly stop?: string;
      readonly usage: Usage;
    };

export interface EmbedRequest {
  readonly inputs: readonly (string | readonly number[])[];
}

export interface EmbedResult {
  /** One per input, L2-normalised, `embeddingLength` long. */
  readonly vectors: readonly Float32Array[];
  readonly promptTokens: number;
}

/**
 * A file whose bytes were verified through the very descriptor that is handed over, so that nobody can exchange the
 * file between check and use. The engine passes `fd` to its child process and never opens a path.
 */
export interface VerifiedFile {
  readonly fd: number;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Called once the weights are mapped. @throws DIGEST_MISMATCH when the file was written to since it was hashed */
  requireUnchanged(): Promise<void>;
  /** Idempotent. The engine may close as soon as its child has the descriptor and `requireUnchanged` passed. */
  close(): Promise<void>;
}

/** Weights as an engine takes them, in shard order. */
export interface WeightsFile {
  /** Path inside the package, for messages. */
  readonly name: string;
  /** Opens and verifies. @throws FILE_MISSING, DIGEST_MISMATCH, SIZE_MISMATCH naming the file */
  open(signal?: AbortSignal): Promise<VerifiedFile>;
}

export interface LoadRequest {
  /** For messages and the process title. */
  readonly name: string;
  readonly weights: readonly WeightsFile[];
  /** Jinja source; absent: the one in the weights. */
  readonly chatTemplate?: string;
  /** The package's own defaults. */
  readonly defaults?: SamplingParameters & { readonly stop?: readonly string[] };
  /** Absent: the model's own, at most the engine's default cap. */
  readonly contextTokens?: number;
  readonly threads?: number;
  /** Refuse with SANDBOX_UNAVAILABLE instead of running with less isolation. */
  readonly requireSandbox?: boolean;
}

/** Something that runs models. Every adapter passes the one suite in `tests/conformance/`. */
export interface Engine {
  /** @throws DIGEST_MISMATCH, SIZE_MISMATCH (naming the file), GGUF_INVALID, ENGINE_FAILED, OUT_OF_MEMORY, SANDBOX_UNAVAILABLE, PLATFORM_UNSUPPORTED */
  load(request: LoadRequest, signal?: AbortSignal): Promise<LoadedModel>;
}

/** One model that clients may name, as `/v1/models` shows it. */
export interface ModelSummary {
  /** What a client sends as `model`. */
  readonly id: string;
  /** Full name, version and variant, for people: `acme/triage@1.4.0#q4_0`. */
  readonly reference: string;
  /** Unix seconds. */
  readonly createdSeconds: number;
  /** Before the first `/` of the package name. */
  readonly owner: string;
}

/** What a server needs of the application: which models exist, and one of them ready to work. */
export interface ModelHost {
  list(): Promise<readonly ModelSummary[]>;
  /**
   * The model, verified and loaded; loads it if it is not (one load for concurrent callers). Do not close it: the
   * host owns it.
   * @throws MODEL_NOT_FOUND, whatever verification and `Engine.load` throw
   */
  use(id: string, signal?: AbortSignal): Promise<LoadedModel>;
  /** Throws what would keep the host from serving; resolves when it is ready. */
  requireReady(): Promise<void>;
}
