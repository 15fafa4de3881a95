import { quoted } from '../../base/ids.ts';
import { GGML_TYPES, type GgmlType } from './ggml-types.ts';
import type { GgufCursor } from './gguf-cursor.ts';
import { TENSOR_DIMENSIONS_MAX, TENSOR_NAME_BYTES_MAX, TEXT_BYTES_MAX } from './gguf-limits.ts';
import { readIdentifier, type TextBudget } from './gguf-text.ts';
import type { GgufTensor } from './gguf-types.ts';

/** `offset` still counts from the data section, `entryOffset` is where the entry stands. */
export type TensorEntry = GgufTensor & { readonly entryOffset: number };

/** The list between metadata and data: names, shapes and types checked, places not yet. */
export async function readTensorEntries(cursor: GgufCursor, count: number): Promise<TensorEntry[]> {
  const names = new Set<string>();
  const entries: TensorEntry[] = [];
  const budget: TextBudget = { bytesLeft: TEXT_BYTES_MAX };
  for (let index = 0; index < count; index++) {
    const entryOffset = cursor.position;
    const name = await readIdentifier(cursor, `the name of tensor ${index}`, TENSOR_NAME_BYTES_MAX, budget);
    if (names.has(name)) throw cursor.invalid(`has the tensor ${quoted(name)} twice`, entryOffset);
    names.add(name);
    entries.push(await readTensorEntry(cursor, name, entryOffset));
  }
  return entries;
}

async function readTensorEntry(cursor: GgufCursor, name: string, entryOffset: number): Promise<TensorEntry> {
  const what = `tensor ${quoted(name)}`;
  await cursor.require(4, what);
  const dimensionCount = cursor.uint32();
  if (dimensionCount < 1 || dimensionCount > TENSOR_DIMENSIONS_MAX) {
    throw cursor.invalid(
      `${what} has ${dimensionCount} dimensions instead of 1 to ${TENSOR_DIMENSIONS_MAX}`,
      entryOffset,
    );
  }
  await cursor.require(dimensionCount * 8 + 4 + 8, what);
  const dimensions: number[] = [];
  for (let index = 0; index < dimensionCount; index++) {
    dimensions.push(cursor.size(`dimension ${index} of ${what}`));
  }
  const elementCount = countElements(cursor, what, dimensions);
  const typeNumber = cursor.uint32();
  const type = GGML_TYPES.get(typeNumber);
  // A removed type has blocks of no elements: a division by zero in llama.cpp issue 8816; a negative one read out of
  // bounds (commit 418dea39).
  if (type === undefined) {
    throw cursor.invalid(`${what} has the unknown ggml type ${typeNumber}`, cursor.position - 4);
  }
  const sizeBytes = tensorBytes(cursor, what, type, dimensions[0] ?? 0, elementCount);
  const offset = cursor.size(`the offset of ${what}`);
  return { name, type, dimensions, elementCount, sizeBytes, offset, entryOffset };
}

/** CVE-2024-21802, CVE-2025-53630 and pull request 18674: products of dimensions that wrap. A zero divides by zero. */
function countElements(cursor: GgufCursor, what: string, dimensions: readonly number[]): number {
  let count = 1;
  for (const dimension of dimensions) {
    if (dimension === 0) throw cursor.invalid(`${what} has a dimension of 0: [${dimensions.join(', ')}]`);
    count *= dimension;
    if (!Number.isSafeInteger(count)) {
      throw cursor.invalid(`${what} has too many elements: [${dimensions.join(', ')}]`);
    }
  }
  return count;
}

function tensorBytes(
  cursor: GgufCursor,
  what: string,
  type: GgmlType,
  rowElements: number,
  elementCount: number,
): number {
  if (rowElements % type.blockElements !== 0) {
    throw cursor.invalid(
      `${what} has rows of ${rowElements}, not a multiple of the ${type.blockElements} of ${type.name}`,
    );
  }
  const bytes = (elementCount / type.blockElements) * type.blockBytes;
  if (bytes > cursor.sizeBytes) {
    throw cursor.invalid(`${what} has ${bytes} bytes, in a file of ${cursor.sizeBytes} bytes`);
  }
  return bytes;
}

/** CVE-2026-7482: a tensor that ends behind the file made Ollama publish its own memory. */
export function placeTensor(
  cursor: GgufCursor,
  entry: TensorEntry,
  dataOffset: number,
  alignmentBytes: number,
): GgufTensor {
  const { entryOffset, ...tensor } = entry;
  if (tensor.offset % alignmentBytes !== 0) {
    throw cursor.invalid(
      `tensor ${quoted(tensor.name)} lies at ${tensor.offset}, not a multiple of ${alignmentBytes}`,
      entryOffset,
    );
  }
  const offset = dataOffset + tensor.offset;
  if (offset > cursor.sizeBytes - tensor.sizeBytes) {
    throw cursor.invalid(
      `tensor ${quoted(tensor.name)} of ${tensor.sizeBytes} bytes at ${offset} ends behind the file of ${cursor.sizeBytes} bytes`,
      entryOffset,
    );
  }
  return { ...tensor, offset };
}

/** Two tensors over the same bytes: one that was inspected can be changed through the other. */
export function requireSeparate(cursor: GgufCursor, tensors: readonly GgufTensor[]): void {
  const sorted = [...tensors].sort((a, b) => a.offset - b.offset);
  for (const [index, tensor] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next !== undefined && next.offset < tensor.offset + tensor.sizeBytes) {
      throw cursor.invalid(`tensors ${quoted(tensor.name)} and ${quoted(next.name)} overlap`, next.offset);
    }
  }
}
