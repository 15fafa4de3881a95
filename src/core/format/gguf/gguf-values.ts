import { FreeholdError } from '../../base/errors.ts';
import type { GgufArray } from './gguf-array.ts';
import type {
  GgufBigintKind,
  GgufFile,
  GgufMetadata,
  GgufNumberKind,
  GgufScalarKind,
  GgufValue,
} from './gguf-types.ts';

/** What the accessors need of a GgufFile. */
export type GgufKeys = Pick<GgufFile, 'name' | 'metadata'>;

/** A refusal that names the file. `field` is the key or tensor at fault. */
export function ggufInvalid(file: { readonly name: string }, field: string, message: string): FreeholdError {
  return new FreeholdError('GGUF_INVALID', `${file.name}: ${field} ${message}`, {
    detail: { file: file.name, field },
  });
}

/** @throws GGUF_INVALID when the value is no string */
export function optionalString(file: GgufKeys, key: string): string | undefined {
  const value = file.metadata.get(key);
  if (value === undefined) return undefined;
  if (value.kind !== 'string') throw ggufInvalid(file, key, `is ${kindName(value)} instead of a string`);
  return value.value;
}

/** @throws GGUF_INVALID when the key is missing or no string */
export function stringValue(file: GgufKeys, key: string): string {
  return optionalString(file, key) ?? missing(file, key);
}

/** Any integer kind, as a number. @throws GGUF_INVALID when the value is no integer or beyond ±2⁵³ */
export function optionalInteger(file: GgufKeys, key: string): number | undefined {
  const value = file.metadata.get(key);
  if (value === undefined) return undefined;
  if (typeof value.value === 'bigint') {
    const number = Number(value.value);
    if (!Number.isSafeInteger(number)) throw ggufInvalid(file, key, `is ${value.value}, beyond 2⁵³`);
    return number;
  }
  if (typeof value.value !== 'number' || value.kind === 'float32' || value.kind === 'float64') {
    throw ggufInvalid(file, key, `is ${kindName(value)} instead of an integer`);
  }
  return value.value;
}

/** @throws GGUF_INVALID when the key is missing or no integer */
export function integerValue(file: GgufKeys, key: string): number {
  return optionalInteger(file, key) ?? missing(file, key);
}

/** @throws GGUF_INVALID when the value is no integer from `low` to `high`, or missing although required */
export function integerBetween(
  file: GgufKeys,
  key: string,
  low: number,
  high: number,
  isRequired = false,
): number | undefined {
  const value = optionalInteger(file, key);
  if (value === undefined && !isRequired) return undefined;
  if (value === undefined || value < low || value > high) {
    throw ggufInvalid(
      file,
      key,
      value === undefined ? 'is missing' : `is ${value} instead of ${low} to ${high}`,
    );
  }
  return value;
}

/** Integer or float, finite. @throws GGUF_INVALID when the value is no number or not finite */
export function optionalNumber(file: GgufKeys, key: string): number | undefined {
  const value = file.metadata.get(key);
  if (value === undefined) return undefined;
  if (value.kind !== 'float32' && value.kind !== 'float64') return optionalInteger(file, key);
  if (!Number.isFinite(value.value)) throw ggufInvalid(file, key, `is ${value.value}`);
  return value.value;
}

/** @throws GGUF_INVALID when the key is missing, no number or not finite */
export function numberValue(file: GgufKeys, key: string): number {
  return optionalNumber(file, key) ?? missing(file, key);
}

/** @throws GGUF_INVALID when the value is no boolean */
export function optionalBoolean(file: GgufKeys, key: string): boolean | undefined {
  const value = file.metadata.get(key);
  if (value === undefined) return undefined;
  if (value.kind !== 'bool') throw ggufInvalid(file, key, `is ${kindName(value)} instead of a boolean`);
  return value.value;
}

/** @throws GGUF_INVALID when the value is no array of one of these kinds */
export function optionalArray(
  file: GgufKeys,
  key: string,
  elementKinds: readonly GgufScalarKind[],
): GgufArray | undefined {
  const value = file.metadata.get(key);
  if (value === undefined) return undefined;
  // llama.cpp casts some arrays without a look at their type: bytes read as floats run three times past the end
  // (issue 24888, pull request 26690).
  if (value.kind !== 'array' || !elementKinds.includes(value.value.elementKind)) {
    throw ggufInvalid(file, key, `is ${kindName(value)} instead of an array of ${elementKinds.join(' or ')}`);
  }
  return value.value;
}

/** @throws GGUF_INVALID when the key is missing or no array of one of these kinds */
export function arrayValue(file: GgufKeys, key: string, elementKinds: readonly GgufScalarKind[]): GgufArray {
  return optionalArray(file, key, elementKinds) ?? missing(file, key);
}

/** All strings of an array. For short ones: a vocabulary is better walked. @throws GGUF_INVALID */
export function arrayOfStrings(file: GgufKeys, key: string): string[] {
  return Array.from(arrayValue(file, key, ['string']).strings(), (bytes) =>
    Buffer.from(bytes).toString('utf8'),
  );
}

const INTEGER_KINDS: readonly GgufNumberKind[] = ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32'];

/** All integers of an array. @throws GGUF_INVALID */
export function arrayOfIntegers(file: GgufKeys, key: string): number[] {
  const array = arrayValue(file, key, INTEGER_KINDS);
  return Array.from({ length: array.length }, (_, index) => array.numberAt(index));
}

function missing(file: GgufKeys, key: string): never {
  throw ggufInvalid(file, key, 'is missing');
}

function kindName(value: GgufValue): string {
  return value.kind === 'array' ? `an array of ${value.value.elementKind}` : value.kind;
}

/** Values for writers, with the type that shall stand in the file. */
export const ggufValue = {
  string: (value: string): GgufValue => ({ kind: 'string', value }),
  boolean: (value: boolean): GgufValue => ({ kind: 'bool', value }),
  number: (kind: GgufNumberKind, value: number): GgufValue => ({ kind, value }),
  bigint: (kind: GgufBigintKind, value: bigint): GgufValue => ({ kind, value }),
  array: (value: GgufArray): GgufValue => ({ kind: 'array', value }),
} as const;

/** Metadata from pairs, in their order. */
export function ggufMetadata(entries: Iterable<readonly [string, GgufValue]>): GgufMetadata {
  return new Map(entries);
}
