import { alignmentOf, paddingBytes } from './gguf-alignment.ts';
import { KEY_BYTES_MAX, TENSOR_DIMENSIONS_MAX, TENSOR_NAME_BYTES_MAX } from './gguf-limits.ts';
import {
  type GgufFile,
  type GgufMetadata,
  type GgufTensor,
  type GgufTensorShape,
  type GgufValue,
  KIND_BYTES,
  KIND_NUMBERS,
  NUMBER_CODECS,
} from './gguf-types.ts';
import { ggufInvalid } from './gguf-values.ts';

/** A file to write. Tensors are laid out in this order, each at the next multiple of `general.alignment`. */
export interface GgufContent {
  readonly version?: 2 | 3;
  readonly metadata: GgufMetadata;
  readonly tensors: readonly GgufTensorShape[];
  /** For messages. */
  readonly name?: string;
}

/** Everything before the tensor data, and where each tensor goes. */
export interface GgufLayout {
  /** Padded to the alignment: tensor data follow at once. */
  readonly header: Uint8Array;
  readonly tensors: readonly GgufTensor[];
  readonly sizeBytes: number;
}

/** The bytes of one tensor, whole or in pieces. */
export type TensorData = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/**
 * Encodes a header. The same content gives the same bytes.
 * @throws GGUF_INVALID when a reader would refuse it: a name twice or too long, rows that do not fit the type, a
 *   number out of range
 */
export function encodeGgufHeader(content: GgufContent): GgufLayout {
  const { version = 3, metadata, name = 'GGUF file' } = content;
  const alignmentBytes = alignmentOf({ name, metadata });
  const out = new HeaderBytes(name);
  out.raw(Buffer.from('GGUF'));
  out.number('uint32', version, 'version');
  out.size(content.tensors.length);
  out.size(metadata.size);
  for (const [key, value] of metadata) {
    out.identifier(key, KEY_BYTES_MAX);
    out.value(value, key);
  }
  const placed = placeTensors(content.tensors, alignmentBytes, name);
  for (const tensor of placed) writeTensorEntry(out, tensor);
  if (placed.length > 0) out.raw(Buffer.alloc(paddingBytes(out.length, alignmentBytes)));
  const header = out.concat();
  const tensors = placed.map((tensor) => ({ ...tensor, offset: header.byteLength + tensor.offset }));
  const last = tensors.at(-1);
  const end = last === undefined ? header.byteLength : last.offset + last.sizeBytes;
  return { header, tensors, sizeBytes: end + (last === undefined ? 0 : paddingBytes(end, alignmentBytes)) };
}

/**
 * The whole file, piece by piece: header, then the data of every tensor with its padding.
 * @throws GGUF_INVALID when the data of a tensor are shorter or longer than its shape says; what `dataOf` throws
 */
export async function* ggufParts(
  content: GgufContent,
  dataOf: (tensor: GgufTensor) => TensorData,
): AsyncGenerator<Uint8Array> {
  const layout = encodeGgufHeader(content);
  yield layout.header;
  for (const [index, tensor] of layout.tensors.entries()) {
    const data = dataOf(tensor);
    let bytes = 0;
    for await (const piece of data instanceof Uint8Array ? [data] : data) {
      bytes += piece.byteLength;
      if (bytes > tensor.sizeBytes) break;
      yield piece;
    }
    if (bytes !== tensor.sizeBytes) {
      throw ggufInvalid(
        { name: content.name ?? 'GGUF file' },
        `tensor ${tensor.name}`,
        `has ${tensor.sizeBytes} bytes by its shape and ${bytes > tensor.sizeBytes ? 'more' : bytes} in its data`,
      );
    }
    const end = tensor.offset + tensor.sizeBytes;
    const padding = (layout.tensors[index + 1]?.offset ?? layout.sizeBytes) - end;
    if (padding > 0) yield Buffer.alloc(padding);
  }
}

/** What writes a file again that was read: same order, types and version. Other keys and tensors can be put in. */
export function contentOf(file: GgufFile): GgufContent {
  return { version: file.version, metadata: file.metadata, tensors: file.tensors, name: file.name };
}

