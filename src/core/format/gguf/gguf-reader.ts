import type { ByteSource } from '../../base/byte-source.ts';
import { quoted } from '../../base/ids.ts';
import { alignmentOf, paddingBytes } from './gguf-alignment.ts';
import { GgufArray, STRINGS_PER_MARK } from './gguf-array.ts';
import { GgufCursor } from './gguf-cursor.ts';
import { KEY_BYTES_MAX, METADATA_ENTRIES_MAX, TENSORS_MAX, TEXT_BYTES_MAX } from './gguf-limits.ts';
import { placeTensor, readTensorEntries, requireSeparate } from './gguf-tensor-reader.ts';
import { readIdentifier, readText, type TextBudget } from './gguf-text.ts';
import {
  type GgufFile,
  type GgufMetadata,
  type GgufScalarKind,
  type GgufValue,
  KIND_BYTES,
  kindOfNumber,
  NUMBER_CODECS,
} from './gguf-types.ts';

/** "GGUF", read as a little-endian number. */
const MAGIC = 0x46554747;
/** Key of one byte, type, value of one byte. */
const METADATA_ENTRY_BYTES_MIN = 8 + 1 + 4 + 1;
/** Name of one byte, one dimension, type, offset. */
const TENSOR_ENTRY_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8;

/**
 * Reads the header of a GGUF file (versions 2 and 3, little-endian) and checks every count, length, type, dimension
 * and offset of it against the size of the file. Tensor data is not read. Keeps less than 64 MiB whatever the header
 * claims.
 *
 * The specification is `docs/gguf.md` of ggml; where its own reader is stricter, so are we.
 * @param name the file, for messages
 * @throws GGUF_INVALID, GGUF_LIMIT, both naming the byte; what `source` throws
 */
export async function readGguf(source: ByteSource, name = 'GGUF file'): Promise<GgufFile> {
  const cursor = new GgufCursor(source, name);
  await cursor.require(24, 'the GGUF header');
  const version = parseVersion(cursor);
  const tensorCount = parseCount(cursor, 'tensor', TENSOR_ENTRY_BYTES_MIN, TENSORS_MAX);
  const entryCount = parseCount(cursor, 'metadata', METADATA_ENTRY_BYTES_MIN, METADATA_ENTRIES_MAX);
  const metadata = await readMetadata(cursor, entryCount);
  const alignmentBytes = alignmentOf({ name, metadata });
  const entries = await readTensorEntries(cursor, tensorCount);
  const padding = tensorCount === 0 ? 0 : paddingBytes(cursor.position, alignmentBytes);
  const dataOffset = cursor.position + padding;
  const tensors = entries.map((entry) => placeTensor(cursor, entry, dataOffset, alignmentBytes));
  requireSeparate(cursor, tensors);
  return { name, version, sizeBytes: source.sizeBytes, alignmentBytes, dataOffset, metadata, tensors };
}

function parseVersion(cursor: GgufCursor): 2 | 3 {
  if (cursor.uint32() !== MAGIC) throw cursor.invalid('does not begin with "GGUF"', 0);
  const version = cursor.uint32();
  if (version === 2 || version === 3) return version;
  if (version !== 0 && (version & 0xffff) === 0) {
    throw cursor.invalid('is a big-endian GGUF file; only little-endian ones can be read', 4);
  }
  throw cursor.invalid(`is GGUF version ${version}; only versions 2 and 3 can be read`, 4);
}

/** CVE-2024-21836 and CVE-2024-23605 were these two counts, multiplied with a size without a check. */
function parseCount(cursor: GgufCursor, what: string, entryBytesMin: number, countMax: number): number {
  const offset = cursor.position;
  const count = cursor.size(`the ${what} count`);
  if (count * entryBytesMin > cursor.sizeBytes) {
    throw cursor.invalid(`the ${what} count is ${count}, in a file of ${cursor.sizeBytes} bytes`, offset);
  }
  if (count > countMax) {
    throw cursor.limit(`the ${what} count is ${count}, above ${countMax}`, countMax, offset);
  }
  return count;
}

