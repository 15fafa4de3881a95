import type { JsonSchema } from '../base/engine-port.ts';
import { quoted } from '../base/ids.ts';
import { SCHEMA_DEPTH_MAX, SCHEMA_VALUES_MAX } from './grammar-limits.ts';
import { schemaRefusal } from './schema-refusal.ts';

/** A schema inside a document, and where it stands there. */
export interface Located {
  readonly schema: JsonSchema;
  /** JSON pointer as a fragment, behind the document's label: `#/properties/age`. Equal paths: the same schema. */
  readonly path: string;
  readonly document: SchemaDocument;
}

/** A whole schema, as it came from outside. */
export class SchemaDocument {
  readonly #root: JsonSchema;
  readonly #label: string;

  /**
   * @param label comes before every path: `tools[2].parameters`
   * @throws SCHEMA_NOT_SUPPORTED when it is no schema, too large or too deep
   */
  constructor(root: JsonSchema, label = '') {
    this.#root = root;
    this.#label = label;
    requireSchema(root, this.path);
    requireModestSize(root, this.path);
  }

  /** Of the whole. */
  get path(): string {
    return `${this.#label}#`;
  }

  get start(): Located {
    return { schema: this.#root, path: this.path, document: this };
  }

  /** A schema below another one. @throws SCHEMA_NOT_SUPPORTED when it is neither object nor boolean */
  below(parent: string, schema: unknown, ...tokens: readonly (string | number)[]): Located {
    const path = pathBelow(parent, ...tokens);
    requireSchema(schema, path);
    return { schema, path, document: this };
  }

  /**
   * What a `$ref` means: `#`, a JSON pointer in a fragment (RFC 6901 §6), or either of them behind the root's `$id`.
   * @throws SCHEMA_NOT_SUPPORTED
   */
  resolve(reference: string, path: string): Located {
    const fragment = this.#fragmentOf(reference);
    if (fragment === undefined || (fragment !== '' && !fragment.startsWith('/'))) {
      throw schemaRefusal(
        path,
        `${quoted(reference)} does not point into this schema`,
        'only "#/…" can be followed',
      );
    }
    let value: unknown = this.#root;
    let at = this.path;
    for (const token of fragment.split('/').slice(1)) {
      const name = decodedToken(token, path);
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) {
        throw schemaRefusal(path, `${quoted(reference)} does not exist`);
      }
      value = (value as Record<string, unknown>)[name];
      at = pathBelow(at, name);
    }
    requireSchema(value, at);
    return { schema: value, path: at, document: this };
  }

  #fragmentOf(reference: string): string | undefined {
    const id = typeof this.#root === 'object' ? this.#root.$id : undefined;
    const mark = reference.indexOf('#');
    const base = mark === -1 ? reference : reference.slice(0, mark);
    if (base !== '' && (typeof id !== 'string' || base !== id.replace(/#.*$/s, ''))) return undefined;
    return mark === -1 ? (base === '' ? undefined : '') : reference.slice(mark + 1);
  }
}

export function pathBelow(parent: string, ...tokens: readonly (string | number)[]): string {
  return [parent, ...tokens.map((token) => String(token).replaceAll('~', '~0').replaceAll('/', '~1'))].join(
    '/',
  );
}

function decodedToken(token: string, path: string): string {
  try {
    return decodeURIComponent(token).replaceAll('~1', '/').replaceAll('~0', '~');
  } catch {
    throw schemaRefusal(path, `${quoted(token)} is no part of a JSON pointer`);
  }
}

function requireSchema(value: unknown, path: string): asserts value is JsonSchema {
  if (typeof value === 'boolean') return;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return;
  throw schemaRefusal(path, 'a schema is an object, true or false');
}

/** With a stack of its own: a schema that is too deep for the compiler's recursion must not get there. */
function requireModestSize(root: JsonSchema, path: string): void {
  const todo: { value: unknown; depth: number }[] = [{ value: root, depth: 1 }];
  let count = 0;
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    if (++count > SCHEMA_VALUES_MAX) {
      throw schemaRefusal(path, `more than ${SCHEMA_VALUES_MAX} values in the schema`);
    }
    if (next.depth > SCHEMA_DEPTH_MAX) throw schemaRefusal(path, `nested deeper than ${SCHEMA_DEPTH_MAX}`);
    if (typeof next.value !== 'object' || next.value === null) continue;
    for (const value of Object.values(next.value)) todo.push({ value, depth: next.depth + 1 });
  }
}
