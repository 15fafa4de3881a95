import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';
import {
  parseFilePath,
  parsePackageName,
  parseVariantName,
  parseVersion,
  requireDistinctPaths,
} from '../base/ids.ts';
import { parseJsonDocument } from '../base/json-document.ts';
import { PACKAGE_STOP_STRINGS_MAX, REPEAT_PENALTY_MAX, REPEAT_PENALTY_MIN } from '../base/request-limits.ts';
import { textParsedBy } from '../base/schema-text.ts';
import { SIGNATURE_PATHS } from '../crypto/model-signing.ts';
import { digestSchema, JSON_DEPTH_MAX, LAYERS_MAX, sizeSchema } from './oci.ts';

/** The file inside every package that says what the package is; the signature covers it. */
export const DESCRIPTOR_PATH = 'freehold.json';
/** A descriptor lists each file in about 200 bytes. */
export const DESCRIPTOR_BYTES_MAX = 1 << 20;
/** A chat template is a few KiB; templates with tool definitions reach 30. */
export const CHAT_TEMPLATE_BYTES_MAX = 256 * 1024;
/** A stop string is searched for in every piece of an answer. */
export const STOP_STRINGS_MAX = PACKAGE_STOP_STRINGS_MAX;
export const STOP_STRING_CHARACTERS_MAX = 256;

export const packageNameSchema = textParsedBy(parsePackageName);
export const versionSchema = textParsedBy(parseVersion);
export const variantNameSchema = textParsedBy(parseVariantName);
export const filePathSchema = textParsedBy(parseFilePath);

/** SPDX licence expression characters; the expression itself is the publisher's statement. */
export const licenseSchema = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[A-Za-z0-9.+\-() ]+$/, 'an SPDX expression or LicenseRef-…');
/** One line of text for people: no control characters that could rewrite a terminal. */
export const textSchema = z
  .string()
  .max(2000)
  .regex(/^[^\p{Cc}\p{Cf}\p{Co}]*$/u, 'text without control characters');

/** Defaults of a package for generation; a request's own values win. Ranges are those of the OpenAI API where it has one. */
export const generationParametersSchema = z.strictObject({
  temperature: z.number().min(0).max(2).optional(),
  topP: z.number().gt(0).max(1).optional(),
  topK: z.number().int().min(0).max(100_000).optional(),
  minP: z.number().min(0).max(1).optional(),
  repeatPenalty: z.number().min(REPEAT_PENALTY_MIN).max(REPEAT_PENALTY_MAX).optional(),
  presencePenalty: z.number().min(-2).max(2).optional(),
  frequencyPenalty: z.number().min(-2).max(2).optional(),
  stop: z.array(z.string().min(1).max(STOP_STRING_CHARACTERS_MAX)).max(STOP_STRINGS_MAX).optional(),
});

export const FILE_ROLES = ['weights', 'chat-template', 'doc'] as const;
export type FileRole = (typeof FILE_ROLES)[number];

const fileSchema = z.strictObject({
  path: filePathSchema,
  role: z.enum(FILE_ROLES),
  size: sizeSchema,
  digest: digestSchema,
});
export type PackageFile = z.infer<typeof fileSchema>;

const lineageSchema = z.strictObject({
  /** How these weights came from others. */
  recipe: z.literal('quantize'),
  /** Digests of the weights that they came from, in shard order. */
  base: z.array(digestSchema).min(1).max(LAYERS_MAX),
  quantize: z.string().min(1).max(32),
  tool: z.string().min(1).max(64),
});

const descriptorSchema = z.strictObject({
  schemaVersion: z.literal(1),
  kind: z.literal('model'),
  name: packageNameSchema,
  version: versionSchema,
  variant: variantNameSchema,
  license: licenseSchema,
  description: textSchema.optional(),
  model: z.strictObject({
    format: z.literal('gguf'),
    architecture: z.string().min(1).max(64),
    purpose: z.enum(['generate', 'embed']),
    parameterCount: z.number().int().nonnegative(),
    contextTokens: z.number().int().nonnegative(),
    quantization: z.string().min(1).max(32),
  }),
  engine: z.strictObject({ name: z.literal('llama.cpp') }),
  memoryBytes: z.number().int().nonnegative(),
  protection: z.strictObject({ sealed: z.literal(false) }),
  parameters: generationParametersSchema.optional(),
  files: z
    .array(fileSchema)
    .min(1)
    .max(LAYERS_MAX - SIGNATURE_PATHS.length - 1),
  lineage: lineageSchema.optional(),
});
/** What a package says of itself: `freehold.json`. Everything else (manifest, config, annotations) is derived from it. */
export type PackageDescriptor = z.infer<typeof descriptorSchema>;

