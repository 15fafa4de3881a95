import { z } from 'zod';
import { parseConfigYaml } from '../base/config-file.ts';
import { FreeholdError } from '../base/errors.ts';
import {
  filePathSchema,
  generationParametersSchema,
  licenseSchema,
  packageNameSchema,
  textSchema,
  variantNameSchema,
  versionSchema,
} from './package-descriptor.ts';
import { parseQuantization, type Quantization } from './quantization.ts';

/** A publisher lists a handful; each is a full copy of the weights. */
const VARIANTS_MAX = 32;
const FILES_MAX = 100;
/** Paths in model.yaml are of the publisher's own disk and may point anywhere. */
const localPathSchema = z
  .string()
  .min(1)
  .max(4096)
  .refine((text) => !text.includes('\0'), 'no NUL in a path');

const variantObjectSchema = z.strictObject({
  name: variantNameSchema,
  quantize: z.string().optional(),
  /** Weights that are quantized already lose quality a second time: only on request. */
  requantize: z.boolean().optional(),
  prune: z.unknown().optional(),
});

export const modelYamlSchema = z.strictObject({
  name: packageNameSchema,
  version: versionSchema,
  license: licenseSchema,
  description: textSchema.optional(),
  weights: localPathSchema,
  chatTemplate: localPathSchema.optional(),
  parameters: generationParametersSchema.optional(),
  files: z.array(filePathSchema).max(FILES_MAX).optional(),
  variants: z
    .array(z.union([z.string(), variantObjectSchema]))
    .min(1)
    .max(VARIANTS_MAX)
    .optional(),
  gates: z.unknown().optional(),
  seal: z.boolean().optional(),
});

export interface VariantPlan {
  readonly name: string;
  /** Absent: the weights as they are. */
  readonly quantize?: Quantization;
  readonly allowRequantize: boolean;
}

/** What `model.yaml` asks for. Paths are as written, relative to the file's folder. */
export interface ModelPlan {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly description?: string;
  readonly weights: string;
  readonly chatTemplate?: string;
  readonly parameters?: z.infer<typeof generationParametersSchema>;
  readonly files: readonly string[];
  /** Empty: one variant, the weights as they are, named after their quantization. */
  readonly variants: readonly VariantPlan[];
}

/**
 * Reads `model.yaml`.
 * @throws CONFIG_INVALID with path and line; NOT_SUPPORTED for what this version does not do (never left out silently)
 */
export function parseModelYaml(text: string, label = 'model.yaml'): ModelPlan {
  const { gates, seal, variants, files, description, chatTemplate, parameters, ...rest } = parseConfigYaml(
    text,
    modelYamlSchema,
    label,
  );
  if (seal === true) refuse(label, 'seal', 'sealed packages');
  if (gates !== undefined) refuse(label, 'gates', 'quality gates');
  const plans = (variants ?? []).map((variant, index) => variantPlan(variant, `${label}: variants.${index}`));
  const names = plans.map((plan) => plan.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new FreeholdError('CONFIG_INVALID', `${label}: variants: two are named ${twice}`);
  }
  return {
    ...rest,
    ...(description === undefined ? {} : { description }),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(parameters === undefined ? {} : { parameters }),
    files: files ?? [],
    variants: plans,
  };
}

function refuse(label: string, key: string, what: string): never {
  throw new FreeholdError('NOT_SUPPORTED', `${label}: ${key}: this version has no ${what}`, {
    hint: `leave ${key} out; the package would not have what it says`,
  });
}

type VariantInput = string | z.infer<typeof variantObjectSchema>;

function variantPlan(variant: VariantInput, label: string): VariantPlan {
  if (typeof variant === 'string') {
    const quantize = parseQuantization(variant, label);
    return { name: quantize.name, quantize, allowRequantize: false };
  }
  if (variant.prune !== undefined) refuse(label, 'prune', 'layer pruning');
  return {
    name: variant.name,
    ...(variant.quantize === undefined ? {} : { quantize: parseQuantization(variant.quantize, label) }),
    allowRequantize: variant.requantize === true,
  };
}
