import { z } from 'zod';
import type { GenerateRequest, SamplingParameters } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import {
  LOGIT_BIASES_MAX,
  REPEAT_PENALTY_MAX,
  REPEAT_PENALTY_MIN,
  REQUEST_STOP_STRINGS_MAX,
  STOP_STRING_CHARACTERS_MAX,
} from '../base/request-limits.ts';

/** No context is longer; keeps sums exact and fits 32 bits. */
export const MAX_TOKENS_MAX = 1 << 30;
/** Package names have at most 128 characters; leaves room for version, variant and adapter. */
export const MODEL_ID_CHARACTERS_MAX = 256;
const TOP_K_MAX = 1_000_000;
const SEED_MODULUS = 2 ** 32;

/** Text that has a UTF-8 form: a lone surrogate would silently become U+FFFD on its way to the tokenizer. */
export const wellFormedText = () =>
  z.string().refine((text) => text.isWellFormed(), { error: 'contains half of a surrogate pair' });

const penalty = () => z.number().min(-2).max(2).optional();

/** Schema of the fields that chat and plain completions share. */
export const GENERATION_SHAPE = {
  model: z.string(),
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
};

const SharedBody = z.strictObject(GENERATION_SHAPE);
export type GenerationBody = z.infer<typeof SharedBody>;

/** What a route must know besides the request to the engine. */
export interface AnswerForm {
  readonly model: string;
  readonly stream: boolean;
  /** A last chunk with the token counts. */
  readonly includeUsage: boolean;
}

/**
 * Checks a body whose fields were selected before.
 * @throws REQUEST_INVALID with `detail.param` as a path: `messages[0].content`
 */
export function parseShape<Shape extends z.ZodType>(schema: Shape, body: unknown): z.infer<Shape> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const param = encodePath(issue?.path ?? []);
  throw invalid(param, issue?.message ?? 'is wrong');
}

/** The error for one wrong field. */
export function invalid(param: string, reason: string): FreeholdError {
  return new FreeholdError('REQUEST_INVALID', `${param}: ${reason}`, { detail: { param } });
}

function encodePath(path: readonly PropertyKey[]): string {
  return path
    .map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index === 0 ? '' : '.'}${String(key)}`))
    .join('')
    .slice(0, 128);
}

/**
 * The name of a model as the host may be asked for it. Whatever cannot be a name is not looked up at all.
 * @throws MODEL_NOT_FOUND, the answer that clients know for a wrong name
 */
export function parseModelId(text: string): string {
  if (text.length === 0 || text.length > MODEL_ID_CHARACTERS_MAX || !/^[\x21-\x7e]+$/.test(text)) {
    const shown = JSON.stringify(text.toWellFormed().slice(0, 80));
    throw new FreeholdError('MODEL_NOT_FOUND', `no model has the name ${shown}`, {
      detail: { param: 'model' },
    });
  }
  return text;
}

/** @throws REQUEST_INVALID when `stream_options` is there without `stream`, as OpenAI does */
export function parseAnswerForm(body: GenerationBody): AnswerForm {
  const stream = body.stream === true;
  if (body.stream_options !== undefined && !stream) {
    throw invalid('stream_options', 'is only allowed when stream is true');
  }
  return {
    model: parseModelId(body.model),
    stream,
    includeUsage: body.stream_options?.include_usage === true,
  };
}

/** The request to the engine without its prompt. */
export function toGeneration(
  body: GenerationBody,
  maxTokens: number | undefined,
  topLogprobs: number | undefined,
): Omit<GenerateRequest, 'prompt'> {
  return withoutUndefined({
    sampling: toSampling(body),
    maxTokens,
    stop: body.stop === undefined || body.stop.length === 0 ? undefined : body.stop,
    logprobs: topLogprobs === undefined ? undefined : { top: topLogprobs },
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
