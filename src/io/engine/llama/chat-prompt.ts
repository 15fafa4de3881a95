import type { ChatMessage, Prompt, ToolDefinition, ToolUse } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { TOOLS_MAX } from '../../../core/base/request-limits.ts';
import { type GenerateMessage, MESSAGES_MAX } from './protocol.ts';

/** Values inside each other in arguments and schemas of tools: templates are walked by recursion. */
const TOOL_JSON_DEPTH_MAX = 128;

type ChatPrompt = Extract<GenerateMessage['prompt'], { kind: 'chat' }>;

/**
 * Checks a chat and joins it with the tools that the model is told of: all of them when it must call one. With the choice
 * `none` it is told only where the conversation holds calls already: a model that sees tools which it must not use
 * writes calls into its answer, but one that has called reads its conversation from the memory of the engine only if it
 * begins as before.
 * @throws REQUEST_INVALID
 */
export function requireChat(
  { messages, continueLast = false }: Extract<Prompt, { kind: 'chat' }>,
  tools: ToolUse | undefined,
): ChatPrompt {
  if (messages.length === 0 || messages.length > MESSAGES_MAX) {
    throw invalid(`a chat has 1 to ${MESSAGES_MAX} messages, not ${messages.length}`);
  }
  const last = messages.at(-1);
  if (continueLast && (last?.role !== 'assistant' || hasCalls(last))) {
    throw invalid('only a last message of the assistant, one without calls, can be continued');
  }
  requireToolMessages(messages);
  if (tools !== undefined) requireTools(tools);
  const isShown = tools !== undefined && (tools.choice.kind !== 'none' || messages.some(hasCalls));
  return {
    kind: 'chat',
    messages: messages.map(wireMessage),
    continueLast,
    ...(isShown && tools.definitions.length > 0 ? { tools: tools.definitions.map(wireTool) } : {}),
  };
}

/** Exactly the members that the engine process takes. */
function wireMessage(message: ChatMessage): ChatPrompt['messages'][number] {
  const { role, content, name, toolCalls = [], toolCallId } = message;
  const calls = toolCalls.map((call) => ({ id: call.id, name: call.name, arguments: call.arguments }));
  return {
    role,
    content,
    ...(name === undefined ? {} : { name }),
    ...(calls.length === 0 ? {} : { toolCalls: calls }),
    ...(toolCallId === undefined ? {} : { toolCallId }),
  };
}

function wireTool({
  name,
  description,
  parameters,
}: ToolDefinition): NonNullable<ChatPrompt['tools']>[number] {
  return {
    name,
    ...(description === undefined ? {} : { description }),
    ...(parameters === undefined ? {} : { parameters }),
  };
}

const hasCalls = ({ toolCalls = [] }: ChatMessage): boolean => toolCalls.length > 0;

/** Each result answers a call before it. */
function requireToolMessages(messages: readonly ChatMessage[]): void {
  const callIds = new Set<string>();
  for (const [index, message] of messages.entries()) {
    const at = `messages[${index}]`;
    if (hasCalls(message) && message.role !== 'assistant') {
      throw invalid(`${at}: only a message of the assistant has calls, not one of the role ${message.role}`);
    }
    for (const [place, call] of (message.toolCalls ?? []).entries()) {
      requireArguments(call.arguments, `${at}.toolCalls[${place}].arguments`);
      callIds.add(call.id);
    }
    const { role, toolCallId } = message;
    if (role !== 'tool' && toolCallId !== undefined) {
      throw invalid(`${at}: only a message of the role tool answers a call`);
    }
    if (role === 'tool' && (toolCallId === undefined || !callIds.has(toolCallId))) {
      throw invalid(
        toolCallId === undefined
          ? `${at}: a message of the role tool names the call that it answers`
          : `${at}: no call before it has the id ${JSON.stringify(toolCallId.slice(0, 80))}`,
      );
    }
  }
}

function requireArguments(text: string, at: string): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FreeholdError('REQUEST_INVALID', `${at} is not JSON`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${at} is not the text of a JSON object`);
  }
  requireDepth(value, at);
}

function requireTools({ definitions, choice }: ToolUse): void {
  if (definitions.length > TOOLS_MAX) {
    throw invalid(`${definitions.length} tools, at most ${TOOLS_MAX} are allowed`);
  }
  const names = new Set<string>();
  for (const [index, { name, parameters }] of definitions.entries()) {
    if (name === '') throw invalid(`tools[${index}] has no name`);
    requireDepth(parameters, `tools[${index}].parameters`);
    if (names.has(name)) throw invalid(`tools[${index}]: another tool has the name ${name}`);
    names.add(name);
  }
  if (choice.kind === 'required' && names.size === 0) throw invalid('there is no tool that could be called');
  if (choice.kind === 'named' && !names.has(choice.name)) {
    throw invalid(`no tool has the name ${JSON.stringify(choice.name.slice(0, 80))}`);
  }
}

/** Without recursion: it is there to find what is too deep for it. */
function requireDepth(value: unknown, at: string): void {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > TOOL_JSON_DEPTH_MAX) throw invalid(`${at} is nested deeper than ${TOOL_JSON_DEPTH_MAX}`);
    level = level.flatMap((item) => (typeof item === 'object' && item !== null ? Object.values(item) : []));
  }
}

function invalid(message: string): FreeholdError {
  return new FreeholdError('REQUEST_INVALID', message);
}
