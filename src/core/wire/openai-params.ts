import type { Constraint, GenerateRequest, ToolUse } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import { ANSWER_SCHEMA_PARAM } from './openai-format.ts';
import { joinPath } from './openai-shape.ts';

/** Names in a schema are the client's own, of any length. */
const PARAM_CHARACTERS_MAX = 256;
/** As `core/grammar` names a place in the parameters of a tool: `tools[2].parameters#/properties/a`. */
const TOOL_PATH = /^tools\[(\d+)\]\.parameters(.*)$/s;

/**
 * What an engine throws, with the field of the request that is at fault as `detail.param`: engines know where in a
 * schema (`detail.path`), but not what a door calls it. Whatever is no FreeholdError, and whatever names a field already, stays as it is.
 */
export function namingField(thrown: unknown, generation: GenerateRequest): unknown {
  return thrown instanceof FreeholdError ? withParam(thrown, paramOf(thrown, generation)) : thrown;
}

/** The same for a request without a generation, where only the input can be at fault. */
export function namingInput(thrown: unknown, param: string): unknown {
  return thrown instanceof FreeholdError && thrown.code === 'CONTEXT_EXCEEDED'
    ? withParam(thrown, param)
    : thrown;
}

function withParam(error: FreeholdError, param: string | undefined): FreeholdError {
  if (param === undefined || error.detail.param !== undefined) return error;
  return new FreeholdError(error.code, error.message, {
    cause: error.cause,
    hint: error.hint,
    detail: { ...error.detail, param: param.slice(0, PARAM_CHARACTERS_MAX) },
  });
}

function paramOf(error: FreeholdError, { prompt, constraint, tools }: GenerateRequest): string | undefined {
  switch (error.code) {
    case 'CONTEXT_EXCEEDED':
    case 'TEMPLATE_FAILED':
      return prompt.kind === 'chat' ? 'messages' : 'prompt';
    case 'GRAMMAR_INVALID':
    case 'SCHEMA_NOT_SUPPORTED':
      return formPlace(error, constraint, tools);
    case 'ADAPTER_INVALID':
      return 'model';
    default:
      return undefined;
  }
}

/** Where the form stands that the answer cannot be given. */
function formPlace(
  { detail }: FreeholdError,
  constraint: Constraint | undefined,
  tools: ToolUse | undefined,
): string | undefined {
  switch (constraint?.kind) {
    case 'gbnf':
      return 'grammar';
    case 'json-object':
      return 'response_format';
    case 'json-schema':
      return schemaPath(ANSWER_SCHEMA_PARAM, detail.path);
    case undefined: {
      if (tools === undefined) return undefined;
      const [, index, pointer] = TOOL_PATH.exec(String(detail.path)) ?? [];
      return index === undefined ? 'tools' : schemaPath(`tools[${index}].function.parameters`, pointer);
    }
  }
}

/** @param pointer where in the schema: a JSON pointer (RFC 6901), with or without the `#` of a reference */
function schemaPath(place: string, pointer: unknown): string {
  if (typeof pointer !== 'string') return place;
  const keys = pointer
    .replace(/^#/, '')
    .split('/')
    .filter((key) => key !== '')
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
  return joinPath(
    place,
    keys.map((key) => (/^\d+$/.test(key) ? Number(key) : key)),
  );
}
