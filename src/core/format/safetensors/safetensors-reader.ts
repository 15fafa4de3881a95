import { z } from 'zod';
import type { ByteSource } from '../../base/byte-source.ts';
import { FreeholdError } from '../../base/errors.ts';
import { quoted } from '../../base/ids.ts';

/**
 * The format allows 100 MB. Files of real models stay under 200 KB, and hostile JSON takes some twenty times its size
 * once it is parsed.
 */
export const SAFETENSORS_HEADER_BYTES_MAX = 2 << 20;
/** ggml and every model we convert have at most four; the format sets no bound. */
export const SAFETENSORS_DIMENSIONS_MAX = 8;
/** The length of the header, in front of it. */
const PREFIX_BYTES = 8;

/** Bytes of one element. */
const ELEMENT_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export type SafetensorsType = keyof typeof ELEMENT_BYTES;

export interface SafetensorsTensor {
  readonly name: string;
  readonly type: SafetensorsType;
  /** Row-major: the last is the length of a row. Empty for a scalar. */
  readonly shape: readonly number[];
  /** From the beginning of the file. */
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface SafetensorsFile {
  readonly sizeBytes: number;
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  /** `__metadata__`: strings of the writer. */
  readonly metadata: ReadonlyMap<string, string>;
}

const size = z.int().nonnegative();
const tensorEntry = z.strictObject({
  dtype: z.enum(Object.keys(ELEMENT_BYTES) as [SafetensorsType, ...SafetensorsType[]]),
  shape: z.array(size).max(SAFETENSORS_DIMENSIONS_MAX),
  data_offsets: z.tuple([size, size]),
});
const metadataEntry = z.record(z.string(), z.string());

/**
 * Reads and checks the header of a safetensors file; tensor data is not read. The data must be covered by the tensors
 * without a gap and without overlap, as the format asks, so that nothing hides between them.
 * @param name the file, for messages
 * @throws SAFETENSORS_INVALID; what `source` throws
 */
export async function readSafetensors(
  source: ByteSource,
  name = 'safetensors file',
): Promise<SafetensorsFile> {
  const invalid = (message: string, cause?: unknown) =>
    new FreeholdError('SAFETENSORS_INVALID', `${name}: ${message}`, { cause, detail: { file: name } });
  const headerBytes = await readHeader(source, invalid);
  const header = parseHeader(headerBytes, invalid);
  const dataStart = PREFIX_BYTES + headerBytes.byteLength;
  const metadata = new Map<string, string>();
  const tensors: SafetensorsTensor[] = [];
  // Object.entries, because "__proto__" is a key like any other here.
  for (const [key, value] of Object.entries(header)) {
    if (key === '__metadata__') {
      const parsed = metadataEntry.safeParse(value);
      if (!parsed.success) throw invalid('__metadata__ is not a map of strings', parsed.error);
      for (const [field, text] of Object.entries(parsed.data)) metadata.set(field, text);
    } else {
      tensors.push(parseTensor(key, value, dataStart, source.sizeBytes, invalid));
    }
  }
  tensors.sort((a, b) => a.offset - b.offset || a.sizeBytes - b.sizeBytes);
  requireCovered(tensors, dataStart, source.sizeBytes, invalid);
  return {
    sizeBytes: source.sizeBytes,
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
    metadata,
  };
}

type Invalid = (message: string, cause?: unknown) => FreeholdError;

async function readHeader(source: ByteSource, invalid: Invalid): Promise<Uint8Array> {
  if (source.sizeBytes < PREFIX_BYTES)
    throw invalid(`has ${source.sizeBytes} bytes, not even the length of its header`);
  const prefix = await source.read(0, PREFIX_BYTES);
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length > BigInt(source.sizeBytes - PREFIX_BYTES)) {
    throw invalid(`the header has ${length} bytes, in a file of ${source.sizeBytes} bytes`);
  }
  if (length > BigInt(SAFETENSORS_HEADER_BYTES_MAX)) {
    throw invalid(`the header has ${length} bytes, above ${SAFETENSORS_HEADER_BYTES_MAX}`);
  }
  return source.read(PREFIX_BYTES, Number(length));
}

function parseHeader(bytes: Uint8Array, invalid: Invalid): object {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw invalid('the header is not JSON', cause);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw invalid('the header is not a JSON object');
  }
  return header;
}

function parseTensor(
  name: string,
  value: unknown,
  dataStart: number,
  fileBytes: number,
  invalid: Invalid,
): SafetensorsTensor {
  const parsed = tensorEntry.safeParse(value);
  if (!parsed.success) {
    throw invalid(`tensor ${quoted(name)}: ${parsed.error.issues[0]?.message ?? 'malformed'}`, parsed.error);
  }
  const { dtype, shape, data_offsets } = parsed.data;
  const [start, end] = data_offsets;
  if (start > end || end > fileBytes - dataStart) {
    throw invalid(
      `tensor ${quoted(name)} lies at ${start} to ${end}, of ${fileBytes - dataStart} bytes of data`,
    );
  }
  // No product of the shape can be exact beyond 2⁵³ and still equal the difference of two places in the file.
  const bytes = shape.reduce((product, dimension) => product * dimension, ELEMENT_BYTES[dtype]);
  if (bytes !== end - start) {
    throw invalid(`tensor ${quoted(name)} has ${bytes} bytes by its shape and ${end - start} in the file`);
  }
  return { name, type: dtype, shape, offset: dataStart + start, sizeBytes: bytes };
}

/** A name that stands in the JSON twice leaves a gap here as well: only the last of the two was kept. */
function requireCovered(
  tensors: readonly SafetensorsTensor[],
  dataStart: number,
  fileBytes: number,
  invalid: Invalid,
): void {
  let end = dataStart;
  for (const { name, offset, sizeBytes } of tensors) {
    if (offset !== end) {
      throw invalid(`tensor ${quoted(name)} begins at byte ${offset}, and the one before ends at ${end}`);
    }
    end = offset + sizeBytes;
  }
  if (end !== fileBytes) throw invalid(`the tensors end at byte ${end}, the file at ${fileBytes}`);
}
