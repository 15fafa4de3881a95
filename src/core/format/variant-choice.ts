import { FreeholdError } from '../base/errors.ts';
import { ANNOTATION, type OciDescriptor } from './oci.ts';

/** What decides between the variants of one version. From annotations: for selection only, never for trust. */
export interface VariantFacts {
  readonly name: string;
  readonly quantization: string;
  /** To run it at all; 0 where nobody says. */
  readonly memoryBytes: number;
  readonly isSealed: boolean;
  /** Names as in `/proc/cpuinfo`; the engine picks its own code for the processor, so most variants need none. */
  readonly cpuFeatures: readonly string[];
  readonly needsGpu: boolean;
}

/** What the machine offers. */
export interface MachineFacts {
  /** What models may take together. */
  readonly memoryBytesMax: number;
  /** Absent: nobody looked, and nothing is refused for it. */
  readonly cpuFeatures?: ReadonlySet<string>;
  readonly hasGpu?: boolean;
}

export type VariantVerdict =
  | { readonly kind: 'chosen'; readonly variant: VariantFacts; readonly isTight: boolean }
  | { readonly kind: 'smaller'; readonly variant: VariantFacts }
  | { readonly kind: 'too-large'; readonly variant: VariantFacts; readonly memoryBytesMax: number }
  | { readonly kind: 'unsupported'; readonly variant: VariantFacts; readonly missing: readonly string[] };

export interface VariantChoice<Variant> {
  readonly chosen: Variant;
  /** Nothing fits: this is the smallest, and may be refused when it is loaded. */
  readonly isTight: boolean;
  /** One for each variant, the largest first: why, or why not. */
  readonly verdicts: readonly VariantVerdict[];
}

/** The facts in an entry of a version's image index; undefined for an entry that names no variant. */
export function variantFacts({ annotations = {} }: OciDescriptor): VariantFacts | undefined {
  const name = annotations[ANNOTATION.variant];
  if (name === undefined) return undefined;
  const memoryBytes = Number(annotations[ANNOTATION.memoryBytes] ?? 0);
  const features = annotations[ANNOTATION.cpuFeatures] ?? '';
  return {
    name,
    quantization: annotations[ANNOTATION.quantization] ?? '',
    memoryBytes: Number.isFinite(memoryBytes) && memoryBytes > 0 ? memoryBytes : 0,
    isSealed: annotations[ANNOTATION.sealed] === 'true',
    cpuFeatures: features.split(',').filter((feature) => feature !== ''),
    needsGpu: annotations[ANNOTATION.gpu] === 'required',
  };
}

/**
 * Chooses the variant for a machine: of those that it can run, the one that needs the most memory and still fits (larger
 * means less quantized), else the smallest. Of two that need the same, the one that comes first.
 * @param variants of one version; may carry more than the facts
 * @param label what they are variants of, for the message
 * @throws MODEL_NOT_FOUND when there is none, PLATFORM_UNSUPPORTED when the machine can run none
 */
export function chooseVariant<Variant extends VariantFacts>(
  variants: readonly Variant[],
  machine: MachineFacts,
  label: string,
): VariantChoice<Variant> {
  const bySize = variants.toSorted((left, right) => right.memoryBytes - left.memoryBytes);
  const runnable = bySize.filter((variant) => missingParts(variant, machine).length === 0);
  const chosen = largestThatFits(runnable, machine.memoryBytesMax);
  if (chosen === undefined) throw refusal(bySize, machine, label);
  const isTight = chosen.memoryBytes > machine.memoryBytesMax;
  return {
    chosen,
    isTight,
    verdicts: bySize.map((variant) => verdictOn(variant, machine, chosen, isTight)),
  };
}

/**
 * The rule: what needs the most memory among what fits, else what needs the least. Of equals the one that comes first.
 * @returns undefined for none
 */
export function largestThatFits<Item extends { readonly memoryBytes: number }>(
  items: readonly Item[],
  memoryBytesMax: number,
): Item | undefined {
  const bySize = items.toSorted((left, right) => right.memoryBytes - left.memoryBytes);
  const smallest = bySize.at(-1)?.memoryBytes;
  return (
    bySize.find(({ memoryBytes }) => memoryBytes <= memoryBytesMax) ??
    bySize.find(({ memoryBytes }) => memoryBytes === smallest)
  );
}

function verdictOn(
  variant: VariantFacts,
  machine: MachineFacts,
  chosen: VariantFacts,
  isTight: boolean,
): VariantVerdict {
  if (variant === chosen) return { kind: 'chosen', variant, isTight };
  const missing = missingParts(variant, machine);
  if (missing.length > 0) return { kind: 'unsupported', variant, missing };
  const { memoryBytesMax } = machine;
  if (variant.memoryBytes > memoryBytesMax) return { kind: 'too-large', variant, memoryBytesMax };
  return { kind: 'smaller', variant };
}

function missingParts(
  { cpuFeatures, needsGpu }: VariantFacts,
  { cpuFeatures: offered, hasGpu }: MachineFacts,
): string[] {
  const features = offered === undefined ? [] : cpuFeatures.filter((feature) => !offered.has(feature));
  return needsGpu && hasGpu === false ? [...features, 'a GPU'] : features;
}

function refusal(variants: readonly VariantFacts[], machine: MachineFacts, label: string): FreeholdError {
  if (variants.length === 0) return new FreeholdError('MODEL_NOT_FOUND', `${label} has no variant`);
  const lacks = variants.map(
    (variant) => `${variant.name} needs ${missingParts(variant, machine).join(', ')}`,
  );
  return new FreeholdError(
    'PLATFORM_UNSUPPORTED',
    `this machine can run no variant of ${label}: ${lacks.join('; ')}`,
    { hint: 'ask the publisher for a variant without these needs' },
  );
}
