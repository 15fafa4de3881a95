import { ALIGNMENT_BYTES_MAX, ALIGNMENT_BYTES_MIN } from './gguf-limits.ts';
import { type GgufKeys, ggufInvalid } from './gguf-values.ts';

const ALIGNMENT_KEY = 'general.alignment';
const ALIGNMENT_BYTES_DEFAULT = 32;

/**
 * To which multiple the data section and each tensor in it begin.
 * @throws GGUF_INVALID unless it is absent or a power of two of type uint32: anything else overflows or divides by zero
 *   where native code pads with it (llama.cpp pull requests 24997 and 26318)
 */
export function alignmentOf(file: GgufKeys): number {
  const value = file.metadata.get(ALIGNMENT_KEY);
  if (value === undefined) return ALIGNMENT_BYTES_DEFAULT;
  if (value.kind !== 'uint32') throw ggufInvalid(file, ALIGNMENT_KEY, `is ${value.kind} instead of uint32`);
  const bytes = value.value;
  if (bytes < ALIGNMENT_BYTES_MIN || bytes > ALIGNMENT_BYTES_MAX || (bytes & (bytes - 1)) !== 0) {
    throw ggufInvalid(
      file,
      ALIGNMENT_KEY,
      `is ${bytes} instead of a power of two from ${ALIGNMENT_BYTES_MIN} to ${ALIGNMENT_BYTES_MAX}`,
    );
  }
  return bytes;
}

/** How many bytes to the next multiple. */
export function paddingBytes(offset: number, alignmentBytes: number): number {
  return (alignmentBytes - (offset % alignmentBytes)) % alignmentBytes;
}
