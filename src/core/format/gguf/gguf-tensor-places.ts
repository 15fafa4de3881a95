import { paddingBytes } from './gguf-alignment.ts';
import type { GgufFile } from './gguf-types.ts';
import { ggufInvalid } from './gguf-values.ts';

/**
 * Each tensor lies right behind the one before it: ggml computes where each must lie and refuses another place, and
 * bytes between could hide anything.
 * @throws GGUF_INVALID naming file and tensor
 */
export function verifyTensorPlaces(file: GgufFile): void {
  let expected = file.dataOffset;
  for (const { name, offset, sizeBytes } of file.tensors) {
    if (offset !== expected) {
      throw ggufInvalid(
        file,
        `tensor ${name}`,
        `lies at ${offset} instead of ${expected}, behind the one before`,
      );
    }
    expected = offset + sizeBytes + paddingBytes(sizeBytes, file.alignmentBytes);
  }
}
