import { z } from 'zod';
import type { Constraint } from '../base/engine-port.ts';
import { TOP_LOGPROBS_MAX } from '../base/request-limits.ts';
import { CHAT_FIELDS, selectHonoured } from './openai-fields.ts';
import { parseConstraint } from './openai-format.ts';
import {
  type AnswerRequest,
  GENERATION_SHAPE,
  MAX_TOKENS_MAX,
  requesterText,
  toAnswerRequest,
} from './openai-generation.ts';
import { MESSAGES_MAX, parseMessages } from './openai-messages.ts';
import { invalid, parseShape, unsupported } from './openai-shape.ts';
import { parseToolUse } from './openai-tools.ts';

const ChatBody = z.strictObject({
  ...GENERATION_SHAPE,
  messages: z.array(z.unknown()).min(1).max(MESSAGES_MAX),
  max_completion_tokens: z.int().min(1).max(MAX_TOKENS_MAX).optional(),
  logprobs: z.boolean().optional(),
  top_logprobs: z.int().min(0).max(TOP_LOGPROBS_MAX).optional(),
  response_format: z.unknown().optional(),
  tools: z.unknown().optional(),
  tool_choice: z.unknown().optional(),
  parallel_tool_calls: z.boolean().optional(),
  safety_identifier: requesterText(),
});

/**
 * Reads the body of `POST /v1/chat/completions`.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, MODALITY_NOT_SUPPORTED, each with `detail.param`; MODEL_NOT_FOUND
 */
export function parseChatRequest(body: unknown): AnswerRequest {
  const parsed = parseShape(ChatBody, selectHonoured(body, CHAT_FIELDS));
  const constraint = parseConstraint(parsed.response_format, parsed.grammar);
  const tools = parseToolUse(parsed);
  const topLogprobs = parseLogprobs(parsed);
  if (tools !== undefined && tools.choice.kind !== 'none') requireCallAlone(constraint, topLogprobs);
  return toAnswerRequest(parsed, {
    prompts: [{ kind: 'chat', messages: parseMessages(parsed.messages) }],
    maxTokens: parseMaxTokens(parsed),
    topLogprobs,
    constraint,
    tools,
    requester: parsed.safety_identifier ?? parsed.user,
  });
}

type ChatFields = z.infer<typeof ChatBody>;

function parseMaxTokens({ max_tokens, max_completion_tokens }: ChatFields): number | undefined {
  const maxTokens = max_completion_tokens ?? max_tokens;
  if (max_tokens !== undefined && max_tokens !== maxTokens) {
    throw invalid('max_tokens', `is ${max_tokens}, but max_completion_tokens is ${maxTokens}`);
  }
  return maxTokens;
}

function parseLogprobs({ logprobs, top_logprobs }: ChatFields): number | undefined {
  if (top_logprobs !== undefined && logprobs !== true) {
    throw invalid('top_logprobs', 'needs logprobs to be true');
  }
  return logprobs === true ? (top_logprobs ?? 0) : undefined;
}

/** An answer that must be a call has no content that could have a form, or probabilities. */
function requireCallAlone(constraint: Constraint | undefined, topLogprobs: number | undefined): void {
  if (constraint !== undefined) {
    const param = constraint.kind === 'gbnf' ? 'grammar' : 'response_format';
    throw invalid(param, 'does not go together with a tool_choice that makes the answer a call');
  }
  if (topLogprobs !== undefined) {
    throw unsupported('logprobs', 'are of content, and with this tool_choice the answer is a call');
  }
}
