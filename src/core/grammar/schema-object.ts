import { suggestion } from '../base/did-you-mean.ts';
import { quoted } from '../base/ids.ts';
import { PROPERTIES_MAX } from './grammar-limits.ts';
import { type Located, pathBelow } from './schema-document.ts';
import { schemaRefusal } from './schema-refusal.ts';

export const TYPE_NAMES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object'] as const;
export type TypeName = (typeof TYPE_NAMES)[number];

/** The keywords of one schema object, checked one by one; what they mean together is not looked at here. */
export interface SchemaObject {
  readonly types?: readonly TypeName[];
  readonly enum?: readonly unknown[];
  /** In a list, since `undefined` is no sign of absence. */
  readonly const?: readonly [value: unknown];
  readonly reference?: string;
  readonly allOf?: readonly Located[];
  readonly anyOf?: readonly Located[];
  readonly oneOf?: readonly Located[];
  readonly not?: Located;
  readonly properties?: ReadonlyMap<string, Located>;
  readonly additionalProperties?: Located;
  readonly required?: readonly string[];
  readonly items?: Located;
  readonly prefixItems?: readonly Located[];
  readonly pattern?: string;
  readonly format?: string;
  /** `minLength`, `maximum` and the like. */
  readonly numbers: ReadonlyMap<string, number>;
}

type Draft = { -readonly [Key in keyof SchemaObject]: SchemaObject[Key] } & { numbers: Map<string, number> };

interface Place {
  readonly located: Located;
  readonly keyword: string;
  /** Of the keyword. */
  readonly path: string;
}

type Reader = (draft: Draft, value: unknown, place: Place) => void;

const nothing: Reader = () => {};

/** Say something to readers, or are looked at where a `$ref` points to them. */
const WITHOUT_EFFECT = [
  '$comment',
  '$defs',
  '$schema',
  'contentEncoding',
  'contentMediaType',
  'contentSchema',
  'default',
  'definitions',
  'deprecated',
  'description',
  'discriminator',
  'examples',
  'readOnly',
  'title',
  'writeOnly',
] as const;

const READERS: Readonly<Record<string, Reader>> = {
  ...Object.fromEntries(WITHOUT_EFFECT.map((keyword) => [keyword, nothing])),
  $id: (_, __, place) => {
    if (place.located.path !== place.located.document.path) {
      throw schemaRefusal(place.path, 'only the whole schema can have a name of its own');
    }
  },
  $ref: (draft, value, place) => {
    draft.reference = stringOf(value, place);
  },
  type: (draft, value, place) => {
    draft.types = typesOf(value, place);
  },
  enum: (draft, value, place) => {
    draft.enum = listOf(value, place);
    if (draft.enum.length === 0) throw schemaRefusal(place.path, 'no value is allowed');
  },
  const: (draft, value) => {
    draft.const = [value];
  },
  allOf: (draft, value, place) => {
    draft.allOf = schemasOf(value, place);
  },
  anyOf: (draft, value, place) => {
    draft.anyOf = schemasOf(value, place);
  },
  oneOf: (draft, value, place) => {
    draft.oneOf = schemasOf(value, place);
  },
  not: (draft, value, { located, keyword }) => {
    draft.not = located.document.below(located.path, value, keyword);
  },
  properties: (draft, value, place) => {
    draft.properties = propertiesOf(value, place);
  },
  additionalProperties: (draft, value, { located, keyword }) => {
    draft.additionalProperties = located.document.below(located.path, value, keyword);
  },
  required: (draft, value, place) => {
    draft.required = listOf(value, place).map((name) => stringOf(name, place));
  },
  items: (draft, value, { located, keyword, path }) => {
    if (Array.isArray(value)) throw schemaRefusal(path, 'a list of schemas is written as prefixItems');
    draft.items = located.document.below(located.path, value, keyword);
  },
  prefixItems: (draft, value, place) => {
    draft.prefixItems = schemasOf(value, place);
  },
  pattern: (draft, value, place) => {
    draft.pattern = stringOf(value, place);
  },
  format: (draft, value, place) => {
    draft.format = stringOf(value, place);
  },
  ...Object.fromEntries(
    ['minLength', 'maxLength', 'minItems', 'maxItems', 'minProperties', 'maxProperties'].map((keyword) => [
      keyword,
      (draft: Draft, value: unknown, place: Place) => draft.numbers.set(keyword, countOf(value, place)),
    ]),
  ),
  ...Object.fromEntries(
    ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'].map((keyword) => [
      keyword,
      (draft: Draft, value: unknown, place: Place) => draft.numbers.set(keyword, numberOf(value, place)),
    ]),
  ),
  multipleOf: (draft, value, place) => {
    if (numberOf(value, place) !== 1) {
      throw schemaRefusal(place.path, `multiples of ${String(value)} cannot be enforced, only those of 1`);
    }
    draft.numbers.set('multipleOf', 1);
  },
  uniqueItems: (draft, value, place) => {
    if (typeof value !== 'boolean') throw schemaRefusal(place.path, 'must be true or false');
    if (value) draft.numbers.set('uniqueItems', 1);
  },
};

