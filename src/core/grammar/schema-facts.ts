import { REPETITIONS_MAX } from './grammar-limits.ts';
import type { Bound, NumberFacts } from './number-range.ts';
import { type Located, pathBelow } from './schema-document.ts';
import type { SchemaObject, TypeName } from './schema-object.ts';
import { schemaRefusal } from './schema-refusal.ts';
import type { StringFacts } from './string-automata.ts';
import { ENFORCED_FORMATS } from './string-format.ts';

/** What one schema says of the items of an array. */
export interface ArrayShape {
  readonly prefix: readonly Located[];
  /** Of what follows; absent: anything. */
  readonly rest: Located | undefined;
}

export interface ArrayFacts {
  readonly shapes: readonly ArrayShape[];
  readonly min: number;
  readonly max: number | undefined;
  /** Where `uniqueItems` stands. */
  readonly uniquePath: string | undefined;
}

/** What one schema says of the members of an object; `additional` is about those that it does not name itself. */
export interface ObjectShape {
  readonly properties: ReadonlyMap<string, Located> | undefined;
  readonly additional: Located | undefined;
}

export interface ObjectFacts {
  readonly shapes: readonly ObjectShape[];
  readonly required: ReadonlySet<string>;
  /** Left out so that another branch of a `oneOf` cannot fit. */
  readonly forbidden: ReadonlySet<string>;
  readonly min: number;
  readonly max: number | undefined;
}

/** A schema that must not fit: another branch of a `oneOf`, or `not`. */
export interface Exclusion {
  readonly located: Located;
  /** Of the keyword. */
  readonly path: string;
}

/** Everything that one or several schemas say together of a value, without alternatives. */
export interface Facts {
  readonly path: string;
  /** Absent: any. `number` takes integers too. */
  readonly types: ReadonlySet<TypeName> | undefined;
  /** Types of which something is said. */
  readonly mentioned: ReadonlySet<TypeName>;
  /** Lists of `enum` and `const`; a value is in each. */
  readonly values: readonly (readonly unknown[])[];
  readonly number: NumberFacts;
  readonly string: StringFacts;
  readonly array: ArrayFacts;
  readonly object: ObjectFacts;
  readonly excluded: readonly Exclusion[];
}

export const NO_FACTS: Facts = {
  path: '#',
  types: undefined,
  mentioned: new Set(),
  values: [],
  number: { low: undefined, high: undefined, isWhole: false },
  string: { min: 0, max: undefined, forms: [] },
  array: { shapes: [], min: 0, max: undefined, uniquePath: undefined },
  object: { shapes: [], required: new Set(), forbidden: new Set(), min: 0, max: undefined },
  excluded: [],
};

const MENTIONS: Readonly<Record<string, TypeName>> = {
  minimum: 'number',
  maximum: 'number',
  exclusiveMinimum: 'number',
  exclusiveMaximum: 'number',
  multipleOf: 'number',
  minLength: 'string',
  maxLength: 'string',
  pattern: 'string',
  format: 'string',
  items: 'array',
  prefixItems: 'array',
  minItems: 'array',
  maxItems: 'array',
  uniqueItems: 'array',
  properties: 'object',
  additionalProperties: 'object',
  required: 'object',
  minProperties: 'object',
  maxProperties: 'object',
};

/**
 * What the keywords of one schema object say by themselves, its `$ref` and branches aside.
 * @throws SCHEMA_NOT_SUPPORTED when they contradict each other
 */
