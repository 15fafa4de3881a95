import { z } from 'zod';
import type { ToolDefinition, ToolUse } from '../base/engine-port.ts';
import { quoted } from '../base/ids.ts';
import { TOOLS_MAX } from '../base/request-limits.ts';
import { FUNCTION_FIELDS, selectHonoured, TOOL_FIELDS } from './openai-fields.ts';
import { parseSchemaObject, requireSchemaSize, schemaCharacters } from './openai-format.ts';
import { invalid, parseShape, unsupported, wellFormedText } from './openai-shape.ts';

/** OpenAI's own rule. Templates print names bare, so they must not look like markup. */
export const functionName = () =>
  z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'has other characters than letters, digits, _ and -, or not 1 to 64');

const FunctionShape = z.strictObject({
  name: functionName(),
  description: wellFormedText().optional(),
  parameters: z.unknown().optional(),
});

export interface ToolFields {
  readonly tools?: unknown;
  readonly tool_choice?: unknown;
  readonly parallel_tool_calls?: boolean | undefined;
}

/**
 * The tools of a request; undefined without any, whatever the other two fields say then.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, each with `detail.param`
 */
export function parseToolUse(fields: ToolFields): ToolUse | undefined {
  const definitions = parseDefinitions(fields.tools);
  const choice = parseChoice(fields.tool_choice, definitions);
  if (definitions.length === 0) return undefined;
  if (choice === 'auto') {
    throw unsupported(
      'tool_choice',
      fields.tool_choice === undefined
        ? 'is missing, which means "auto", and "auto" is refused'
        : '"auto" is refused',
      'send "required", "none" or {"type":"function","function":{"name":…}}: whether a model wants to call is free text, which is not interpreted',
    );
  }
  // OpenAI's default is true. A small model that may go on calling does so until it must stop.
  return { definitions, choice, isParallel: fields.parallel_tool_calls === true };
}

function parseDefinitions(tools: unknown): readonly ToolDefinition[] {
  if (tools === undefined) return [];
  if (!Array.isArray(tools)) throw invalid('tools', 'is not an array');
  if (tools.length > TOOLS_MAX) throw invalid('tools', `has ${tools.length}, and ${TOOLS_MAX} are allowed`);
  const names = new Set<string>();
  let characters = 0;
  return tools.map((tool: unknown, index) => {
    const path = `tools[${index}]`;
    const definition = parseDefinition(tool, path);
    if (names.has(definition.name)) {
      throw invalid(
        `${path}.function.name`,
        `${quoted(definition.name)} is the name of another tool as well`,
      );
    }
    names.add(definition.name);
    if (typeof definition.parameters === 'object') characters += schemaCharacters(definition.parameters);
    requireSchemaSize(characters, 'tools');
    return definition;
  });
}

function parseDefinition(tool: unknown, path: string): ToolDefinition {
  requireFunctionType(tool, path);
  const outer = selectHonoured(tool, TOOL_FIELDS, path);
  const place = `${path}.function`;
  const { name, description, parameters } = parseShape(
    FunctionShape,
    selectHonoured(outer.function, FUNCTION_FIELDS, place),
    place,
  );
  return {
    name,
    ...(description === undefined ? {} : { description }),
    ...(parameters === undefined ? {} : { parameters: parseSchemaObject(parameters, `${place}.parameters`) }),
  };
}

/** Before the other fields: a tool of another type should be refused for its type, not for what it has besides. */
export function requireFunctionType(value: unknown, path: string): void {
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined;
  if (type === 'function') return;
  if (typeof type !== 'string') throw invalid(`${path}.type`, 'is not "function"');
  throw unsupported(`${path}.type`, `${quoted(type)} is refused`, 'only the type "function" is known');
}

type Choice = ToolUse['choice'] | 'auto';

const CHOICES: Readonly<Record<string, Choice>> = {
  none: { kind: 'none' },
  required: { kind: 'required' },
  auto: 'auto',
};

const NamedChoice = z.strictObject({
  type: z.literal('function'),
  function: z.strictObject({ name: z.string() }),
});

function parseChoice(choice: unknown, definitions: readonly ToolDefinition[]): Choice {
  if (choice === undefined) return 'auto';
  if (typeof choice === 'string') {
    const known = Object.hasOwn(CHOICES, choice) ? CHOICES[choice] : undefined;
    if (known === undefined) {
      throw invalid('tool_choice', `${quoted(choice)} is not none, required or auto`);
    }
    if (choice === 'required' && definitions.length === 0) {
      throw invalid('tool_choice', 'is "required", and there are no tools');
    }
    return known;
  }
  requireFunctionType(choice, 'tool_choice');
  const { name } = parseShape(NamedChoice, choice, 'tool_choice').function;
  if (!definitions.some((definition) => definition.name === name)) {
    throw invalid('tool_choice.function.name', `${quoted(name)} is none of the tools`);
  }
  return { kind: 'named', name };
}
