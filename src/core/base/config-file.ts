import { type Document, isMap, isScalar, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { suggestion } from './did-you-mean.ts';
import { FreeholdError } from './errors.ts';
import { quoted } from './ids.ts';
import { pathText } from './schema-text.ts';

/** Files that a person writes stay far below; the parser takes many times this in memory. */
export const CONFIG_CHARACTERS_MAX = 1 << 20;

/** Enough for anchors that a person shares by hand; stops a file whose aliases multiply ("billion laughs"). */
const ALIASES_MAX = 32;

type Path = readonly PropertyKey[];
type Issue = z.core.$ZodIssue;

/**
 * Reads a YAML 1.2 file that a person wrote and checks it against a schema (use `strictObject` in it). Strict: one
 * document, no duplicate keys, no unknown tags. An empty file counts as an empty mapping.
 * @param label name of the file, for messages
 * @throws CONFIG_INVALID with label, line, path and, for an unknown key, the name that was probably meant
 */
export function parseConfigYaml<Schema extends z.ZodType>(
  text: string,
  schema: Schema,
  label: string,
): z.output<Schema> {
  if (text.length > CONFIG_CHARACTERS_MAX) {
    throw invalid(`${label}: ${text.length} characters, at most ${CONFIG_CHARACTERS_MAX} are read`);
  }
  const lines = new LineCounter();
  const document = parseStrictly(text, lines, label);
  const value = plainValue(document, label);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [first, ...others] = flattenIssues(result.error.issues);
  if (first === undefined) throw invalid(`${label}: does not fit its schema`);
  const line = lineOf(document, lines, first);
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  const where = line === undefined ? label : `${label} line ${line}`;
  throw new FreeholdError('CONFIG_INVALID', `${where}: ${describe(first, schema, value)}${more}`, {
    detail: { file: label, path: pathText(first.path), line: line ?? null },
  });
}

const invalid = (message: string, cause?: unknown) => new FreeholdError('CONFIG_INVALID', message, { cause });

function parseStrictly(text: string, lines: LineCounter, label: string): Document {
  let document: Document;
  try {
    document = parseDocument(text, {
      version: '1.2',
      schema: 'core',
      strict: true,
      uniqueKeys: true,
      prettyErrors: false,
      // 'silent' would also hide that a second document follows.
      logLevel: 'error',
      lineCounter: lines,
    });
  } catch (error) {
    // The parser recurses: thousands of nested brackets exhaust its stack.
    throw invalid(`${label}: cannot be read as YAML`, error);
  }
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) {
    const { line, col } = lines.linePos(fault.pos[0]);
    throw invalid(`${label} line ${line} column ${col}: ${fault.message}`, fault);
  }
  return document;
}

function plainValue(document: Document, label: string): unknown {
  try {
    return document.toJS({ maxAliasCount: ALIASES_MAX }) ?? {};
  } catch (error) {
    throw invalid(`${label}: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

/** Replaces each "none of the alternatives fits" by the issues of the alternative that was probably meant. */
function flattenIssues(issues: readonly Issue[], prefix: Path = []): Issue[] {
  const flat = issues.flatMap((issue): Issue[] => {
    const path = [...prefix, ...issue.path];
    if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [{ ...issue, path }];
    const alternatives = issue.errors.map((alternative) => flattenIssues(alternative, path));
    // An unknown key says that the value is an object at least, as the alternative wants it.
    const weight = ({ path: at, code }: Issue) =>
      at.length > path.length ? 1 : code === 'unrecognized_keys' ? 100 : 1000;
    const misfit = (alternative: readonly Issue[]) =>
      alternative.reduce((sum, inner) => sum + weight(inner), 0);
    const best = alternatives.reduce((left, right) => (misfit(right) < misfit(left) ? right : left));
    return best;
  });
  // A misspelt key is also a missing one: the unknown name is the more useful half.
  return [
    ...flat.filter((issue) => issue.code === 'unrecognized_keys'),
    ...flat.filter((issue) => issue.code !== 'unrecognized_keys'),
  ];
}

function describe(issue: Issue, schema: z.ZodType, value: unknown): string {
  const path = pathText(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    return `${path}: unknown key ${quoted(key)}${suggestion(key, keysAt(schema, issue.path))}`;
  }
  if (valueAt(value, issue.path) === undefined) return `${path} is missing`;
  const cause = issue.code === 'invalid_key' ? issue.issues[0] : undefined;
  return `${path}: ${(cause ?? issue).message}`;
}

function valueAt(value: unknown, path: Path): unknown {
  let current = value;
  for (const part of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, part)) return undefined;
    current = (current as Record<PropertyKey, unknown>)[part];
  }
  return current;
}

/** 1-based line of the key or value that an issue is about; of its nearest parent when it is missing. */
function lineOf(document: Document, lines: LineCounter, issue: Issue): number | undefined {
  for (let length = issue.path.length; length >= 0; length--) {
    const path = issue.path.slice(0, length);
    const node = length === 0 ? document.contents : document.getIn(path, true);
    if (isMap(node) && issue.code === 'unrecognized_keys' && length === issue.path.length) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === issue.keys[0]);
      if (isScalar(pair?.key) && pair.key.range) return lines.linePos(pair.key.range[0]).line;
    }
    const range = typeof node === 'object' && node !== null && 'range' in node ? node.range : undefined;
    if (Array.isArray(range)) return lines.linePos(Number(range[0])).line;
  }
  return undefined;
}

/** The keys that a schema allows at a path, over all alternatives. */
function keysAt(schema: z.core.$ZodType, path: Path): string[] {
  let level: z.core.$ZodType[] = [schema];
  for (const part of path) level = level.flatMap(unwrap).flatMap((inner) => childrenAt(inner, part));
  return level
    .flatMap(unwrap)
    .flatMap((inner) => (isObjectSchema(inner) ? Object.keys(inner._zod.def.shape) : []));
}

const isObjectSchema = (schema: z.core.$ZodType): schema is z.core.$ZodObject =>
  schema._zod.def.type === 'object';

function childrenAt(schema: z.core.$ZodType, part: PropertyKey): z.core.$ZodType[] {
  if (isObjectSchema(schema)) {
    const child = schema._zod.def.shape[String(part)];
    return child === undefined ? [] : [child];
  }
  const { type } = schema._zod.def;
  if (type === 'array') return [(schema as z.core.$ZodArray)._zod.def.element];
  if (type === 'record') return [(schema as z.core.$ZodRecord)._zod.def.valueType];
  return [];
}

/** Looks through optional, default, transform and union schemas. */
function unwrap(schema: z.core.$ZodType): z.core.$ZodType[] {
  const { type } = schema._zod.def;
  if (type === 'union') return (schema as z.core.$ZodUnion)._zod.def.options.flatMap(unwrap);
  if (type === 'pipe') return unwrap((schema as z.core.$ZodPipe)._zod.def.in);
  if (type === 'optional' || type === 'nullable' || type === 'default' || type === 'readonly') {
    return unwrap((schema as z.core.$ZodOptional)._zod.def.innerType);
  }
  return [schema];
}
