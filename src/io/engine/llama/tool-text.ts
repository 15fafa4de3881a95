import type { ToolDefinition } from '../../../core/base/engine-port.ts';

/** A message as templates take it that know nothing of tools. */
export interface PlainMessage {
  readonly role: string;
  readonly content: string;
  readonly name?: string;
}

/** A message with whatever belongs to tools. */
export interface ToolMessage extends PlainMessage {
  readonly calls: readonly TemplateCall[];
  /** Of the role `tool`: the call that `content` answers. */
  readonly answers?: Pick<TemplateCall, 'id' | 'name'>;
}

export interface TemplateCall {
  /** Ours, not the client's: some templates take none but nine letters and digits. */
  readonly id: string;
  readonly name: string;
  readonly arguments: unknown;
}

/**
 * A conversation with tools for a template that knows none: the definitions go into the system message (or a message of
 * the user, where the template wants no system message), calls become the text that the model is asked to write, and
 * results become messages of the user. Messages of the user that meet are joined, since many templates want roles to
 * alternate.
 */
export function plainConversation(
  messages: readonly ToolMessage[],
  tools: readonly ToolDefinition[],
  definitionsIn: 'system' | 'user',
): PlainMessage[] {
  const plain = joinResults(messages);
  if (tools.length === 0) return plain;
  const description = describeTools(tools);
  const first = plain[0];
  if (first?.role === definitionsIn || first?.role === 'system') {
    const content =
      first.role === 'system' ? `${first.content}\n\n${description}` : `${description}\n\n${first.content}`;
    return [{ ...first, content }, ...plain.slice(1)];
  }
  return [{ role: definitionsIn, content: description }, ...plain];
}

function joinResults(messages: readonly ToolMessage[]): PlainMessage[] {
  const plain: PlainMessage[] = [];
  /** The last message holds a result, so what the user says next belongs into it. */
  let endsWithResult = false;
  for (const { role, content, name, calls, answers } of messages) {
    const isResult = role === 'tool';
    const text = isResult ? resultText(answers?.name, content) : withCalls(content, calls);
    const last = plain.at(-1);
    if (last?.role === 'user' && (isResult || (endsWithResult && role === 'user'))) {
      plain[plain.length - 1] = { ...last, content: `${last.content}\n\n${text}` };
    } else {
      plain.push({
        role: isResult ? 'user' : role,
        content: text,
        ...(name === undefined || isResult ? {} : { name }),
      });
    }
    endsWithResult = isResult || (endsWithResult && role === 'user');
  }
  return plain;
}

function resultText(name: string | undefined, content: string): string {
  return `Result of ${name ?? 'the call'}:\n${content}`;
}

function withCalls(content: string, calls: ToolMessage['calls']): string {
  if (calls.length === 0) return content;
  const shown = calls.map((call) => ({ name: call.name, arguments: call.arguments }));
  const text = JSON.stringify(shown.length === 1 ? shown[0] : shown);
  return content === '' ? text : `${content}\n${text}`;
}

function describeTools(tools: readonly ToolDefinition[]): string {
  const definitions = tools.map(({ name, description, parameters }) =>
    JSON.stringify({ name, description, parameters: parameters ?? { type: 'object' } }),
  );
  return [
    'These functions can be called; "parameters" is the JSON schema of the arguments:',
    ...definitions,
    'To call one, answer with nothing but a JSON object {"name": its name, "arguments": an object}; to call several, ' +
      'with an array of such objects.',
  ].join('\n');
}