export function ownFacts(located: Located, schema: SchemaObject): Facts {
  const { path } = located;
  const at = (keyword: string) => pathBelow(path, keyword);
  const size = (noun: string) => sizeFacts(schema.numbers, noun, at);
  const isUnique = schema.numbers.has('uniqueItems');
  const items = size('Items');
  const properties = size('Properties');
  const hasItems = schema.items !== undefined || schema.prefixItems !== undefined;
  const hasMembers = schema.properties !== undefined || schema.additionalProperties !== undefined;
  return {
    path,
    types: schema.types === undefined ? undefined : ownTypes(schema.types),
    mentioned: mentionedTypes(schema),
    values: [schema.enum, schema.const].filter((list) => list !== undefined),
    number: numberFacts(schema.numbers, at),
    string: { ...size('Length'), forms: stringForms(schema, at) },
    array: {
      ...items,
      shapes: hasItems ? [{ prefix: schema.prefixItems ?? [], rest: schema.items }] : [],
      uniquePath: isUnique ? at('uniqueItems') : undefined,
    },
    object: {
      ...properties,
      shapes: hasMembers ? [{ properties: schema.properties, additional: schema.additionalProperties }] : [],
      required: new Set(schema.required),
      forbidden: new Set(),
    },
    excluded: schema.not === undefined ? [] : [{ located: schema.not, path: at('not') }],
  };
}

function ownTypes(names: readonly TypeName[]): ReadonlySet<TypeName> {
  const types = new Set(names);
  if (types.has('number')) types.delete('integer');
  return types;
}

function mentionedTypes(schema: SchemaObject): ReadonlySet<TypeName> {
  const keywords = [...Object.keys(schema), ...schema.numbers.keys()].filter(
    (keyword) => keyword !== 'format' || ENFORCED_FORMATS.includes(schema.format ?? ''),
  );
  return new Set(keywords.flatMap((keyword) => MENTIONS[keyword] ?? []));
}

function stringForms(schema: SchemaObject, at: (keyword: string) => string): StringFacts['forms'] {
  const { pattern, format } = schema;
  return [
    ...(pattern === undefined ? [] : [{ kind: 'pattern' as const, source: pattern, path: at('pattern') }]),
    ...(format === undefined || !ENFORCED_FORMATS.includes(format)
      ? []
      : [{ kind: 'format' as const, source: format, path: at('format') }]),
  ];
}

function sizeFacts(
  numbers: ReadonlyMap<string, number>,
  noun: string,
  at: (keyword: string) => string,
): { min: number; max: number | undefined } {
  const min = numbers.get(`min${noun}`) ?? 0;
  const max = numbers.get(`max${noun}`);
  if (min > REPETITIONS_MAX) {
    throw schemaRefusal(
      at(`min${noun}`),
      `at least ${min}, more than the ${REPETITIONS_MAX} that are possible`,
    );
  }
  if (max !== undefined && max < min) {
    throw schemaRefusal(at(`max${noun}`), `at most ${max} and at least ${min} at once`);
  }
  return { min, max: max === undefined ? undefined : Math.min(max, REPETITIONS_MAX) };
}

function numberFacts(numbers: ReadonlyMap<string, number>, at: (keyword: string) => string): NumberFacts {
  const bound = (keyword: string, isExclusive: boolean): Bound | undefined => {
    const value = numbers.get(keyword);
    return value === undefined ? undefined : { value, isExclusive, path: at(keyword) };
  };
  const low = narrower(bound('minimum', false), bound('exclusiveMinimum', true), 1);
  const high = narrower(bound('maximum', false), bound('exclusiveMaximum', true), -1);
  if (low !== undefined && high !== undefined && isEmptyRange(low, high)) {
    throw schemaRefusal(
      high.path,
      `no number is ${boundText(low, 'above', 'at least')} and ${boundText(high, 'below', 'at most')}`,
    );
  }
  return { low, high, isWhole: numbers.has('multipleOf') };
}

const boundText = ({ value, isExclusive }: Bound, exclusive: string, inclusive: string) =>
  `${isExclusive ? exclusive : inclusive} ${value}`;

export function isEmptyRange(low: Bound | undefined, high: Bound | undefined): boolean {
  if (low === undefined || high === undefined) return false;
  return low.value > high.value || (low.value === high.value && (low.isExclusive || high.isExclusive));
}

/** Whoever says more; `direction` 1 for lower bounds, −1 for upper ones. */
function narrower(left: Bound | undefined, right: Bound | undefined, direction: 1 | -1): Bound | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  if (left.value === right.value) return left.isExclusive ? left : right;
  return (left.value - right.value) * direction > 0 ? left : right;
}

