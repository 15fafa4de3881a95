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
   * @throws CONTEXT_EXCEEDED, TEMPLATE_FAILED, REQUEST_INVALID, SCHEMA_NOT_SUPPORTED, GRAMMAR_INVALID,
   * ENGINE_LOST, ENGINE_FAILED,
   * BUSY when too many wait or it waited too long, CANCELLED
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
  /** Requests that are worked on at once; more wait. */
  readonly parallelRequests: number;
  /** Names of the adapters that requests may choose. */
  readonly adapters: readonly string[];
}

export type Role = 'system' | 'user' | 'assistant' | 'tool';

export interface ChatMessage {
  readonly role: Role;
  readonly content: string;
  /** Some templates show it; must be plain text. */
  readonly name?: string;
  /** Of the role `assistant` only: calls that the model made in this turn. */
  readonly toolCalls?: readonly ToolCall[];
  /** Of the role `tool` only: the call that `content` answers. */
  readonly toolCallId?: string;
}

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON text of an object. */
  readonly arguments: string;
}

/** JSON Schema, draft 2020-12 as far as `core/grammar` can express it. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown };

export interface ToolDefinition {
  readonly name: string;
  readonly description?: string;
  /** Schema of the arguments, an object. Absent: an object with any members. */
  readonly parameters?: JsonSchema;
}

/** Tools that the model may know of, and whether it must call one. */
export interface ToolUse {
  readonly definitions: readonly ToolDefinition[];
  /**
   * `none`: an answer in words; the model is told of the tools only where the conversation holds calls already.
   * `required`: one of them; `named`: this one. Enforced while sampling.
   */
  readonly choice:
    | { readonly kind: 'none' }
    | { readonly kind: 'required' }
    | { readonly kind: 'named'; readonly name: string };
  /** Several calls in one answer. */
  readonly isParallel: boolean;
}

/** The form that an answer must have; enforced while sampling, so that it never has another one. */
export type Constraint =
  /** Any JSON object. */
  | { readonly kind: 'json-object' }
  | { readonly kind: 'json-schema'; readonly schema: JsonSchema }
  /** llama.cpp's grammar notation; the rule `root` is the answer. */
  | { readonly kind: 'gbnf'; readonly grammar: string };

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
  /** Not together with `tools` whose choice is `required` or `named`. */
  readonly constraint?: Constraint;
  /** With a chat prompt only. */
  readonly tools?: ToolUse;
  /** Name of one of the adapters that the model was loaded with. */
  readonly adapter?: string;
  /** Requests that wait are taken in turn from those who asked (an API key, a user): nobody waits for another's pile. */
  readonly requester?: string;
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
  /** A call begins; only with `tools`. Its arguments follow in pieces, before the next call or the end. */
  | { readonly kind: 'tool-call'; readonly index: number; readonly name: string }
  /** Pieces of the JSON text of the arguments of call `index`. */
  | { readonly kind: 'tool-arguments'; readonly index: number; readonly text: string }
  | {
      readonly kind: 'finished';
      /** `length` in the middle of a constrained answer or of a call: it is not complete then. */
      readonly reason: 'stop' | 'length' | 'tool-calls';
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
  /** What the bytes must have, where that is known before they are opened. */
  readonly digest?: Digest;
  /** Opens and verifies. @throws FILE_MISSING, DIGEST_MISMATCH, SIZE_MISMATCH naming the file */
  open(signal?: AbortSignal): Promise<VerifiedFile>;
}

/** A LoRA adapter as an engine takes it. */
export interface AdapterFile {
  /** What a request writes as `adapter`. */
  readonly name: string;
  readonly file: WeightsFile;
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
  /** Requests worked on at once, each with a context of its own; absent: the engine's default. */
  readonly parallelRequests?: number;
  /** Absent: measured for this model on this machine. */
  readonly threads?: number;
  /** LoRA adapters (GGUF) for this base, chosen by requests. */
  readonly adapters?: readonly AdapterFile[];
  /** Refuse with SANDBOX_UNAVAILABLE instead of running with less isolation. */
  readonly requireSandbox?: boolean;
}

/** Something that runs models. Every adapter passes the one suite in `tests/conformance/`. */
export interface Engine {
  /** @throws DIGEST_MISMATCH, SIZE_MISMATCH (naming the file), GGUF_INVALID, ADAPTER_INVALID, ENGINE_FAILED, OUT_OF_MEMORY, SANDBOX_UNAVAILABLE, PLATFORM_UNSUPPORTED */
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
