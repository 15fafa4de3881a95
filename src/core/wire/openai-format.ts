import type { Constraint } from '../base/engine-port.ts';
import { quoted } from '../base/ids.ts';
import { FORMAT_FIELDS, JSON_SCHEMA_FIELDS, selectHonoured } from './openai-fields.ts';
import { invalid } from './openai-shape.ts';

/**
 * JSON text of one schema, or of those of all tools. OpenAI allows 120,000 characters in names alone; a compiler reads
 * all of it before the first token.
 */
export const SCHEMA_CHARACTERS_MAX = 1 << 18;
/** A grammar that was written by a person has some thousand. The engine takes more, of what schemas become. */
export const GRAMMAR_CHARACTERS_MAX = 1 << 18;

/** Where the schema of an answer stands in the body. */
export const ANSWER_SCHEMA_PARAM = 'response_format.json_schema.schema';

/**
 * The form that the fields `response_format` and `grammar` ask for; undefined when it is free.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED
 */
export function parseConstraint(format: unknown, grammar: unknown): Constraint | undefined {
  const formed = format === undefined ? undefined : parseFormat(format);
  if (grammar === undefined) return formed;
  if (formed !== undefined) throw invalid('grammar', 'does not go together with response_format');
  if (typeof grammar !== 'string') throw invalid('grammar', 'is not a string');
  if (!grammar.isWellFormed()) throw invalid('grammar', 'contains half of a surrogate pair');
  if (grammar.length > GRAMMAR_CHARACTERS_MAX) {
    throw invalid('grammar', `has ${grammar.length} characters, and ${GRAMMAR_CHARACTERS_MAX} are allowed`);
  }
  return { kind: 'gbnf', grammar };
}

function parseFormat(format: unknown): Constraint | undefined {
  const { type, json_schema } = selectHonoured(format, FORMAT_FIELDS, 'response_format');
  if (type !== 'json_schema' && json_schema !== undefined) {
    throw invalid('response_format.json_schema', 'needs the type to be json_schema');
  }
  switch (type) {
    case 'text':
      return undefined;
    case 'json_object':
      return { kind: 'json-object' };
    case 'json_schema':
      return { kind: 'json-schema', schema: parseAnswerSchema(json_schema) };
    default: {
      const shown = typeof type === 'string' ? `${quoted(type)} is` : 'is';
      throw invalid('response_format.type', `${shown} not text, json_object or json_schema`);
    }
  }
}

function parseAnswerSchema(wrapper: unknown): SchemaObject {
  const { schema } = selectHonoured(wrapper ?? {}, JSON_SCHEMA_FIELDS, 'response_format.json_schema');
  const parsed = parseSchemaObject(schema, ANSWER_SCHEMA_PARAM);
  requireSchemaSize(schemaCharacters(parsed), ANSWER_SCHEMA_PARAM);
  return parsed;
}

export type SchemaObject = Readonly<Record<string, unknown>>;

/** @throws REQUEST_INVALID; what the schema says is the engine's matter */
export function parseSchemaObject(schema: unknown, param: string): SchemaObject {
  if (schema === undefined) throw invalid(param, 'is missing');
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
    throw invalid(param, 'is not a JSON object');
  }
  return schema as SchemaObject;
}

export function schemaCharacters(schema: SchemaObject): number {
  return JSON.stringify(schema).length;
}

/** @throws REQUEST_INVALID with both numbers */
export function requireSchemaSize(characters: number, param: string): void {
  if (characters <= SCHEMA_CHARACTERS_MAX) return;
  throw invalid(param, `${characters} characters of JSON, and ${SCHEMA_CHARACTERS_MAX} are allowed`);
}