/** Both at once; undefined when no value can fit both. */
export function bothFacts(left: Facts, right: Facts): Facts | undefined {
  const types = commonTypes(left.types, right.types);
  if (types?.size === 0) return undefined;
  return {
    path: left.path,
    types,
    mentioned: new Set([...left.mentioned, ...right.mentioned]),
    values: [...left.values, ...right.values],
    number: {
      low: narrower(left.number.low, right.number.low, 1),
      high: narrower(left.number.high, right.number.high, -1),
      isWhole: left.number.isWhole || right.number.isWhole,
    },
    string: {
      ...bothSizes(left.string, right.string),
      forms: [...left.string.forms, ...right.string.forms],
    },
    array: {
      ...bothSizes(left.array, right.array),
      shapes: [...left.array.shapes, ...right.array.shapes],
      uniquePath: left.array.uniquePath ?? right.array.uniquePath,
    },
    object: {
      ...bothSizes(left.object, right.object),
      shapes: [...left.object.shapes, ...right.object.shapes],
      required: new Set([...left.object.required, ...right.object.required]),
      forbidden: new Set([...left.object.forbidden, ...right.object.forbidden]),
    },
    excluded: [...left.excluded, ...right.excluded],
  };
}

interface Sizes {
  readonly min: number;
  readonly max: number | undefined;
}

function bothSizes(left: Sizes, right: Sizes): Sizes {
  const max =
    left.max === undefined || right.max === undefined
      ? (left.max ?? right.max)
      : Math.min(left.max, right.max);
  return { min: Math.max(left.min, right.min), max };
}

function commonTypes(
  left: ReadonlySet<TypeName> | undefined,
  right: ReadonlySet<TypeName> | undefined,
): ReadonlySet<TypeName> | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return new Set([
    ...[...left].filter((type) => takesType(right, type)),
    ...[...right].filter((type) => takesType(left, type)),
  ]);
}

/** Whether every value of `type` is of one of the types. */
export const takesType = (types: ReadonlySet<TypeName>, type: TypeName) =>
  types.has(type) || (type === 'integer' && types.has('number'));

const EVERY_TYPE: ReadonlySet<TypeName> = new Set(['null', 'boolean', 'number', 'string', 'array', 'object']);

/**
 * The types that are generated. A schema without `type` allows all of them, whatever else it says; but who gives
 * `properties` means an object: where something is said of some types, only those are generated.
 */
export function generatedTypes(facts: Facts): ReadonlySet<TypeName> {
  return facts.types ?? (facts.mentioned.size > 0 ? facts.mentioned : EVERY_TYPE);
}

/** What all shapes say of one member; `false` among them: it must not be there. */
export function memberSchemas({ shapes }: ObjectFacts, name: string): readonly Located[] {
  return shapes.flatMap(({ properties, additional }) => properties?.get(name) ?? additional ?? []);
}

export const isForbidden = (object: ObjectFacts, name: string) =>
  object.forbidden.has(name) || memberSchemas(object, name).some(({ schema }) => schema === false);

export interface MemberPlan {
  /** In the order in which they are generated. */
  readonly names: readonly string[];
  /** Schemas of members with other names; absent: none are generated. */
  readonly others: readonly Located[] | undefined;
}

/**
 * The members that are generated. Others than the named ones only where `additionalProperties` asks for them, or where
 * no member is named at all: leaving them out is always allowed.
 */
export function memberPlan(object: ObjectFacts): MemberPlan {
  const { shapes, required } = object;
  const named = new Set([
    ...shapes.flatMap(({ properties }) => [...(properties?.keys() ?? [])]),
    ...required,
  ]);
  const names = [...named].filter((name) => required.has(name) || !isForbidden(object, name));
  const additional = shapes.flatMap((shape) => shape.additional ?? []);
  const isClosed = additional.some(({ schema }) => schema === false);
  const isOpen = additional.length > 0 || !shapes.some(({ properties }) => properties !== undefined);
  return { names, others: isOpen && !isClosed ? additional : undefined };
}

/** What all shapes say of the item at `index`. */
export function itemSchemas({ shapes }: ArrayFacts, index: number): readonly Located[] {
  return shapes.flatMap(({ prefix, rest }) => prefix[index] ?? rest ?? []);
}
