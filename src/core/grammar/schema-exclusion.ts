import type { Located } from './schema-document.ts';
import {
  type Exclusion,
  type Facts,
  generatedTypes,
  isEmptyRange,
  isForbidden,
  itemSchemas,
  memberPlan,
  memberSchemas,
  takesType,
} from './schema-facts.ts';
import type { TypeName } from './schema-object.ts';
import type { SchemaReader } from './schema-reader.ts';
import { schemaRefusal, shownPath } from './schema-refusal.ts';
import { valueFitsFacts } from './schema-value.ts';

/** Members of members that are compared to tell two branches apart. */
const COMPARISON_DEPTH_MAX = 4;

/**
 * The facts, narrowed until no generated value can be valid under an excluded schema: by requiring a member that tells
 * the branches apart, or by leaving out one that the other branch needs.
 * @throws SCHEMA_NOT_SUPPORTED where that cannot be proved
 */
export function withoutExcluded(reader: SchemaReader, facts: Facts): Facts {
  // What is to be proved must not be taken as given.
  let narrowed: Facts = { ...facts, excluded: [] };
  for (const exclusion of facts.excluded) {
    for (const other of reader.combinations([exclusion.located])) {
      narrowed = keptApart(reader, narrowed, other, exclusion);
    }
  }
  return narrowed;
}

function keptApart(reader: SchemaReader, facts: Facts, other: Facts, { located, path }: Exclusion): Facts {
  if (areApart(reader, facts, other, 0)) return facts;
  const { object } = facts;
  const isObject = [...generatedTypes(facts)].every((type) => type === 'object');
  if (isObject) {
    const { names } = memberPlan(object);
    const telling = names.find((name) => membersApart(reader, facts, other, name, 0));
    if (telling !== undefined) {
      return { ...facts, object: { ...object, required: new Set([...object.required, telling]) } };
    }
    const unwanted = [...other.object.required].find((name) => !object.required.has(name));
    if (unwanted !== undefined) {
      return { ...facts, object: { ...object, forbidden: new Set([...object.forbidden, unwanted]) } };
    }
  }
  throw schemaRefusal(
    path,
    `what fits ${shownPath(facts.path)} may also fit ${shownPath(located.path)}, and that cannot be prevented`,
    'use anyOf, or give each branch a required member with a const of its own',
  );
}

/** Whether no value that is generated from `facts` can be valid under `other`. "No" may mean "not proved". */
function areApart(reader: SchemaReader, facts: Facts, other: Facts, depth: number): boolean {
  reader.spend();
  if (depth > COMPARISON_DEPTH_MAX) return false;
  const [listed] = other.values;
  if (listed?.every((value) => !valueFitsFacts(reader, value, facts))) return true;
  const [generated] = facts.values;
  if (generated?.every((value) => !valueFitsFacts(reader, value, other))) return true;
  return [...generatedTypes(facts)].every((type) => {
    if (
      other.types !== undefined &&
      !takesType(other.types, type) &&
      !(type === 'number' && other.types.has('integer'))
    ) {
      return true;
    }
    return areApartAs(type, reader, facts, other, depth);
  });
}

function areApartAs(
  type: TypeName,
  reader: SchemaReader,
  facts: Facts,
  other: Facts,
  depth: number,
): boolean {
  switch (type) {
    case 'integer':
    case 'number':
      return (
        isEmptyRange(facts.number.low, other.number.high) || isEmptyRange(other.number.low, facts.number.high)
      );
    case 'string':
      return areSizesApart(facts.string, other.string) || areStringsApart(reader, facts, other);
    case 'array':
      return areSizesApart(facts.array, other.array) || areItemsApart(reader, facts, other, depth);
    case 'object':
      return areObjectsApart(reader, facts, other, depth);
    default:
      return false;
  }
}

interface Sizes {
  readonly min: number;
  readonly max: number | undefined;
}

function areSizesApart(left: Sizes, right: Sizes): boolean {
  return (
    (left.max !== undefined && left.max < right.min) || (right.max !== undefined && right.max < left.min)
  );
}

function areStringsApart(reader: SchemaReader, facts: Facts, other: Facts): boolean {
  if (facts.string.forms.length === 0 || other.string.forms.length === 0) return false;
  const { strings } = reader.budget;
  const left = strings.ofString(facts.string, facts.path);
  // Without its lengths, for which an automaton may take fewer strings than the schema.
  const right = strings.ofString({ ...other.string, min: 0, max: undefined }, other.path);
  return strings.areApart(left, right);
}

function areItemsApart(reader: SchemaReader, facts: Facts, other: Facts, depth: number): boolean {
  const sure = Math.min(facts.array.min, 8);
  return Array.from({ length: sure }, (_, index) => index).some((index) =>
    areSchemasApart(reader, itemSchemas(facts.array, index), itemSchemas(other.array, index), depth + 1),
  );
}

function areObjectsApart(reader: SchemaReader, facts: Facts, other: Facts, depth: number): boolean {
  const { names, others } = memberPlan(facts.object);
  const needsMore = [...other.object.required].some((name) => others === undefined && !names.includes(name));
  if (needsMore) return true;
  return [...facts.object.required].some(
    (name) => isForbidden(other.object, name) || membersApart(reader, facts, other, name, depth),
  );
}

/** Whether a member, when it is there, cannot be valid under the other facts. */
function membersApart(
  reader: SchemaReader,
  facts: Facts,
  other: Facts,
  name: string,
  depth: number,
): boolean {
  const theirs = memberSchemas(other.object, name);
  return theirs.length > 0 && areSchemasApart(reader, memberSchemas(facts.object, name), theirs, depth + 1);
}

function areSchemasApart(
  reader: SchemaReader,
  generated: readonly Located[],
  other: readonly Located[],
  depth: number,
): boolean {
  return reader
    .combinations(generated)
    .every((facts) => reader.combinations(other).every((their) => areApart(reader, facts, their, depth)));
}