async function readMetadata(cursor: GgufCursor, entryCount: number): Promise<GgufMetadata> {
  const metadata = new Map<string, GgufValue>();
  const budget: TextBudget = { bytesLeft: TEXT_BYTES_MAX };
  for (let index = 0; index < entryCount; index++) {
    const offset = cursor.position;
    const key = await readIdentifier(cursor, `key ${index}`, KEY_BYTES_MAX, budget);
    // Which of two wins differs between readers: one could check the first and native code use the second.
    if (metadata.has(key)) throw cursor.invalid(`has the key ${quoted(key)} twice`, offset);
    metadata.set(key, await readValue(cursor, quoted(key), budget));
  }
  return metadata;
}

/** `key` is quoted for messages, here and below. */
async function readValue(cursor: GgufCursor, key: string, budget: TextBudget): Promise<GgufValue> {
  await cursor.require(4, `the type of ${key}`);
  const kind = parseKind(cursor, key);
  if (kind === 'array') return { kind, value: await readArray(cursor, key) };
  if (kind === 'string') return { kind, value: await readText(cursor, key, budget) };
  await cursor.require(KIND_BYTES[kind], key);
  if (kind === 'uint64') return { kind, value: cursor.uint64() };
  if (kind === 'int64') return { kind, value: BigInt.asIntN(64, cursor.uint64()) };
  const offset = cursor.position;
  const bytes = await cursor.bytes(KIND_BYTES[kind], key);
  if (kind === 'bool') {
    requireBooleans(cursor, bytes, key, offset);
    return { kind, value: bytes[0] === 1 };
  }
  return {
    kind,
    value: NUMBER_CODECS[kind].read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0),
  };
}

function parseKind(cursor: GgufCursor, key: string): GgufScalarKind | 'array' {
  const offset = cursor.position;
  const number = cursor.uint32();
  const kind = kindOfNumber(number);
  if (kind === undefined) throw cursor.invalid(`${key} has the unknown value type ${number}`, offset);
  return kind;
}

/** A bool that is neither 0 nor 1 is undefined behaviour in C++. */
function requireBooleans(cursor: GgufCursor, bytes: Uint8Array, key: string, offset: number): void {
  const index = bytes.findIndex((byte) => byte > 1);
  if (index >= 0) throw cursor.invalid(`${key} has the boolean ${bytes[index]}`, offset + index);
}

async function readArray(cursor: GgufCursor, key: string): Promise<GgufArray> {
  await cursor.require(12, `the array ${key}`);
  const kindOffset = cursor.position;
  const kind = parseKind(cursor, key);
  // ggml refuses them too. Without a bound on nesting a short file overflows the stack of a recursive reader.
  if (kind === 'array') throw cursor.invalid(`${key} is an array of arrays`, kindOffset);
  const count = cursor.size(`the length of the array ${key}`);
  if (kind === 'string') return readStringArray(cursor, key, count);
  // CVE-2024-21825: an element count that overflows when multiplied with the element size. Ours is
  // below 2⁵³ and the product exact enough to compare.
  const offset = cursor.position;
  const encoded = await cursor.bytes(count * KIND_BYTES[kind], `the array ${key} of ${count} elements`);
  if (kind === 'bool') requireBooleans(cursor, encoded, key, offset);
  return new GgufArray(kind, count, encoded, new Uint32Array());
}

/** Walks the strings once to find their end, then reads them in one piece of exactly that size. */
async function readStringArray(cursor: GgufCursor, key: string, count: number): Promise<GgufArray> {
  if (count * 8 > cursor.remainingBytes) {
    throw cursor.invalid(
      `the array ${key} of ${count} strings does not fit into ${cursor.remainingBytes} bytes`,
    );
  }
  const start = cursor.position;
  const marks: number[] = [];
  const what = `a string of ${key}`;
  for (let index = 0; index < count; index++) {
    if (index % STRINGS_PER_MARK === 0) marks.push(cursor.position - start);
    if (!cursor.has(8)) await cursor.require(8, what);
    cursor.skip(cursor.size(what), what);
  }
  const length = cursor.position - start;
  cursor.position = start;
  const encoded = await cursor.bytes(length, key);
  return new GgufArray('string', count, encoded, Uint32Array.from(marks));
}
