import { z } from 'zod';
import { FreeholdError } from '../../../core/base/errors.ts';
import {
  LOGIT_BIASES_MAX,
  PARALLEL_REQUESTS_MAX,
  STOP_STRING_CHARACTERS_MAX,
  TOOLS_MAX,
  TOP_LOGPROBS_MAX,
} from '../../../core/base/request-limits.ts';
import { GRAMMAR_CHARACTERS_MAX } from '../../../core/grammar/grammar-limits.ts';
import { STOP_STRINGS_MAX } from './stop-strings.ts';

/**
 * The messages between the server (parent) and the process that holds a model (child).
 *
 * Neither side trusts the other's bytes: a hostile weights file may own the child, and the child is the last to
 * check what reaches native code. Unknown fields, wrong types and numbers out of range end the process.
 */

/** A prompt of a million tokens at 16 bytes each; longer than any context that this engine offers. */
export const PARENT_FRAME_BYTES_MAX = 16 << 20;
/** One token with 20 alternatives is 4 kB, an embedding of 16,384 numbers 87 kB. */
export const CHILD_FRAME_BYTES_MAX = 1 << 20;
/** Contexts beyond this need more memory than one machine has. */
export const CONTEXT_TOKENS_MAX = 1 << 20;
/** Gemma has 262,144; ids are below it. */
export const VOCABULARY_TOKENS_MAX = 1 << 22;
/** Longest chat that makes sense in a context; each message costs at least three tokens. */
export const MESSAGES_MAX = 65_536;
/** OpenAI's own limit for one call is 2,048. */
export const EMBED_INPUTS_MAX = 2048;
/** llama.cpp knows up to 16,384 for the largest models; twice that. */
const EMBEDDING_LENGTH_MAX = 32_768;

/** Loaded over one base at once. */
const ADAPTERS_MAX = 32;

const requestId = z.int().min(1).max(Number.MAX_SAFE_INTEGER);
const token = z
  .int()
  .min(0)
  .max(VOCABULARY_TOKENS_MAX - 1);
const count = z.int().min(0).max(CONTEXT_TOKENS_MAX);
const milliseconds = z.number().min(0).max(1e12);

const sampling = z.strictObject({
  temperature: z.number().min(0),
  topP: z.number().min(0).max(1),
  topK: z.int().min(0),
  minP: z.number().min(0).max(1),
  repeatPenalty: z.number().positive(),
  presencePenalty: z.number(),
  frequencyPenalty: z.number(),
  logitBias: z
    .record(z.string().regex(/^\d{1,7}$/), z.number())
    .refine((biases) => Object.keys(biases).length <= LOGIT_BIASES_MAX),
  seed: z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
});

const toolCall = z.strictObject({ id: z.string(), name: z.string(), arguments: z.string() });

const chatMessage = z.strictObject({
  role: z.enum(['system', 'user', 'assistant', 'tool']),
  content: z.string(),
  name: z.string().exactOptional(),
  toolCalls: z.array(toolCall).exactOptional(),
  toolCallId: z.string().exactOptional(),
});

/** What the chat template shows of a tool; the answer's form is the grammar's matter. */
const toolDefinition = z.strictObject({
  name: z.string(),
  description: z.string().exactOptional(),
  parameters: z.union([z.boolean(), z.record(z.string(), z.unknown())]).exactOptional(),
});

const prompt = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('chat'),
    messages: z.array(chatMessage).min(1).max(MESSAGES_MAX),
    continueLast: z.boolean(),
    tools: z.array(toolDefinition).min(1).max(TOOLS_MAX).exactOptional(),
  }),
  z.strictObject({ kind: z.literal('text'), text: z.string() }),
  z.strictObject({ kind: z.literal('tokens'), tokens: z.array(token).max(CONTEXT_TOKENS_MAX) }),
]);

const threads = z.int().min(1).max(1024);
const threadCounts = z.strictObject({ decode: threads, batch: threads });
const positiveRate = z.number().positive().max(1e9);

const loadMessage = z.strictObject({
  kind: z.literal('load'),
  library: z.strictObject({ folder: z.string(), llama: z.string(), ggml: z.string() }),
  /** Descriptors of the weights in shard order, numbered as the child sees them. */
  weights: z.array(z.int().min(3).max(4096)).min(1),
  chatTemplate: z.string().exactOptional(),
  purpose: z.enum(['generate', 'embed']),
  /** Descriptors of LoRA adapters, which requests choose by their index. */
  adapters: z.array(z.int().min(3).max(4096)).max(ADAPTERS_MAX),
  contextTokens: z.int().min(1).max(CONTEXT_TOKENS_MAX).exactOptional(),
  parallelRequests: z.int().min(1).max(PARALLEL_REQUESTS_MAX),
  threads: threadCounts,
  /** Measure the best numbers instead, and say so. */
  measuresThreads: z.boolean(),
  /** What `threads` reached when it was measured; absent: nobody knows. */
  tokensPerCpuSecond: positiveRate.exactOptional(),
});

const generateMessage = z.strictObject({
  kind: z.literal('generate'),
  id: requestId,
  prompt,
  sampling,
  /** The caller gave the seed, or wants the best token: the answer must not depend on earlier requests. */
  isReproducible: z.boolean(),
  maxTokens: count.exactOptional(),
  stop: z.array(z.string().min(1).max(STOP_STRING_CHARACTERS_MAX)).max(STOP_STRINGS_MAX),
  topLogprobs: z.int().min(0).max(TOP_LOGPROBS_MAX).exactOptional(),
  /** GBNF; the rule `root` is the answer, which ends where it ends. */
  grammar: z.string().min(1).max(GRAMMAR_CHARACTERS_MAX).exactOptional(),
  /** Index into the adapters of the load message. */
  adapter: z
    .int()
    .min(0)
    .max(ADAPTERS_MAX - 1)
    .exactOptional(),
});

