import { GGML_TYPES } from '../../src/core/format/gguf/ggml-types.ts';
import {
  type GgufMetadata,
  type GgufValue,
  KIND_BYTES,
  KIND_NUMBERS,
} from '../../src/core/format/gguf/gguf-types.ts';
import type { GgufContent } from '../../src/core/format/gguf/gguf-writer.ts';
import { raw } from '../fixtures/raw-gguf.ts';

/**
 * A GGUF file as a grammar sees it: every part can be what no writer would write. What is not said (a count, a length,
 * an offset) is what it should be.
 */
export interface GgufPlan {
  /** How it came about, for reports. */
  readonly origin: string;
  readonly magic: string;
  readonly version: number;
  readonly tensorCount?: bigint;
  readonly entryCount?: bigint;
  readonly entries: readonly PlanEntry[];
  readonly tensors: readonly PlanTensor[];
  /** What all tensor data consist of. */
  readonly fill: Fill;
  /** Bytes cut off the end, or appended where negative. */
  readonly cutBytes: number;
}

export type Fill = 'zeros' | 'small-numbers' | 'ones';

export interface PlanEntry {
  readonly key: Buffer;
  readonly keyLength?: bigint;
  readonly value: PlanValue;
}

export type PlanValue =
  | { readonly kind: 'plain'; readonly type: number; readonly bytes: Buffer }
  | { readonly kind: 'text'; readonly bytes: Buffer; readonly length?: bigint }
  | {
      readonly kind: 'list';
      readonly elementType: number;
      /** Encoded, each. */
      readonly elements: readonly Buffer[];
      readonly count?: bigint;
    };

export interface PlanTensor {
  readonly name: Buffer;
  readonly dimensions: readonly bigint[];
  readonly dimensionCount?: number;
  readonly type: number;
  /** Within the data section. */
  readonly offset?: bigint;
}

const STRING_TYPE = KIND_NUMBERS.string;
const ARRAY_TYPE = KIND_NUMBERS.array;
const ALIGNMENT_BYTES_DEFAULT = 32;
/** Data that are written of one tensor: those that claim more shall find less. */
const TENSOR_BYTES_MAX = 1 << 19;
/** Padding that is written; larger alignments shall find too little. */
const ALIGNMENT_BYTES_WRITTEN_MAX = 1 << 13;

export function encodePlan(plan: GgufPlan): Buffer {
  const alignment = alignmentOf(plan);
  const places = tensorPlaces(plan, alignment);
  const header = Buffer.concat([
    Buffer.from(plan.magic, 'latin1'),
    raw.uint32(plan.version),
    raw.uint64(plan.tensorCount ?? plan.tensors.length),
    raw.uint64(plan.entryCount ?? plan.entries.length),
    ...plan.entries.map(encodeEntry),
    ...plan.tensors.map((tensor, index) => encodeTensor(tensor, places[index] ?? 0)),
  ]);
  const data = plan.tensors.map((tensor) => padded(dataOf(plan.fill, tensor), alignment));
  const bytes = Buffer.concat([padded(header, plan.tensors.length === 0 ? 1 : alignment), ...data]);
  if (plan.cutBytes >= 0) return bytes.subarray(0, Math.max(0, bytes.length - plan.cutBytes));
  return Buffer.concat([bytes, Buffer.alloc(-plan.cutBytes)]);
}

function encodeEntry({ key, keyLength, value }: PlanEntry): Buffer {
  return Buffer.concat([raw.uint64(keyLength ?? key.length), key, encodeValue(value)]);
}

function encodeValue(value: PlanValue): Buffer {
  if (value.kind === 'plain') return Buffer.concat([raw.uint32(value.type), value.bytes]);
  if (value.kind === 'text') {
    return Buffer.concat([
      raw.uint32(STRING_TYPE),
      raw.uint64(value.length ?? value.bytes.length),
      value.bytes,
    ]);
  }
  const head = [
    raw.uint32(ARRAY_TYPE),
    raw.uint32(value.elementType),
    raw.uint64(value.count ?? value.elements.length),
  ];
  return Buffer.concat([...head, ...value.elements]);
}

function encodeTensor(tensor: PlanTensor, place: number): Buffer {
  return Buffer.concat([
    raw.text(tensor.name),
    raw.uint32(tensor.dimensionCount ?? tensor.dimensions.length),
    ...tensor.dimensions.map((dimension) => raw.uint64(dimension)),
    raw.uint32(tensor.type),
    raw.uint64(tensor.offset ?? place),
  ]);
}

