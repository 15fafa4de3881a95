import { z } from 'zod';
import { parseConfigYaml } from '../base/config-file.ts';
import { FreeholdError } from '../base/errors.ts';
import { parseVariantName, quoted } from '../base/ids.ts';
import { parseReference, type Reference } from '../base/reference.ts';
import { textParsedBy } from '../base/schema-text.ts';
import { parseChannelName } from './channel-documents.ts';
import { variantNameSchema } from './package-descriptor.ts';
import { parseVersionRange } from './version-range.ts';

export const APP_FILE_NAME = 'freehold.yaml';

/** An application that needs more models than this has a typing error in a script. */
const MODELS_MAX = 256;
const PATH_CHARACTERS_MAX = 4096;

/** What clients send as the name of a model: as a package's short name, without a publisher. */
const modelKeySchema = textParsedBy(parseModelKey);
/** What says where a model comes from; an installed package's name does not. */
const sourceSchema = textParsedBy(parseModelSource);
const localPathSchema = z
  .string()
  .min(1)
  .max(PATH_CHARACTERS_MAX)
  .refine((text) => !text.includes('\0'), 'no NUL in a path');

const modelObjectSchema = z.strictObject({
  from: sourceSchema.describe('oci://HOST/NAME:RANGE, catalog:NAME, hf://OWNER/REPO:QUANT or file:PATH'),
  variant: variantNameSchema.optional().describe('instead of the one that fits the machine best'),
  suite: localPathSchema.optional().describe('cases that an update must pass'),
  channel: textParsedBy(parseChannelName).optional().describe('the channel that updates come from'),
});

export const appYamlSchema = z.strictObject({
  models: z
    .record(modelKeySchema, z.union([sourceSchema, modelObjectSchema]))
    .nullish()
    .describe('the models that the application needs, by the name that it calls them'),
  server: z
    .strictObject({ listen: z.string().min(1).max(300).optional().describe('loopback address and port') })
    .nullish(),
  providers: z.unknown().optional().describe('not supported in this version'),
  routes: z.unknown().optional().describe('not supported in this version'),
});

/** Where a model comes from, as it was written and as it was read. */
export interface ModelSource {
  readonly text: string;
  readonly reference: Exclude<Reference, { kind: 'installed' }>;
}

/** A model that an application needs. */
export interface AppModel extends ModelSource {
  readonly key: string;
  /** Written down; absent: the one that fits best. */
  readonly variant?: string;
  /** Path of the suite that an update must pass, relative to the file's folder. */
  readonly suite?: string;
  readonly channel?: string;
}

/** What `freehold.yaml` asks for. */
export interface AppPlan {
  /** In the order of the file. */
  readonly models: readonly AppModel[];
  readonly listen?: string;
}

/** @throws NAME_INVALID */
export function parseModelKey(text: string): string {
  try {
    return parseVariantName(text);
  } catch (error) {
    throw new FreeholdError('NAME_INVALID', `not a name for a model: ${quoted(text)}`, {
      hint: 'lower case letters and digits, joined by ".", "_" or "-": triage',
      cause: error,
    });
  }
}

/** @throws REFERENCE_INVALID, VERSION_INVALID, NAME_INVALID, DIGEST_INVALID, NOT_SUPPORTED */
export function parseModelSource(text: string): ModelSource {
  const reference = parseReference(text);
  if (reference.kind === 'installed') {
    throw new FreeholdError('REFERENCE_INVALID', `${quoted(text)} does not say where the model comes from`, {
      hint: 'oci://HOST/NAME:RANGE, catalog:NAME, hf://OWNER/REPO:QUANT or file:PATH',
    });
  }
  if (reference.kind === 'registry' && reference.selector.kind === 'range') {
    parseVersionRange(reference.selector.range);
  }
  return { text, reference };
}

/**
 * Reads `freehold.yaml`.
 * @throws CONFIG_INVALID with path and line; NOT_SUPPORTED for sections that this version does not have
 */
export function parseAppYaml(text: string, label = APP_FILE_NAME): AppPlan {
  const { models, server, providers, routes } = parseConfigYaml(text, appYamlSchema, label);
  if (providers !== undefined) refuse(label, 'providers');
  if (routes !== undefined) refuse(label, 'routes');
  const entries = Object.entries(models ?? {});
  if (entries.length > MODELS_MAX) {
    throw new FreeholdError(
      'CONFIG_INVALID',
      `${label}: ${entries.length} models, at most ${MODELS_MAX} are read`,
    );
  }
  return {
    models: entries.map(([key, model]) => modelOf(key, 'from' in model ? model : { from: model }, label)),
    ...(server?.listen === undefined ? {} : { listen: server.listen }),
  };
}

function refuse(label: string, section: string): never {
  throw new FreeholdError('NOT_SUPPORTED', `${label}: ${section}: not supported in this version`, {
    hint: `leave ${section} out; nothing would follow what it says`,
  });
}

function modelOf(key: string, model: z.output<typeof modelObjectSchema>, label: string): AppModel {
  const { from, suite, channel } = model;
  const invalid = (message: string) =>
    new FreeholdError('CONFIG_INVALID', `${label}: models.${key}: ${message}`);
  const named = from.reference.kind === 'registry' ? from.reference.variant : undefined;
  if (named !== undefined && model.variant !== undefined && named !== model.variant) {
    throw invalid(`the variant is ${named} in "from" and ${model.variant} in "variant"`);
  }
  if (channel !== undefined && from.reference.kind !== 'registry') {
    throw invalid(`channels are kept in registries, and ${from.text} is in none`);
  }
  const variant = model.variant ?? named;
  return {
    key,
    ...from,
    ...(variant === undefined ? {} : { variant }),
    ...(suite === undefined ? {} : { suite }),
    ...(channel === undefined ? {} : { channel }),
  };
}
