import { z } from 'zod';
import type { ChatMessage, GenerateRequest, Role } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { TOP_LOGPROBS_MAX } from '../base/request-limits.ts';
import { CHAT_FIELDS, MESSAGE_FIELDS, selectHonoured } from './openai-fields.ts';
import {
  type AnswerForm,
  GENERATION_SHAPE,
  invalid,
  MAX_TOKENS_MAX,
  parseAnswerForm,
  parseShape,
  toGeneration,
  wellFormedText,
} from './openai-generation.ts';

/** A conversation of this many turns fills any context; a bound on the work of the chat template. */
export const MESSAGES_MAX = 4096;

export interface ChatRequest extends AnswerForm {
  readonly generate: GenerateRequest;
}

const ChatBody = z.strictObject({
  ...GENERATION_SHAPE,
  messages: z.array(z.unknown()).min(1).max(MESSAGES_MAX),
  max_completion_tokens: z.int().min(1).max(MAX_TOKENS_MAX).optional(),
  logprobs: z.boolean().optional(),
  top_logprobs: z.int().min(0).max(TOP_LOGPROBS_MAX).optional(),
});

const Message = z.strictObject({
  role: z.string(),
  content: z.union([wellFormedText(), z.array(z.unknown()).min(1)], {
    error: 'is neither text nor a list of text parts',
  }),
  // What OpenAI allows; the template may print the name beside the role, so it must not look like markup.
  name: z
    .string()
    .regex(/^[^\s<|\\/>]{1,64}$/, 'has blanks or one of < | \\ / >, or more than 64 characters')
    .optional(),
});

const TextPart = z.strictObject({
  type: z.literal('text'),
  text: wellFormedText(),
  // A hint for a cache, without effect like `prompt_cache_options`.
  prompt_cache_breakpoint: z.unknown().optional(),
});

const ROLES: Readonly<Record<string, Role>> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
};

/** Parts that carry something else than text, with the word for it. */
const OTHER_MODALITIES: Readonly<Record<string, string>> = {
  image_url: 'an image',
  input_audio: 'audio',
  file: 'a file',
};

/**
 * Reads the body of `POST /v1/chat/completions`.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, MODALITY_NOT_SUPPORTED, each with `detail.param`; MODEL_NOT_FOUND
 */
export function parseChatRequest(body: unknown): ChatRequest {
  const { messages, max_completion_tokens, logprobs, top_logprobs, ...shared } = parseShape(
    ChatBody,
    selectHonoured(body, CHAT_FIELDS),
  );
  const maxTokens = max_completion_tokens ?? shared.max_tokens;
  if (shared.max_tokens !== undefined && shared.max_tokens !== maxTokens) {
    throw invalid('max_tokens', `is ${shared.max_tokens}, but max_completion_tokens is ${maxTokens}`);
  }
  if (top_logprobs !== undefined && logprobs !== true) {
    throw invalid('top_logprobs', 'needs logprobs to be true');
  }
  return {
    ...parseAnswerForm(shared),
    generate: {
      prompt: { kind: 'chat', messages: messages.map(parseMessage) },
      ...toGeneration(shared, maxTokens, logprobs === true ? (top_logprobs ?? 0) : undefined),
    },
  };
}

function parseMessage(value: unknown, index: number): ChatMessage {
  const path = `messages[${index}]`;
  const role = parseRole(value, path);
  const selected = selectHonoured(value, MESSAGE_FIELDS, path);
  const result = Message.safeParse(selected);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw invalid(`${path}.${String(issue?.path[0] ?? 'content')}`, issue?.message ?? 'is wrong');
  }
  const { content, name } = result.data;
  const text = typeof content === 'string' ? content : parseParts(content, `${path}.content`);
  return name === undefined ? { role, content: text } : { role, content: text, name };
}

/** Before the other fields: a `tool` message should be refused for its role, not for its `tool_call_id`. */
function parseRole(value: unknown, path: string): Role {
  const role = typeof value === 'object' && value !== null && 'role' in value ? value.role : undefined;
  const param = `${path}.role`;
  if (typeof role !== 'string') throw invalid(param, 'is missing');
  if (role === 'tool' || role === 'function') {
    throw new FreeholdError('FIELD_NOT_SUPPORTED', `${param}: messages of the role "${role}" are refused`, {
      hint: 'tools are not in this version',
      detail: { param },
    });
  }
  const known = Object.hasOwn(ROLES, role) ? ROLES[role] : undefined;
  if (known === undefined)
    throw invalid(param, `${quoted(role)} is not system, developer, user or assistant`);
  return known;
}

/** Joined by a line feed, as the other local servers do for templates that take one string. */
function parseParts(parts: readonly unknown[], path: string): string {
  return parts.map((part, index) => parsePart(part, `${path}[${index}]`)).join('\n');
}

function parsePart(part: unknown, param: string): string {
  const type = typeof part === 'object' && part !== null && 'type' in part ? part.type : undefined;
  const other =
    typeof type === 'string' && Object.hasOwn(OTHER_MODALITIES, type) ? OTHER_MODALITIES[type] : undefined;
  if (other !== undefined) {
    throw new FreeholdError(
      'MODALITY_NOT_SUPPORTED',
      `${param} is ${other}, and the models here read text only`,
      {
        detail: { param },
      },
    );
  }
  if (typeof type === 'string' && type !== 'text') {
    throw new FreeholdError(
      'FIELD_NOT_SUPPORTED',
      `${param}: parts of the type ${quoted(type)} are refused`,
      {
        detail: { param: `${param}.type` },
      },
    );
  }
  const result = TextPart.safeParse(part);
  if (!result.success) throw invalid(param, result.error.issues[0]?.message ?? 'is not a text part');
  return result.data.text;
}