/** Keywords of JSON Schema that say more than a grammar can, by what can be done instead. */
const BEYOND: readonly (readonly [hint: string, keywords: readonly string[]])[] = [
  ['point to it with "#/…" instead', ['$anchor', '$dynamicAnchor', '$dynamicRef', '$recursiveRef']],
  [
    'use anyOf with one branch for each case',
    ['if', 'then', 'else', 'dependencies', 'dependentRequired', 'dependentSchemas'],
  ],
  ['describe every item with items', ['contains', 'maxContains', 'minContains']],
  ['with prefixItems, items says what follows', ['additionalItems', 'unevaluatedItems']],
  ['name the members under properties', ['patternProperties', 'propertyNames']],
  ['use additionalProperties', ['unevaluatedProperties']],
  ['write "type": ["string", "null"]', ['nullable']],
];

/** @throws SCHEMA_NOT_SUPPORTED naming the keyword that is unknown, malformed or beyond what can be enforced */
export function readSchemaObject(located: Located): SchemaObject {
  const draft: Draft = { numbers: new Map() };
  if (typeof located.schema === 'boolean') return draft;
  for (const [keyword, value] of Object.entries(located.schema)) {
    const place = { located, keyword, path: pathBelow(located.path, keyword) };
    const reader = Object.hasOwn(READERS, keyword) ? READERS[keyword] : undefined;
    if (reader !== undefined) reader(draft, value, place);
    // JSON Schema's own convention for what only some tool reads.
    else if (!keyword.startsWith('x-')) throw unknownKeyword(keyword, place.path);
  }
  return draft;
}

function unknownKeyword(keyword: string, path: string): Error {
  const hint = BEYOND.find(([, keywords]) => keywords.includes(keyword))?.[0];
  if (hint !== undefined) return schemaRefusal(path, 'cannot be enforced while an answer is written', hint);
  return schemaRefusal(
    path,
    `unknown keyword ${quoted(keyword)}${suggestion(keyword, Object.keys(READERS))}`,
  );
}

function typesOf(value: unknown, place: Place): TypeName[] {
  const names = Array.isArray(value) ? value : [value];
  if (names.length === 0) throw schemaRefusal(place.path, 'no type is allowed');
  return names.map((name) => {
    const known = TYPE_NAMES.find((type) => type === name);
    if (known !== undefined) return known;
    const what =
      typeof name === 'string'
        ? `unknown type ${quoted(name)}${suggestion(name, TYPE_NAMES)}`
        : 'must be text';
    throw schemaRefusal(place.path, what);
  });
}

function schemasOf(value: unknown, place: Place): Located[] {
  const { located, keyword } = place;
  const schemas = listOf(value, place);
  if (schemas.length === 0 && keyword !== 'prefixItems') throw schemaRefusal(place.path, 'must not be empty');
  return schemas.map((schema, index) => located.document.below(located.path, schema, keyword, index));
}

function propertiesOf(value: unknown, { located, keyword, path }: Place): Map<string, Located> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw schemaRefusal(path, 'must be an object');
  }
  const entries = Object.entries(value);
  if (entries.length > PROPERTIES_MAX) {
    throw schemaRefusal(path, `${entries.length} members, at most ${PROPERTIES_MAX} are possible`);
  }
  return new Map(
    entries.map(([name, schema]) => [name, located.document.below(located.path, schema, keyword, name)]),
  );
}

function stringOf(value: unknown, { path }: Place): string {
  if (typeof value !== 'string') throw schemaRefusal(path, 'must be text');
  return value;
}

function listOf(value: unknown, { path }: Place): readonly unknown[] {
  if (!Array.isArray(value)) throw schemaRefusal(path, 'must be a list');
  return value;
}

function numberOf(value: unknown, { path }: Place): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw schemaRefusal(path, 'must be a number');
  return value;
}

function countOf(value: unknown, place: Place): number {
  const count = numberOf(value, place);
  if (!Number.isInteger(count) || count < 0)
    throw schemaRefusal(place.path, 'must be 0 or a whole number above');
  return count;
}
