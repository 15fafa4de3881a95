import type { GgmlType } from './ggml-types.ts';
import type { GgufArray } from './gguf-array.ts';

/** Number kinds that fit into a JavaScript number. */
export type GgufNumberKind =
  | 'uint8'
  | 'int8'
  | 'uint16'
  | 'int16'
  | 'uint32'
  | 'int32'
  | 'float32'
  | 'float64';
/** Number kinds that need a bigint. */
export type GgufBigintKind = 'uint64' | 'int64';
export type GgufScalarKind = GgufNumberKind | GgufBigintKind | 'bool' | 'string';

/** One metadata value, tagged with the type that stands in the file. */
export type GgufValue =
  | { readonly kind: GgufNumberKind; readonly value: number }
  | { readonly kind: 'uint64'; readonly value: bigint }
  | { readonly kind: 'int64'; readonly value: bigint }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'array'; readonly value: GgufArray };

export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** What a tensor is, without where it lies. */
export interface GgufTensorShape {
  readonly name: string;
  readonly type: GgmlType;
  /** ggml's order: the first is the length of a row. One to four, each at least 1. */
  readonly dimensions: readonly number[];
}

export interface GgufTensor extends GgufTensorShape {
  readonly elementCount: number;
  /** From the beginning of the file. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** A parsed header. Every number in it was checked against the size of the file. */
export interface GgufFile {
  /** For messages. */
  readonly name: string;
  readonly version: 2 | 3;
  readonly sizeBytes: number;
  readonly alignmentBytes: number;
  /** Where tensor data begins, from the beginning of the file. */
  readonly dataOffset: number;
  /** In file order. */
  readonly metadata: GgufMetadata;
  /** In file order. */
  readonly tensors: readonly GgufTensor[];
}

/** Type numbers of the format; 9 is the array. */
export const KIND_NUMBERS: Readonly<Record<GgufScalarKind | 'array', number>> = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
};

const KINDS = new Map(
  (Object.keys(KIND_NUMBERS) as (GgufScalarKind | 'array')[]).map((kind) => [KIND_NUMBERS[kind], kind]),
);

/** The kind with this type number, or undefined. */
export function kindOfNumber(number: number): GgufScalarKind | 'array' | undefined {
  return KINDS.get(number);
}

/** Bytes of one element; strings have none. */
export const KIND_BYTES: Readonly<Record<Exclude<GgufScalarKind, 'string'>, 1 | 2 | 4 | 8>> = {
  uint8: 1,
  int8: 1,
  bool: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  float32: 4,
  uint64: 8,
  int64: 8,
  float64: 8,
};

interface NumberCodec {
  read(view: DataView, offset: number): number;
  write(view: DataView, offset: number, value: number): void;
}

/** Numbers as they stand in a file: little-endian. Values out of range are the writer's to refuse. */
export const NUMBER_CODECS: Readonly<Record<GgufNumberKind, NumberCodec>> = {
  uint8: { read: (view, at) => view.getUint8(at), write: (view, at, value) => view.setUint8(at, value) },
  int8: { read: (view, at) => view.getInt8(at), write: (view, at, value) => view.setInt8(at, value) },
  uint16: {
    read: (view, at) => view.getUint16(at, true),
    write: (view, at, value) => view.setUint16(at, value, true),
  },
  int16: {
    read: (view, at) => view.getInt16(at, true),
    write: (view, at, value) => view.setInt16(at, value, true),
  },
  uint32: {
    read: (view, at) => view.getUint32(at, true),
    write: (view, at, value) => view.setUint32(at, value, true),
  },
  int32: {
    read: (view, at) => view.getInt32(at, true),
    write: (view, at, value) => view.setInt32(at, value, true),
  },
  float32: {
    read: (view, at) => view.getFloat32(at, true),
    write: (view, at, value) => view.setFloat32(at, value, true),
  },
  float64: {
    read: (view, at) => view.getFloat64(at, true),
    write: (view, at, value) => view.setFloat64(at, value, true),
  },
};
