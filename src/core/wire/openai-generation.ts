import { z } from 'zod';
import type {
  Constraint,
  GenerateRequest,
  Prompt,
  SamplingParameters,
  ToolUse,
} from '../base/engine-port.ts';
import {
  LOGIT_BIASES_MAX,
  REPEAT_PENALTY_MAX,
  REPEAT_PENALTY_MIN,
  REQUEST_STOP_STRINGS_MAX,
  STOP_STRING_CHARACTERS_MAX,
} from '../base/request-limits.ts';
import { parseModelId } from './openai-model-name.ts';
import { invalid, wellFormedText } from './openai-shape.ts';

/** No context is longer; keeps sums exact and fits 32 bits. */
export const MAX_TOKENS_MAX = 1 << 30;
/** Of one prompt. OpenAI takes 128; each one holds a sequence of the engine or waits for one. */
export const CHOICES_PER_PROMPT_MAX = 16;
/** Of one request, over all its prompts: what OpenAI allows for one prompt. */
export const CHOICES_MAX = 128;
/** OpenAI asks for 64 or fewer; it is kept as long as the request runs, for each of its choices. */
export const REQUESTER_CHARACTERS_MAX = 512;
const TOP_K_MAX = 1_000_000;
const SEED_MODULUS = 2 ** 32;

const penalty = () => z.number().min(-2).max(2).optional();
export const requesterText = () => wellFormedText().max(REQUESTER_CHARACTERS_MAX).optional();

/** Schema of the fields that chat and plain completions share. */
export const GENERATION_SHAPE = {
  model: z.string(),
  n: z.int().min(1).max(CHOICES_PER_PROMPT_MAX).optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.int().min(0).max(TOP_K_MAX).optional(),
  min_p: z.number().min(0).max(1).optional(),
  repeat_penalty: z.number().min(REPEAT_PENALTY_MIN).max(REPEAT_PENALTY_MAX).optional(),
  presence_penalty: penalty(),
  frequency_penalty: penalty(),
  logit_bias: z
    .record(z.string().regex(/^(?:0|[1-9]\d{0,8})$/, 'is not a token id'), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= LOGIT_BIASES_MAX, {
      error: `has more than ${LOGIT_BIASES_MAX} tokens`,
    })
    .optional(),
  stop: z
    .preprocess(
      (value) => (typeof value === 'string' ? [value] : value),
      z.array(wellFormedText().min(1).max(STOP_STRING_CHARACTERS_MAX)).max(REQUEST_STOP_STRINGS_MAX),
    )
    .optional(),
  seed: z.number().refine(Number.isInteger, { error: 'is not an integer' }).optional(),
  stream: z.boolean().optional(),
  stream_options: z
    .strictObject({
      include_usage: z.boolean().nullish(),
      include_obfuscation: z.boolean().nullish(),
    })
    .optional(),
  max_tokens: z.int().min(1).max(MAX_TOKENS_MAX).optional(),
  grammar: z.unknown().optional(),
  user: requesterText(),
};

const SharedBody = z.strictObject(GENERATION_SHAPE);
export type GenerationBody = z.infer<typeof SharedBody>;

/** What a door does with one request for text, whichever path it came by. */
export interface AnswerRequest {
  /** As the client wrote it, with its adapter. */
  readonly model: string;
  readonly stream: boolean;
  /** A last chunk with the token counts. */
  readonly includeUsage: boolean;
  /** One for each choice, by its `index`: the choices of the first prompt, then those of the second. */
  readonly generations: readonly GenerateRequest[];
  /** Choices that follow each other in `generations` and have one prompt, whose tokens count once. */
  readonly choicesPerPrompt: number;
}

/** What the paths read in ways of their own. */
export interface AnswerParts {
  readonly prompts: readonly Prompt[];
  readonly maxTokens: number | undefined;
  readonly topLogprobs: number | undefined;
  readonly constraint: Constraint | undefined;
  readonly tools?: ToolUse | undefined;
  /** Who asks; empty means nobody in particular. */
  readonly requester: string | undefined;
}

/**
 * The one place where fields of a request become requests to the engine.
 * @throws REQUEST_INVALID for too many choices, and when `stream_options` is there without `stream`, as OpenAI does;
 * MODEL_NOT_FOUND for what cannot be a name
 */
export function toAnswerRequest(body: GenerationBody, parts: AnswerParts): AnswerRequest {
  const stream = body.stream === true;
  if (body.stream_options !== undefined && !stream) {
    throw invalid('stream_options', 'is only allowed when stream is true');
  }
  const choicesPerPrompt = body.n ?? 1;
  const choices = parts.prompts.length * choicesPerPrompt;
  if (choices > CHOICES_MAX) {
    const asked = `${choicesPerPrompt} answers to each of ${parts.prompts.length} prompts`;
    throw invalid('n', `asks for ${asked}, and ${CHOICES_MAX} in all are allowed`);
  }
  const model = parseModelId(body.model);
  const shared = toGeneration(body, parts);
  return {
    model,
    stream,
    includeUsage: body.stream_options?.include_usage === true,
    generations: parts.prompts.flatMap((prompt) =>
      Array.from({ length: choicesPerPrompt }, (_, choice) => withSeed({ ...shared, prompt }, choice)),
    ),
    choicesPerPrompt,
  };
}

function toGeneration(
  body: GenerationBody,
  { maxTokens, topLogprobs, constraint, tools, requester }: AnswerParts,
): Omit<GenerateRequest, 'prompt'> {
  return withoutUndefined({
    sampling: toSampling(body),
    maxTokens,
    stop: body.stop === undefined || body.stop.length === 0 ? undefined : body.stop,
    logprobs: topLogprobs === undefined ? undefined : { top: topLogprobs },
    constraint,
    tools,
    requester: requester === '' ? undefined : requester,
  });
}

function toSampling(body: GenerationBody): SamplingParameters {
  return withoutUndefined({
    temperature: body.temperature,
    topP: body.top_p,
    topK: body.top_k,
    minP: body.min_p,
    repeatPenalty: body.repeat_penalty,
    presencePenalty: body.presence_penalty,
    frequencyPenalty: body.frequency_penalty,
    logitBias: body.logit_bias,
    seed: body.seed === undefined ? undefined : foldSeed(body.seed),
  });
}

/** Choices of one prompt with one seed would be one answer several times, so each counts on from the first. */
function withSeed(generation: GenerateRequest, choice: number): GenerateRequest {
  const seed = generation.sampling?.seed;
  if (seed === undefined || choice === 0) return generation;
  return { ...generation, sampling: { ...generation.sampling, seed: foldSeed(seed + choice) } };
}

/** OpenAI's seeds have 64 bits with a sign, the engine's 32 without: equal seeds stay equal. */
function foldSeed(seed: number): number {
  return ((seed % SEED_MODULUS) + SEED_MODULUS) % SEED_MODULUS;
}

type Defined<T> = { [Key in keyof T]: Exclude<T[Key], undefined> };

/** `exactOptionalPropertyTypes`: an absent field is absent, not undefined. */
function withoutUndefined<T extends object>(value: T): Partial<Defined<T>> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Partial<
    Defined<T>
  >;
}
