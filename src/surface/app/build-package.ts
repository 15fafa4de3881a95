import { stat } from 'node:fs/promises';
import path from 'node:path';
import { CONFIG_CHARACTERS_MAX } from '../../core/base/config-file.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseFilePath, quoted, requireDistinctPaths, shortName } from '../../core/base/ids.ts';
import { type ModelPlan, parseModelYaml, type VariantPlan } from '../../core/format/model-yaml.ts';
import { ANNOTATION } from '../../core/format/oci.ts';
import type { PackageFile } from '../../core/format/package-descriptor.ts';
import { isMasterType, type Quantization } from '../../core/format/quantization.ts';
import { quantizeWeights } from '../../features/optimize/quantize.ts';
import type { Freehold } from './freehold.ts';
import { type GgufWeights, readGgufWeights } from './gguf-weights.ts';
import { fullReference, installedPackages } from './installed-packages.ts';
import { fileError, readTextFile, requirePlainFile } from './local-file.ts';
import { describePackage, weightsFileName } from './package-description.ts';
import {
  requireSameContent,
  updateVersion,
  type WrittenPackage,
  withVariant,
  writePackage,
} from './package-writer.ts';

export interface BuildOptions {
  /** Other content of the same version may be replaced. */
  readonly mayReplace: boolean;
  readonly signal: AbortSignal;
}

export interface BuiltVariant {
  readonly reference: string;
  readonly contentDigest: Digest;
  readonly manifestDigest: Digest;
  readonly weightsBytes: number;
  readonly quantization: string;
  /** Over all tensors, fallbacks included: often more than the name says. */
  readonly bitsPerWeight: number;
  /** A rebuild with the same content keeps the signatures that are there. */
  readonly isSigned: boolean;
  readonly notes: readonly string[];
}

export interface BuildResult {
  readonly name: string;
  readonly version: string;
  readonly indexDigest: Digest;
  readonly variants: readonly BuiltVariant[];
}

/** Weights in the store, with what their headers say. */
interface StoredWeights {
  readonly files: readonly PackageFile[];
  readonly weights: GgufWeights;
  readonly lineage?: { recipe: 'quantize'; base: Digest[]; quantize: string; tool: string };
  readonly notes: readonly string[];
}

/**
 * Builds every variant that `model.yaml` asks for, into the store. The same input gives the same digests.
 * @param modelPath the file, or the folder that holds `model.yaml`
 * @throws NOT_FOUND, CONFIG_INVALID, GGUF_INVALID, ALREADY_EXISTS, ENGINE_FAILED when quantization fails, DISK_FULL
 */
export async function buildPackage(
  freehold: Freehold,
  modelPath: string,
  options: BuildOptions,
): Promise<BuildResult> {
  const { plan, folder } = await readPlan(modelPath);
  // Before gigabytes are imported: a name that stands twice is refused in the end anyway.
  requireDistinctPaths([
    ...plan.files,
    ...(plan.chatTemplate === undefined ? [] : [path.basename(plan.chatTemplate)]),
  ]);
  const weights = await readGgufWeights(path.resolve(folder, plan.weights));
  const variants = plan.variants.length > 0 ? plan.variants : [asIs(weights)];
  const { store } = freehold;
  return store.withLease(async () => {
    const common = await storeCommonFiles(freehold, plan, folder, options.signal);
    const master = await storeWeights(freehold, plan, weights, options.signal);
    const built: { written: WrittenPackage; stored: StoredWeights }[] = [];
    for (const variant of variants) {
      options.signal.throwIfAborted();
      const stored = await variantWeights(
        freehold,
        plan,
        variant,
        { files: master, weights, notes: [] },
        options.signal,
      );
      const descriptor = describePackage({
        name: plan.name,
        version: plan.version,
        variant: variant.name,
        license: plan.license,
        ...(plan.description === undefined ? {} : { description: plan.description }),
        ...(plan.parameters === undefined ? {} : { parameters: plan.parameters }),
        ...(stored.lineage === undefined ? {} : { lineage: stored.lineage }),
        model: stored.weights.description,
        files: [...common, ...stored.files],
      });
      built.push({ written: await writePackage(store.blobs, descriptor, []), stored });
    }
    return listVariants(freehold, plan, built, options.mayReplace);
  });
}

/** Makes the variants visible; variants that the version had and the plan no longer has go. */
async function listVariants(
  freehold: Freehold,
  plan: ModelPlan,
  built: readonly { written: WrittenPackage; stored: StoredWeights }[],
  mayReplace: boolean,
): Promise<BuildResult> {
  const { store } = freehold;
  const indexDigest = await updateVersion(store, plan.name, plan.version, (existing) => {
    const known = new Map(installedPackages(existing).map((item) => [item.variant, item.entry]));
    return built.reduce<ReturnType<typeof withVariant>>((variants, { written }) => {
      const entry = known.get(written.descriptor.variant);
      if (!mayReplace) requireSameContent(entry, written);
      // The entry that is there may be signed, and the new one is not.
      const isSame = entry?.annotations?.[ANNOTATION.contentDigest] === written.contentDigest;
      return withVariant(variants, entry !== undefined && isSame ? entry : written.entry);
    }, []);
  });
  if (indexDigest === undefined) throw new FreeholdError('INTERNAL', 'a build without variants');
  const listed = installedPackages(await store.entries());
  const variants = built.map(({ written, stored }): BuiltVariant => {
    const reference = fullReference(written.descriptor);
    const item = listed.find((candidate) => fullReference(candidate) === reference);
    const manifestDigest = item?.manifestDigest ?? written.manifestDigest;
    return {
      reference,
      contentDigest: written.contentDigest,
      manifestDigest,
      weightsBytes: stored.weights.bytes,
      quantization: stored.weights.description.quantization,
      bitsPerWeight: stored.weights.description.bitsPerWeight,
      isSigned: manifestDigest !== written.manifestDigest,
      notes: stored.notes,
    };
  });
  return { name: plan.name, version: plan.version, indexDigest, variants };
}

