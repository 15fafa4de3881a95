import { z } from 'zod';
import type { GenerateRequest, Prompt } from '../base/engine-port.ts';
import { COMPLETION_FIELDS, selectHonoured } from './openai-fields.ts';
import {
  type AnswerForm,
  GENERATION_SHAPE,
  invalid,
  parseAnswerForm,
  parseShape,
  toGeneration,
} from './openai-generation.ts';
import { parsePrompts } from './openai-prompts.ts';

/** Prompts of one request run one after another; more of them belong into several requests. */
export const PROMPT_COUNT_MAX = 64;
/** OpenAI's documented default: a plain completion has no natural end. */
export const COMPLETION_TOKENS_DEFAULT = 16;
/** OpenAI's own bound for `logprobs`. */
const COMPLETION_LOGPROBS_MAX = 5;

export interface CompletionRequest extends AnswerForm {
  /** One choice each, in this order. */
  readonly prompts: readonly Prompt[];
  readonly generate: Omit<GenerateRequest, 'prompt'>;
}

const CompletionBody = z.strictObject({
  ...GENERATION_SHAPE,
  prompt: z.unknown(),
  logprobs: z.int().min(0).max(COMPLETION_LOGPROBS_MAX).optional(),
});

/**
 * Reads the body of `POST /v1/completions`.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, each with `detail.param`; MODEL_NOT_FOUND
 */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  const { prompt, logprobs, ...shared } = parseShape(CompletionBody, selectHonoured(body, COMPLETION_FIELDS));
  if (prompt === undefined) throw invalid('prompt', 'is missing');
  const prompts = parsePrompts(prompt, 'prompt', PROMPT_COUNT_MAX).map(
    (element): Prompt =>
      typeof element === 'string' ? { kind: 'text', text: element } : { kind: 'tokens', tokens: element },
  );
  return {
    ...parseAnswerForm(shared),
    prompts,
    generate: toGeneration(shared, shared.max_tokens ?? COMPLETION_TOKENS_DEFAULT, logprobs),
  };
}