/**
 * Reads `freehold.json`. Call it on bytes whose signature was verified.
 * @throws PACKAGE_INVALID
 */
export function parsePackageDescriptor(bytes: Uint8Array): PackageDescriptor {
  const descriptor = parseJsonDocument(bytes, descriptorSchema, {
    bytesMax: DESCRIPTOR_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
    code: 'PACKAGE_INVALID',
    label: DESCRIPTOR_PATH,
    hint: 'if the package is newer than this Freehold, update Freehold',
  });
  requireConsistent(descriptor);
  return descriptor;
}

/** @throws PACKAGE_INVALID */
function requireConsistent(descriptor: PackageDescriptor): void {
  const paths = descriptor.files.map((file) => file.path);
  const reserved: readonly string[] = [DESCRIPTOR_PATH, ...SIGNATURE_PATHS];
  const taken = paths.find((path) => reserved.includes(path.toLowerCase()));
  if (taken !== undefined) {
    throw new FreeholdError(
      'PACKAGE_INVALID',
      `${DESCRIPTOR_PATH} lists ${taken}, a name that Freehold keeps for itself`,
    );
  }
  try {
    requireDistinctPaths([...reserved, ...paths]);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FreeholdError('PACKAGE_INVALID', `${DESCRIPTOR_PATH}: ${reason}`, { cause: error });
  }
  if (paths.some((path, index) => index > 0 && path <= (paths[index - 1] ?? ''))) {
    throw new FreeholdError(
      'PACKAGE_INVALID',
      `${DESCRIPTOR_PATH}: files are not in the order of their paths`,
    );
  }
  if (weightsOf(descriptor).length === 0) {
    throw new FreeholdError('PACKAGE_INVALID', `${DESCRIPTOR_PATH}: the package has no weights`);
  }
  requireUsableTemplate(descriptor);
}

/** What an engine could not load must not be built or signed either. */
function requireUsableTemplate({ files }: PackageDescriptor): void {
  const [template, ...others] = files.filter((file) => file.role === 'chat-template');
  if (others.length > 0) {
    throw new FreeholdError('PACKAGE_INVALID', `${DESCRIPTOR_PATH}: more than one chat template`);
  }
  if (template === undefined || template.size <= CHAT_TEMPLATE_BYTES_MAX) return;
  throw new FreeholdError(
    'PACKAGE_INVALID',
    `${template.path}: a chat template of ${template.size} bytes, at most ${CHAT_TEMPLATE_BYTES_MAX} are allowed`,
    { detail: { file: template.path, limit: CHAT_TEMPLATE_BYTES_MAX } },
  );
}

/** Weights in shard order: shards are named so that the order of their paths is the order of their numbers. */
export function weightsOf(descriptor: PackageDescriptor): readonly PackageFile[] {
  return descriptor.files.filter((file) => file.role === 'weights');
}

/** The order of files in a package: by path, in UTF-16 code units. */
export function inPathOrder(files: readonly PackageFile[]): PackageFile[] {
  return files.toSorted((left, right) => (left.path < right.path ? -1 : 1));
}

/**
 * The bytes of `freehold.json`, the same for equal descriptors whatever order their keys came in: two blanks of
 * indentation, files in the order of their paths, one newline at the end.
 */
export function encodePackageDescriptor(descriptor: PackageDescriptor): Buffer {
  const { files, parameters, lineage, description, ...rest } = descriptor;
  const ordered = {
    schemaVersion: rest.schemaVersion,
    kind: rest.kind,
    name: rest.name,
    version: rest.version,
    variant: rest.variant,
    license: rest.license,
    ...(description === undefined ? {} : { description }),
    model: {
      format: rest.model.format,
      architecture: rest.model.architecture,
      purpose: rest.model.purpose,
      parameterCount: rest.model.parameterCount,
      contextTokens: rest.model.contextTokens,
      quantization: rest.model.quantization,
    },
    engine: { name: rest.engine.name },
    memoryBytes: rest.memoryBytes,
    protection: { sealed: rest.protection.sealed },
    ...(parameters === undefined ? {} : { parameters: sortedKeys(parameters) }),
    files: inPathOrder(files).map(({ path, role, size, digest }) => ({ path, role, size, digest })),
    ...(lineage === undefined
      ? {}
      : {
          lineage: {
            recipe: lineage.recipe,
            base: lineage.base,
            quantize: lineage.quantize,
            tool: lineage.tool,
          },
        }),
  };
  const bytes = Buffer.from(`${JSON.stringify(ordered, null, 2)}\n`, 'utf8');
  // Whoever builds learns at once what a reader would refuse.
  parsePackageDescriptor(bytes);
  return bytes;
}

function sortedKeys<T extends object>(value: T): T {
  const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
  return Object.fromEntries(entries) as T;
}