async function readPlan(modelPath: string): Promise<{ plan: ModelPlan; folder: string }> {
  const given = path.resolve(modelPath);
  const found = await stat(given).catch((error: unknown) => {
    throw fileError(error, modelPath);
  });
  const file = found.isDirectory() ? path.join(given, 'model.yaml') : given;
  await requirePlainFile(file);
  const text = await readTextFile(file, {
    bytesMax: 4 * CONFIG_CHARACTERS_MAX,
    hint: 'give the model.yaml, not the weights',
  });
  return { plan: parseModelYaml(text, path.basename(file)), folder: path.dirname(file) };
}

/** Without `variants:`, the weights as they are, named after their quantization. */
function asIs(weights: GgufWeights): VariantPlan {
  return { name: weights.description.quantization.toLowerCase(), allowRequantize: false };
}

async function storeCommonFiles(
  freehold: Freehold,
  plan: ModelPlan,
  folder: string,
  signal: AbortSignal,
): Promise<PackageFile[]> {
  const files: PackageFile[] = [];
  for (const name of plan.files) {
    files.push(await storeFile(freehold, path.resolve(folder, name), name, 'doc', signal));
  }
  if (plan.chatTemplate !== undefined) {
    const name = path.basename(plan.chatTemplate);
    files.push(
      await storeFile(freehold, path.resolve(folder, plan.chatTemplate), name, 'chat-template', signal),
    );
  }
  return files;
}

async function storeWeights(
  freehold: Freehold,
  plan: ModelPlan,
  weights: GgufWeights,
  signal: AbortSignal,
): Promise<PackageFile[]> {
  const files: PackageFile[] = [];
  for (const [index, file] of weights.paths.entries()) {
    const name = weightsFileName(
      shortName(plan.name),
      weights.description.quantization,
      index + 1,
      weights.paths.length,
    );
    files.push(await storeFile(freehold, file, name, 'weights', signal));
  }
  return files;
}

async function storeFile(
  freehold: Freehold,
  file: string,
  name: string,
  role: PackageFile['role'],
  signal: AbortSignal,
): Promise<PackageFile> {
  const label = `import ${name}`;
  const { size: totalBytes } = await stat(file).catch((error: unknown) => {
    throw fileError(error, file);
  });
  const info = await freehold.store.importFile(file, {
    how: { kind: 'reflink-or-copy' },
    signal,
    onBytes: (doneBytes) => freehold.progress({ kind: 'bytes-moved', label, doneBytes, totalBytes }),
  });
  return { path: parseFilePath(name), role, size: info.sizeBytes, digest: info.digest };
}

async function variantWeights(
  freehold: Freehold,
  plan: ModelPlan,
  variant: VariantPlan,
  master: StoredWeights,
  signal: AbortSignal,
): Promise<StoredWeights> {
  const { quantize } = variant;
  const { quantization } = master.weights.description;
  if (quantize === undefined || quantize.label === quantization) return master;
  requireQuantizable(variant, quantize, quantization);
  return freehold.store.withScratchFolder(async (folder) => {
    freehold.progress({ kind: 'step-started', label: `quantize to ${quantize.label}` });
    const output = path.join(folder, weightsFileName(shortName(plan.name), quantize.label, 1, 1));
    const { tool } = await quantizeWeights({
      inputs: master.weights.paths,
      output,
      quantization: quantize,
      mayRequantize: variant.allowRequantize,
      signal,
    });
    const weights = await readGgufWeights(output);
    const file = await storeFile(freehold, output, path.basename(output), 'weights', signal);
    freehold.progress({ kind: 'step-finished', label: `quantize to ${quantize.label}` });
    return {
      files: [file],
      weights,
      lineage: {
        recipe: 'quantize',
        base: master.files.map(({ digest }) => digest),
        quantize: quantize.label,
        tool,
      },
      notes: compositionNotes(weights),
    };
  });
}

function requireQuantizable(variant: VariantPlan, quantize: Quantization, quantization: string): void {
  if (variant.allowRequantize || isMasterType(quantization)) return;
  throw new FreeholdError(
    'CONFIG_INVALID',
    `variant ${quoted(variant.name)}: the weights are ${quantization} already, and making ${quantize.label} of them loses quality a second time`,
    {
      hint: `start from F32, F16 or BF16 weights, or write { name: ${variant.name}, quantize: ${quantize.name}, requantize: true }`,
    },
  );
}

/** A mix holds several types, and rows that a type cannot divide fall back to another: say what is really inside. */
function compositionNotes({ description }: GgufWeights): string[] {
  const shares = Object.entries(description.elementsByType).map(([type, elements]) => ({
    type,
    share: elements / description.parameterCount,
  }));
  if (shares.length <= 1) return [];
  const shown = shares.map(({ type, share }) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} % ${type}`);
  return [`weights are ${shown.join(', ')}`];
}
