import { z } from 'zod';
import type { Prompt } from '../base/engine-port.ts';
import { COMPLETION_FIELDS, selectHonoured } from './openai-fields.ts';
import { parseConstraint } from './openai-format.ts';
import { type AnswerRequest, GENERATION_SHAPE, toAnswerRequest } from './openai-generation.ts';
import { parsePrompts } from './openai-prompts.ts';
import { invalid, parseShape } from './openai-shape.ts';

/** More prompts belong into several requests: if one fails, all of its request do. */
export const PROMPT_COUNT_MAX = 64;
/** OpenAI's documented default: a plain completion has no natural end. */
export const COMPLETION_TOKENS_DEFAULT = 16;
/** OpenAI's own bound for `logprobs`. */
const COMPLETION_LOGPROBS_MAX = 5;

const CompletionBody = z.strictObject({
  ...GENERATION_SHAPE,
  prompt: z.unknown(),
  logprobs: z.int().min(0).max(COMPLETION_LOGPROBS_MAX).optional(),
});

/**
 * Reads the body of `POST /v1/completions`.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, each with `detail.param`; MODEL_NOT_FOUND
 */
export function parseCompletionRequest(body: unknown): AnswerRequest {
  const { prompt, logprobs, ...shared } = parseShape(CompletionBody, selectHonoured(body, COMPLETION_FIELDS));
  if (prompt === undefined) throw invalid('prompt', 'is missing');
  const prompts = parsePrompts(prompt, 'prompt', PROMPT_COUNT_MAX).map(
    (element): Prompt =>
      typeof element === 'string' ? { kind: 'text', text: element } : { kind: 'tokens', tokens: element },
  );
  return toAnswerRequest(shared, {
    prompts,
    maxTokens: shared.max_tokens ?? COMPLETION_TOKENS_DEFAULT,
    topLogprobs: logprobs,
    constraint: parseConstraint(undefined, shared.grammar),
    requester: shared.user,
  });
}
