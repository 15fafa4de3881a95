import type { GgufFile } from './gguf-types.ts';
import { ggufInvalid } from './gguf-values.ts';

/** Types that ggml can multiply by: not integers, doubles and intermediate results, for which it calls NULL. */
const FACTOR_TYPE = /^(f32|f16|bf16|q[1-6]_[01K]|q8_0|iq\d\w+|tq[12]_0|mxfp4|nvfp4)$/;
/** Tables of indices: token to expert, token of a draft to token. */
const INDEX_TENSOR = /(^|\.)(ffn_gate_tid2eid|d2t|masked_embd_ordering)(\.weight)?$/;
/**
 * Added to or multiplied with intermediate results element by element, or read as float by an operation of its own: ggml
 * aborts on every other type (found by loading models of all architectures with other types).
 */
const FLOAT_TENSOR =
  /norm|\.bias$|(^|\.)(ssm_a|ssm_d|ssm_conv1d|shortconv\.conv|rope_freqs|rope_factors_(long|short)|attn_sinks|layer_output_scale|gamma|z_l_init)(\.weight)?$/;
/** Kernels of convolutions over sound. */
const KERNEL_TENSOR = /^(conv1d|posnet\.\d+\.conv\d|convnext\.\d+\.dw)\.weight$/;
/** What native code maps begins with the first tensor, and it asserts that address (`TENSOR_ALIGNMENT`). */
const NATIVE_ALIGNMENT_BYTES = 32;

/** Types that ggml has an operation for are a factor of a matrix product. */
export function isFactorType(typeName: string): boolean {
  return FACTOR_TYPE.test(typeName);
}

/**
 * Checks each tensor's type against what native code does with a tensor of that name.
 * @throws GGUF_INVALID naming file and tensor
 */
export function verifyTensorTypes(file: GgufFile): void {
  for (const { name, type } of file.tensors) {
    const invalid = (message: string) => ggufInvalid(file, `tensor ${name}`, message);
    if (FLOAT_TENSOR.test(name)) {
      if (type.name !== 'f32') throw invalid(`is of type ${type.name} instead of f32`);
    } else if (KERNEL_TENSOR.test(name)) {
      if (type.name !== 'f32' && type.name !== 'f16')
        throw invalid(`is of type ${type.name} instead of f32 or f16`);
    } else if (!isFactorType(type.name) && !INDEX_TENSOR.test(name)) {
      throw invalid(`is of type ${type.name}, which no weights have`);
    }
  }
}

/** @throws GGUF_INVALID naming file and tensor */
export function verifyNativeAlignment(file: GgufFile): void {
  const unaligned = file.tensors.find(({ offset }) => offset % NATIVE_ALIGNMENT_BYTES !== 0);
  if (unaligned === undefined) return;
  throw ggufInvalid(
    file,
    `tensor ${unaligned.name}`,
    `lies at ${unaligned.offset}, not a multiple of the ${NATIVE_ALIGNMENT_BYTES} that native code needs`,
  );
}
