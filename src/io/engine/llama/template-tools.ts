import type { ChatMessage, ToolDefinition } from '../../../core/base/engine-port.ts';
import type { ContentMarks } from './content-marks.ts';
import type { TemplateCall, ToolMessage } from './tool-text.ts';

/** How a template wants the calls of a message. Published ones differ, and what they do not expect they garble silently. */
export interface CallForm {
  /** Most write them with `tojson`, which makes a quoted string of a text; some put a text between their own words. */
  readonly argumentsAs: 'object' | 'text';
  /** What stands in the place of an empty content; some look for `none` to find out that there are calls. */
  readonly content: '' | null;
}

/** In the order in which they are tried. */
export const CALL_FORMS: readonly CallForm[] = [
  { argumentsAs: 'object', content: '' },
  { argumentsAs: 'object', content: null },
  { argumentsAs: 'text', content: '' },
  { argumentsAs: 'text', content: null },
];

const PROBE_TOOL: ToolDefinition = {
  name: 'probe_function',
  description: 'probe_description',
  parameters: { type: 'object', properties: { probe_argument: { type: 'string' } } },
};
const PROBE_CALL: TemplateCall = {
  id: 'probe0001',
  name: PROBE_TOOL.name,
  arguments: { probe_argument: 'probe_value' },
};
const PROBE_USER: ToolMessage = { role: 'user', content: 'probe_question', calls: [] };
const PROBE_CONVERSATION: readonly ToolMessage[] = [
  PROBE_USER,
  { role: 'assistant', content: '', calls: [PROBE_CALL] },
  { role: 'tool', content: 'probe_result', calls: [], answers: PROBE_CALL },
];

/** @throws what a template throws */
type Render = (messages: readonly object[], tools: readonly object[]) => string;

/** Whether a template shows the tools that it is given: by trying, since its text says little. */
export function showsTools(render: Render): boolean {
  return shows(
    () => render([templateMessage(PROBE_USER, CALL_FORMS[0] as CallForm)], [templateTool(PROBE_TOOL)]),
    [PROBE_TOOL.name, 'probe_argument'],
  );
}

/** The first form in which a template shows a call with its arguments, and the result; undefined when in none. */
export function findCallForm(render: Render): CallForm | undefined {
  return CALL_FORMS.find((form) =>
    shows(
      () =>
        render(
          PROBE_CONVERSATION.map((message) => templateMessage(message, form)),
          [templateTool(PROBE_TOOL)],
        ),
      [PROBE_CALL.name, 'probe_argument', 'probe_value', 'probe_result'],
    ),
  );
}

function shows(render: () => string, texts: readonly string[]): boolean {
  try {
    const rendered = render();
    return texts.every((text) => rendered.includes(text));
  } catch {
    return false;
  }
}

/** A definition in the shape of OpenAI's API, which templates expect. */
export function templateTool({ name, description, parameters }: ToolDefinition): object {
  return {
    type: 'function',
    function: {
      name,
      description: description ?? '',
      parameters: typeof parameters === 'object' ? parameters : { type: 'object', properties: {} },
    },
  };
}

/** A message in the shape of OpenAI's API. Members that do not apply are absent: templates ask with `in`. */
export function templateMessage(message: ToolMessage, form: CallForm): object {
  const { role, content, name = message.answers?.name, calls, answers } = message;
  return {
    role,
    content: content === '' && calls.length > 0 ? form.content : content,
    ...(name === undefined ? {} : { name }),
    ...(calls.length === 0 ? {} : { tool_calls: calls.map((call) => templateCall(call, form)) }),
    ...(answers === undefined ? {} : { tool_call_id: answers.id }),
  };
}

function templateCall(call: TemplateCall, { argumentsAs }: CallForm): object {
  const callArguments = argumentsAs === 'object' ? call.arguments : JSON.stringify(call.arguments);
  return { id: call.id, type: 'function', function: { name: call.name, arguments: callArguments } };
}

/** Nine letters and digits: the only ids that some templates take, and all others do not care. */
const templateCallId = (index: number): string => `call${index.toString(36).padStart(5, '0')}`;

/** Calls with parsed arguments and short ids, results with the call that they answer. */
export function toolConversation(messages: readonly ChatMessage[]): ToolMessage[] {
  const byClientId = new Map<string, TemplateCall>();
  let callCount = 0;
  return messages.map(({ role, content, name, toolCalls = [], toolCallId }) => {
    const calls = toolCalls.map((call): TemplateCall => {
      const parsed: unknown = JSON.parse(call.arguments);
      const templateCall = { id: templateCallId(callCount++), name: call.name, arguments: parsed };
      byClientId.set(call.id, templateCall);
      return templateCall;
    });
    const answers = toolCallId === undefined ? undefined : byClientId.get(toolCallId);
    return {
      role,
      content,
      ...(name === undefined ? {} : { name }),
      calls,
      ...(answers === undefined ? {} : { answers }),
    };
  });
}

export function markMessage(marks: ContentMarks, message: ToolMessage): ToolMessage {
  const { content, name, calls, answers } = message;
  return {
    ...message,
    content: marks.mark(content),
    ...(name === undefined ? {} : { name: marks.mark(name) }),
    calls: calls.map((call) => ({
      id: call.id,
      name: marks.mark(call.name),
      arguments: marks.markValue(call.arguments),
    })),
    ...(answers === undefined ? {} : { answers: { id: answers.id, name: marks.mark(answers.name) } }),
  };
}

export function markDefinition(marks: ContentMarks, tool: ToolDefinition): ToolDefinition {
  const { name, description, parameters } = tool;
  return {
    name: marks.mark(name),
    ...(description === undefined ? {} : { description: marks.mark(description) }),
    ...(typeof parameters === 'object'
      ? { parameters: marks.markValue(parameters) as { [keyword: string]: unknown } }
      : {}),
  };
}
