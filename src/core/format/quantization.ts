import { nearestName } from '../base/did-you-mean.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';

/** A kind of quantization that `llama_model_quantize` makes without an importance matrix. */
export interface Quantization {
  /** As written in `model.yaml` and used as variant name: `q4_k_m`. */
  readonly name: string;
  /** As GGUF tools show it: `Q4_K_M`. */
  readonly label: string;
  /** `enum llama_ftype` of llama.h. */
  readonly fileType: number;
}

// The numbers are those of `enum llama_ftype` in llama.h (llama.cpp v0.5.0). Types that need an importance matrix
// (IQ1, IQ2, IQ3_XXS, Q2_K_S) are left out until one can be made.
const FILE_TYPES: Readonly<Record<string, number>> = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q8_0: 7,
  q5_0: 8,
  q5_1: 9,
  q2_k: 10,
  q3_k_s: 11,
  q3_k_m: 12,
  q3_k_l: 13,
  q4_k_s: 14,
  q4_k_m: 15,
  q5_k_s: 16,
  q5_k_m: 17,
  q6_k: 18,
  iq4_nl: 25,
  iq4_xs: 30,
  bf16: 32,
};

/** @throws CONFIG_INVALID naming the place and the nearest known name */
export function parseQuantization(text: string, place: string): Quantization {
  const name = text.toLowerCase();
  const fileType = Object.hasOwn(FILE_TYPES, name) ? FILE_TYPES[name] : undefined;
  if (fileType === undefined) {
    const nearest = nearestName(name, Object.keys(FILE_TYPES));
    throw new FreeholdError('CONFIG_INVALID', `${place}: unknown quantization ${quoted(text)}`, {
      hint:
        nearest === undefined ? `one of ${Object.keys(FILE_TYPES).join(', ')}` : `did you mean ${nearest}?`,
    });
  }
  return { name, label: name.toUpperCase(), fileType };
}

/** Not quantized: a master from which variants can be made without losing quality twice. */
export function isMasterType(label: string): boolean {
  return ['F32', 'F16', 'BF16'].includes(label.toUpperCase());
}