function placeTensors(
  shapes: readonly GgufTensorShape[],
  alignmentBytes: number,
  fileName: string,
): GgufTensor[] {
  const names = new Set<string>();
  let offset = 0;
  return shapes.map(({ name, type, dimensions }) => {
    const invalid = (message: string) => ggufInvalid({ name: fileName }, `tensor ${name}`, message);
    if (names.has(name)) throw invalid('is there twice');
    names.add(name);
    const isShape =
      dimensions.length >= 1 &&
      dimensions.length <= TENSOR_DIMENSIONS_MAX &&
      dimensions.every((dimension) => Number.isSafeInteger(dimension) && dimension > 0);
    if (!isShape) throw invalid(`has the shape [${dimensions.join(', ')}]`);
    if ((dimensions[0] ?? 0) % type.blockElements !== 0) {
      throw invalid(
        `has rows of ${dimensions[0]}, not a multiple of the ${type.blockElements} of ${type.name}`,
      );
    }
    const elementCount = dimensions.reduce((product, dimension) => product * dimension, 1);
    const sizeBytes = (elementCount / type.blockElements) * type.blockBytes;
    if (!Number.isSafeInteger(offset + sizeBytes)) throw invalid(`is too large: [${dimensions.join(', ')}]`);
    const tensor = { name, type, dimensions, elementCount, offset, sizeBytes };
    offset += sizeBytes + paddingBytes(sizeBytes, alignmentBytes);
    return tensor;
  });
}

function writeTensorEntry(out: HeaderBytes, tensor: GgufTensor): void {
  out.identifier(tensor.name, TENSOR_NAME_BYTES_MAX);
  out.number('uint32', tensor.dimensions.length, tensor.name);
  for (const dimension of tensor.dimensions) out.size(dimension);
  out.number('uint32', tensor.type.number, tensor.name);
  out.size(tensor.offset);
}

class HeaderBytes {
  length = 0;
  readonly #fileName: string;
  readonly #parts: Uint8Array[] = [];

  constructor(fileName: string) {
    this.#fileName = fileName;
  }

  concat(): Uint8Array {
    return Buffer.concat(this.#parts, this.length);
  }

  raw(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.length += bytes.byteLength;
  }

  size(value: number | bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.raw(bytes);
  }

  number(kind: Extract<GgufValue, { value: number }>['kind'], value: number, key: string): void {
    const view = new DataView(new ArrayBuffer(KIND_BYTES[kind]));
    NUMBER_CODECS[kind].write(view, 0, value);
    const isFloat = kind === 'float32' || kind === 'float64';
    // A DataView wraps what does not fit: 256 would be written as the uint8 0.
    if (!isFloat && !integerFits(kind, value)) {
      throw ggufInvalid({ name: this.#fileName }, key, `is ${value}, which is no ${kind}`);
    }
    this.raw(new Uint8Array(view.buffer));
  }

  identifier(text: string, bytesMax: number): void {
    if (!/^[\x20-\x7e]+$/.test(text) || text.length > bytesMax) {
      throw ggufInvalid(
        { name: this.#fileName },
        JSON.stringify(text.slice(0, 100)),
        'is not a key or tensor name',
      );
    }
    this.#text(text);
  }

  value(value: GgufValue, key: string): void {
    this.number('uint32', KIND_NUMBERS[value.kind], key);
    if (value.kind === 'string') {
      if (value.value.includes('\0'))
        throw ggufInvalid({ name: this.#fileName }, key, 'has a NUL in its text');
      this.#text(value.value);
    } else if (value.kind === 'bool') {
      this.number('uint8', value.value ? 1 : 0, key);
    } else if (value.kind === 'uint64' || value.kind === 'int64') {
      this.size(BigInt.asUintN(64, value.value));
    } else if (value.kind === 'array') {
      this.number('uint32', KIND_NUMBERS[value.value.elementKind], key);
      this.size(value.value.length);
      this.raw(value.value.encoded);
    } else {
      this.number(value.kind, value.value, key);
    }
  }

  #text(text: string): void {
    const bytes = Buffer.from(text, 'utf8');
    this.size(bytes.byteLength);
    this.raw(bytes);
  }
}

function integerFits(
  kind: 'uint8' | 'int8' | 'uint16' | 'int16' | 'uint32' | 'int32',
  value: number,
): boolean {
  const bits = KIND_BYTES[kind] * 8;
  const isSigned = kind.startsWith('int');
  const low = isSigned ? -(2 ** (bits - 1)) : 0;
  const high = isSigned ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
  return Number.isInteger(value) && value >= low && value <= high;
}