const embedMessage = z.strictObject({
  kind: z.literal('embed'),
  id: requestId,
  inputs: z.array(z.union([z.string(), z.array(token).max(CONTEXT_TOKENS_MAX)])).max(EMBED_INPUTS_MAX),
});

const parentMessage = z.discriminatedUnion('kind', [
  loadMessage,
  generateMessage,
  embedMessage,
  z.strictObject({ kind: z.literal('cancel'), id: requestId }),
  z.strictObject({ kind: z.literal('close') }),
]);

export type LoadMessage = z.infer<typeof loadMessage>;
export type GenerateMessage = z.infer<typeof generateMessage>;
export type EmbedMessage = z.infer<typeof embedMessage>;
export type ParentMessage = z.infer<typeof parentMessage>;

/** The only codes that a child may report; what the parent alone can know (ENGINE_LOST, digests) is not among them. */
export const childErrorCodes = [
  'CONTEXT_EXCEEDED',
  'TEMPLATE_FAILED',
  'REQUEST_INVALID',
  'SCHEMA_NOT_SUPPORTED',
  'GRAMMAR_INVALID',
  'NOT_SUPPORTED',
  'ADAPTER_INVALID',
  'ENGINE_FAILED',
  'OUT_OF_MEMORY',
  'PLATFORM_UNSUPPORTED',
  'CANCELLED',
  'INTERNAL',
] as const;
const childErrorCode = z.enum(childErrorCodes);

/** Error messages of the child reach users: bounded, one screen. */
export const CHILD_MESSAGE_CHARACTERS_MAX = 4096;

const failure = {
  code: childErrorCode,
  message: z.string().max(CHILD_MESSAGE_CHARACTERS_MAX),
  detail: z
    .record(z.string().max(64), z.union([z.string().max(1024), z.number(), z.boolean(), z.null()]))
    .exactOptional(),
};

const tokenLogprob = {
  id: token,
  /** base64 */
  bytes: z.base64().max(4096),
  logprob: z.number().max(0),
};

const generatedToken = z.strictObject({
  ...tokenLogprob,
  top: z.array(z.strictObject(tokenLogprob)).max(TOP_LOGPROBS_MAX),
});

/** What only native code knows; the rest the server reads from the header by itself. */
const modelFacts = z.strictObject({
  contextTokens: count,
  vocabularyTokens: z.int().min(0).max(VOCABULARY_TOKENS_MAX),
  embeddingLength: z.int().min(0).max(EMBEDDING_LENGTH_MAX),
  hasChatTemplate: z.boolean(),
  parallelRequests: z.int().min(1).max(PARALLEL_REQUESTS_MAX),
});

const threadChoice = z.strictObject({ decode: threads, batch: threads, tokensPerCpuSecond: positiveRate });

const childMessage = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('loaded'), model: modelFacts }),
  z.strictObject({ kind: z.literal('load-failed'), ...failure }),
  /** Every few seconds, whatever it works on. */
  z.strictObject({ kind: z.literal('alive') }),
  /** After loading, and again when the machine's load has changed. */
  z.strictObject({ kind: z.literal('threads-measured'), choice: threadChoice }),
  /** The chat template has returned: its watchdog can rest. */
  z.strictObject({ kind: z.literal('rendered'), id: requestId }),
  z.strictObject({ kind: z.literal('started'), id: requestId, promptTokens: count }),
  z.strictObject({
    kind: z.literal('text'),
    id: requestId,
    text: z.string(),
    tokens: z.array(generatedToken),
  }),
  z.strictObject({
    kind: z.literal('finished'),
    id: requestId,
    reason: z.enum(['stop', 'length']),
    stop: z.string().max(STOP_STRING_CHARACTERS_MAX).exactOptional(),
    usage: z.strictObject({
      promptTokens: count,
      cachedTokens: count,
      completionTokens: count,
      promptMs: milliseconds,
      completionMs: milliseconds,
    }),
  }),
  /** Little-endian 32-bit floats in base64; inputs are answered in order. */
  z.strictObject({ kind: z.literal('vector'), id: requestId, vector: z.base64() }),
  z.strictObject({
    kind: z.literal('embedded'),
    id: requestId,
    promptTokens: z
      .int()
      .min(0)
      .max(EMBED_INPUTS_MAX * CONTEXT_TOKENS_MAX),
  }),
  z.strictObject({ kind: z.literal('failed'), id: requestId, ...failure }),
]);

export type ChildMessage = z.infer<typeof childMessage>;
export type ModelFacts = z.infer<typeof modelFacts>;
export type WireToken = z.infer<typeof generatedToken>;
export type ChildErrorCode = (typeof childErrorCodes)[number];

/** @throws ENGINE_FAILED naming the field */
export function parseParentMessage(value: unknown): ParentMessage {
  return parseWith(parentMessage, value, 'server');
}

/** @throws ENGINE_FAILED naming the field */
export function parseChildMessage(value: unknown): ChildMessage {
  return parseWith(childMessage, value, 'engine process');
}

function parseWith<T>(schema: z.ZodType<T>, value: unknown, sender: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = issue?.path.join('.') ?? '';
  throw new FreeholdError(
    'ENGINE_FAILED',
    `unexpected message from the ${sender}: ${path} ${issue?.message ?? ''}`,
  );
}
