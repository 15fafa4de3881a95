import { z } from 'zod';
import type { ChatMessage, Role, ToolCall } from '../base/engine-port.ts';
import { quoted } from '../base/ids.ts';
import { CALLED_FUNCTION_FIELDS, MESSAGE_FIELDS, selectHonoured, TOOL_CALL_FIELDS } from './openai-fields.ts';
import { parseText } from './openai-message-parts.ts';
import { invalid, parseShape, unsupported } from './openai-shape.ts';
import { functionName, requireFunctionType } from './openai-tools.ts';

/** A conversation of this many turns fills any context; a bound on the work of the chat template. */
export const MESSAGES_MAX = 4096;
/** In one turn. A turn with more would be longer than the contexts of today. */
export const TOOL_CALLS_MAX = 128;
/** OpenAI's have 29; gateways to other providers hide a kilobyte in them. */
const TOOL_CALL_ID_CHARACTERS_MAX = 1024;
/** Chat templates walk through arguments; the body itself is held to the same depth. */
const ARGUMENTS_DEPTH_MAX = 64;

/** Templates may print it, so it must not look like markup. */
const callId = () =>
  z
    .string()
    .max(TOOL_CALL_ID_CHARACTERS_MAX)
    .regex(/^[^\s\p{Cc}<|\\>]+$/u, 'is empty or has blanks, control characters or one of < | \\ >');

const Message = z.strictObject({
  role: z.string(),
  content: z.unknown().optional(),
  // What OpenAI allows; the template may print the name beside the role, so it must not look like markup.
  name: z
    .string()
    .regex(
      /^[^\s\p{Cc}<|\\/>]{1,64}$/u,
      'has blanks, control characters or one of < | \\ / >, or more than 64 characters',
    )
    .optional(),
  tool_call_id: callId().optional(),
  tool_calls: z.array(z.unknown()).max(TOOL_CALLS_MAX).optional(),
});

const CallShape = z.strictObject({
  id: callId(),
  type: z.literal('function'),
  function: z.unknown().optional(),
});
const CalledFunction = z.strictObject({ name: functionName(), arguments: z.string() });

const ROLES: Readonly<Record<string, Role>> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
  tool: 'tool',
};

/** The calls of one message of the assistant, and those of them that have no answer yet. */
interface OpenCalls {
  readonly path: string;
  readonly unanswered: Set<string>;
}

/**
 * Reads `messages`. Every call of the assistant must be answered by the messages right after it, each by one: a model
 * that sees an answer without its call, or a call without its answer, makes something up.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, MODALITY_NOT_SUPPORTED, each with `detail.param`
 */
export function parseMessages(values: readonly unknown[]): readonly ChatMessage[] {
  let open: OpenCalls = { path: '', unanswered: new Set() };
  const messages = values.map((value, index) => {
    const path = `messages[${index}]`;
    const message = parseMessage(value, path);
    if (message.role === 'tool') {
      requireCall(open, message.toolCallId ?? '', path);
      return message;
    }
    requireAnswers(open);
    open = { path, unanswered: callIds(message.toolCalls ?? [], path) };
    return message;
  });
  requireAnswers(open);
  return messages;
}

function requireCall({ unanswered }: OpenCalls, id: string, path: string): void {
  if (unanswered.delete(id)) return;
  throw invalid(
    `${path}.tool_call_id`,
    `${quoted(id)} is no unanswered call of the last message of the assistant`,
  );
}

function requireAnswers({ path, unanswered }: OpenCalls): void {
  const [id] = unanswered;
  if (id === undefined) return;
  throw invalid(`${path}.tool_calls`, `no message of the role "tool" right after it answers ${quoted(id)}`);
}

function callIds(calls: readonly ToolCall[], path: string): Set<string> {
  const ids = new Set<string>();
  for (const [index, { id }] of calls.entries()) {
    if (ids.has(id)) {
      throw invalid(`${path}.tool_calls[${index}].id`, `${quoted(id)} is the id of another call as well`);
    }
    ids.add(id);
  }
  return ids;
}

function parseMessage(value: unknown, path: string): ChatMessage {
  const role = parseRole(value, path);
  const { content, name, tool_call_id, tool_calls } = parseShape(
    Message,
    selectHonoured(value, MESSAGE_FIELDS, path),
    path,
  );
  if (role === 'tool' && tool_call_id === undefined) throw invalid(`${path}.tool_call_id`, 'is missing');
  if (role !== 'tool' && tool_call_id !== undefined) {
    throw invalid(`${path}.tool_call_id`, 'needs the role to be "tool"');
  }
  const toolCalls = (tool_calls ?? []).map((call, index) => parseCall(call, `${path}.tool_calls[${index}]`));
  if (role !== 'assistant' && toolCalls.length > 0) {
    throw invalid(`${path}.tool_calls`, 'needs the role to be "assistant"');
  }
  return {
    role,
    content: content === undefined && toolCalls.length > 0 ? '' : parseText(content, `${path}.content`),
    ...(name === undefined ? {} : { name }),
    ...(toolCalls.length === 0 ? {} : { toolCalls }),
    ...(tool_call_id === undefined ? {} : { toolCallId: tool_call_id }),
  };
}

/** Before the other fields, which depend on it. */
function parseRole(value: unknown, path: string): Role {
  const role = typeof value === 'object' && value !== null && 'role' in value ? value.role : undefined;
  const param = `${path}.role`;
  if (typeof role !== 'string') throw invalid(param, 'is missing');
  if (role === 'function') {
    throw unsupported(param, 'messages of the role "function" are refused', 'use the role "tool"');
  }
  const known = Object.hasOwn(ROLES, role) ? ROLES[role] : undefined;
  if (known === undefined) {
    throw invalid(param, `${quoted(role)} is not system, developer, user, assistant or tool`);
  }
  return known;
}

function parseCall(value: unknown, path: string): ToolCall {
  requireFunctionType(value, path);
  const call = parseShape(CallShape, selectHonoured(value, TOOL_CALL_FIELDS, path), path);
  const place = `${path}.function`;
  const called = parseShape(
    CalledFunction,
    selectHonoured(call.function, CALLED_FUNCTION_FIELDS, place),
    place,
  );
  return {
    id: call.id,
    name: called.name,
    arguments: parseArguments(called.arguments, `${place}.arguments`),
  };
}

/**
 * Goes on as it was written: numbers beyond 2⁵³ stay what they are. Nothing at all, which many clients send for a
 * function without parameters, is the empty object.
 */
function parseArguments(text: string, param: string): string {
  if (text.trim() === '') return '{}';
  if (!text.isWellFormed()) throw invalid(param, 'contains half of a surrogate pair');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid(param, 'is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(param, 'is not the JSON of an object');
  }
  if (jsonDepth(text) > ARGUMENTS_DEPTH_MAX)
    throw invalid(param, `is nested deeper than ${ARGUMENTS_DEPTH_MAX}`);
  return text;
}

/** Of well-formed JSON. Walks by itself: a pattern that skips strings overflows the stack at some megabytes. */
function jsonDepth(text: string): number {
  let depth = 0;
  let deepest = 0;
  let isString = false;
  for (let offset = 0; offset < text.length; offset++) {
    const unit = text[offset];
    if (unit === '"') isString = !isString;
    else if (isString && unit === '\\') offset++;
    else if (isString) continue;
    else if (unit === '{' || unit === '[') deepest = Math.max(deepest, ++depth);
    else if (unit === '}' || unit === ']') depth--;
  }
  return deepest;
}
