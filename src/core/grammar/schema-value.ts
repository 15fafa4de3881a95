import { accepts } from './automaton.ts';
import type { Located } from './schema-document.ts';
import { type Facts, isForbidden, itemSchemas, memberSchemas, takesType } from './schema-facts.ts';
import type { TypeName } from './schema-object.ts';
import type { SchemaReader } from './schema-reader.ts';

/** Whether a JSON value is valid under all schemas together: for `enum` and `const`, whose values are known. */
function valueFits(reader: SchemaReader, value: unknown, schemas: readonly Located[]): boolean {
  return reader.nested(schemas[0]?.path ?? '#', () =>
    reader.combinations(schemas).some((facts) => valueFitsFacts(reader, value, facts)),
  );
}

export function valueFitsFacts(reader: SchemaReader, value: unknown, facts: Facts): boolean {
  reader.spend();
  const type = typeOf(value);
  if (facts.types !== undefined && !takesType(facts.types, type)) return false;
  if (!facts.values.every((list) => keysOf(list).has(valueKey(value)))) return false;
  if (facts.excluded.some(({ located }) => valueFits(reader, value, [located]))) return false;
  if (typeof value === 'number') return numberFits(value, facts);
  if (typeof value === 'string') return stringFits(reader, value, facts);
  if (Array.isArray(value)) return arrayFits(reader, value, facts);
  return typeof value !== 'object' || value === null || objectFits(reader, value, facts);
}

function typeOf(value: unknown): TypeName {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  if (typeof value === 'string') return 'string';
  return typeof value === 'boolean' ? 'boolean' : 'object';
}

function numberFits(value: number, { number: { low, high, isWhole } }: Facts): boolean {
  if (isWhole && !Number.isInteger(value)) return false;
  if (low !== undefined && (value < low.value || (low.isExclusive && value === low.value))) return false;
  return high === undefined || !(value > high.value || (high.isExclusive && value === high.value));
}

function stringFits(reader: SchemaReader, value: string, { string: { min, max, forms } }: Facts): boolean {
  const length = Array.from(value).length;
  if (length < min || (max !== undefined && length > max)) return false;
  return forms.every((form) => accepts(reader.budget.strings.ofForm(form), value));
}

function arrayFits(reader: SchemaReader, value: readonly unknown[], { array }: Facts): boolean {
  if (value.length < array.min || (array.max !== undefined && value.length > array.max)) return false;
  if (array.uniquePath !== undefined && new Set(value.map(valueKey)).size < value.length) return false;
  return value.every((item, index) => valueFits(reader, item, itemSchemas(array, index)));
}

function objectFits(reader: SchemaReader, value: object, { object }: Facts): boolean {
  const entries = Object.entries(value);
  if (entries.length < object.min || (object.max !== undefined && entries.length > object.max)) return false;
  if ([...object.required].some((name) => !Object.hasOwn(value, name))) return false;
  return entries.every(
    ([name, member]) => !isForbidden(object, name) && valueFits(reader, member, memberSchemas(object, name)),
  );
}

const lists = new WeakMap<readonly unknown[], ReadonlySet<string>>();

function keysOf(list: readonly unknown[]): ReadonlySet<string> {
  const known = lists.get(list) ?? new Set(list.map(valueKey));
  lists.set(list, known);
  return known;
}

const keys = new WeakMap<object, string>();

/** Equal for values that JSON Schema calls equal: the order of members does not matter. */
export function valueKey(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const known = keys.get(value);
  if (known !== undefined) return known;
  const key = Array.isArray(value)
    ? `[${value.map(valueKey).join(',')}]`
    : `{${Object.entries(value)
        .map(([name, member]) => `${JSON.stringify(name)}:${valueKey(member)}`)
        .sort()
        .join(',')}}`;
  keys.set(value, key);
  return key;
}