function tensorPlaces(plan: GgufPlan, alignment: number): number[] {
  let next = 0;
  return plan.tensors.map((tensor) => {
    const place = next;
    next += Math.ceil(tensorBytes(tensor) / alignment) * alignment;
    return place;
  });
}

/** What the file should hold of it, as far as it is written; sound tensors are written whole. */
function tensorBytes({ dimensions, type }: PlanTensor): number {
  const { blockElements, blockBytes } = GGML_TYPES.get(type) ?? { blockElements: 1, blockBytes: 4 };
  const elements = dimensions.reduce((product, dimension) => product * dimension, 1n);
  const bytes = (elements / BigInt(blockElements)) * BigInt(blockBytes);
  return Number(bytes < BigInt(TENSOR_BYTES_MAX) ? bytes : BigInt(TENSOR_BYTES_MAX));
}

function dataOf(fill: Fill, tensor: PlanTensor): Buffer {
  const bytes = Buffer.alloc(tensorBytes(tensor), fill === 'ones' ? 0xff : 0);
  if (fill !== 'small-numbers' || tensor.type !== 0) return bytes;
  for (let at = 0; at + 4 <= bytes.length; at += 4)
    bytes.writeFloatLE((((at / 4) * 37) % 101) / 500 - 0.1, at);
  return bytes;
}

function padded(bytes: Buffer, alignment: number): Buffer {
  const missing = (alignment - (bytes.length % alignment)) % alignment;
  return missing === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(missing)]);
}

function alignmentOf(plan: GgufPlan): number {
  const entry = plan.entries.find(({ key }) => key.toString('latin1') === 'general.alignment');
  if (entry?.value.kind !== 'plain' || entry.value.bytes.length < 4) return ALIGNMENT_BYTES_DEFAULT;
  const bytes = entry.value.bytes.readUInt32LE();
  const isUsable = bytes > 0 && bytes <= ALIGNMENT_BYTES_WRITTEN_MAX && (bytes & (bytes - 1)) === 0;
  return isUsable ? bytes : ALIGNMENT_BYTES_DEFAULT;
}

/** A sound file as a plan, to be broken. */
export function planOf(content: GgufContent, origin: string): GgufPlan {
  return {
    origin,
    magic: 'GGUF',
    version: content.version ?? 3,
    entries: planEntries(content.metadata),
    tensors: content.tensors.map(({ name, dimensions, type }) => ({
      name: Buffer.from(name),
      dimensions: dimensions.map(BigInt),
      type: type.number,
    })),
    fill: 'small-numbers',
    cutBytes: 0,
  };
}

export function planEntries(metadata: GgufMetadata): PlanEntry[] {
  return [...metadata].map(([key, value]) => ({ key: Buffer.from(key), value: planValue(value) }));
}

/** Encoded by hand, not by the writer under test. */
export function planValue(value: GgufValue): PlanValue {
  if (value.kind === 'string') return { kind: 'text', bytes: Buffer.from(value.value) };
  if (value.kind === 'array') {
    const { elementKind, length, encoded } = value.value;
    const elementType = KIND_NUMBERS[elementKind];
    if (elementKind === 'string') {
      return {
        kind: 'list',
        elementType,
        elements: Array.from(value.value.strings(), (text) => raw.text(text)),
      };
    }
    const width = KIND_BYTES[elementKind];
    const elements = Array.from({ length }, (_, index) =>
      Buffer.from(encoded.subarray(index * width, (index + 1) * width)),
    );
    return { kind: 'list', elementType, elements };
  }
  return { kind: 'plain', type: KIND_NUMBERS[value.kind], bytes: plainBytes(value) };
}

function plainBytes(value: Exclude<GgufValue, { kind: 'string' | 'array' }>): Buffer {
  if (value.kind === 'bool') return Buffer.of(value.value ? 1 : 0);
  const bytes = Buffer.alloc(KIND_BYTES[value.kind]);
  if (value.kind === 'float32') bytes.writeFloatLE(value.value);
  else if (value.kind === 'float64') bytes.writeDoubleLE(value.value);
  else if (value.kind === 'uint64' || value.kind === 'int64')
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value.value));
  else writeInteger(bytes, value.value);
  return bytes;
}

function writeInteger(bytes: Buffer, value: number): void {
  const unsigned = BigInt.asUintN(bytes.length * 8, BigInt(value));
  for (let index = 0; index < bytes.length; index++)
    bytes[index] = Number((unsigned >> BigInt(index * 8)) & 0xffn);
}

/** Key of an entry, for reports and for finding one. */
export function keyOf(entry: PlanEntry): string {
  return entry.key.toString('latin1');
}
