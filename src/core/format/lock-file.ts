import { z } from 'zod';
import { parseConfigYaml } from '../base/config-file.ts';
import { FreeholdError } from '../base/errors.ts';
import type { ArtifactSelector } from '../base/registry-reference.ts';
import { textParsedBy } from '../base/schema-text.ts';
import { type AppModel, parseModelKey, parseModelSource } from './app-yaml.ts';
import { digestSchema } from './oci.ts';
import { packageNameSchema, variantNameSchema, versionSchema } from './package-descriptor.ts';
import { isInRange, mayLeadTo } from './version-range.ts';

export const LOCK_FILE_NAME = 'freehold.lock';
/** Of the file's form. A program that knows no newer one must not write over it. */
const LOCK_VERSION = 1;

const HEADER = `# The exact models of freehold.yaml, written by freehold. Check it in; change it with freehold lock.\n`;

const lineSchema = z
  .string()
  .min(1)
  .max(5000)
  .regex(/^\P{Cc}+$/u, 'one line without control characters');

const lockedModelSchema = z.strictObject({
  /** As `freehold.yaml` had it when this was resolved. */
  from: lineSchema,
  name: packageNameSchema,
  version: versionSchema,
  variant: variantNameSchema,
  /** What the lock pins: digest over the files of the package, whatever signatures were added. */
  content: digestSchema,
  /** Of the manifest that it was installed from: where to look first. */
  manifest: digestSchema,
  /** A reference to exactly this version, for people and for restoring: `oci://HOST/NAME:1.4.2`. */
  source: lineSchema,
});
export type LockedModel = z.infer<typeof lockedModelSchema>;

const lockFileSchema = z.strictObject({
  lockVersion: z.literal(LOCK_VERSION, `only ${LOCK_VERSION} can be read; a newer freehold wrote this file`),
  models: z.record(textParsedBy(parseModelKey), lockedModelSchema),
});

/** The locked models by their keys. */
export type LockFile = ReadonlyMap<string, LockedModel>;

/** Reads `freehold.lock`. @throws CONFIG_INVALID with path and line */
export function parseLockFile(text: string, label = LOCK_FILE_NAME): LockFile {
  return new Map(Object.entries(parseConfigYaml(text, lockFileSchema, label).models));
}

/**
 * The text of a lock: YAML, a line for each value and the keys in order, so that two branches that add different models
 * merge, and a change of one model is a change of its lines. The same lock gives the same bytes.
 */
export function encodeLockFile(lock: LockFile): string {
  const models = [...lock].sort(([left], [right]) => (left < right ? -1 : 1));
  const lines = models.flatMap(([key, model]) => [
    `  ${scalar(key)}:`,
    `    from: ${scalar(model.from)}`,
    `    name: ${scalar(model.name)}`,
    `    version: ${model.version}`,
    `    variant: ${scalar(model.variant)}`,
    `    content: ${model.content}`,
    `    manifest: ${model.manifest}`,
    `    source: ${scalar(model.source)}`,
  ]);
  return `${HEADER}lockVersion: ${LOCK_VERSION}\nmodels:${models.length === 0 ? ' {}' : ''}\n${lines.map((line) => `${line}\n`).join('')}`;
}

/** Quoted where YAML could read something else in it: a number, `null`, a comment. */
function scalar(text: string): string {
  const isPlain = /^[a-z][a-z0-9._/:@^~-]*$/.test(text) && !/^(?:true|false|null)$|:$/.test(text);
  return isPlain ? text : JSON.stringify(text);
}

/** In what a lock does not say what `freehold.yaml` asks for. */
export type LockDifference =
  | { readonly kind: 'missing'; readonly key: string }
  | { readonly kind: 'changed'; readonly key: string; readonly reason: string }
  | { readonly kind: 'left-over'; readonly key: string };

/** In the order of `freehold.yaml`, then what only the lock has. */
export function compareLock(models: readonly AppModel[], lock: LockFile): LockDifference[] {
  const keys = new Set(models.map(({ key }) => key));
  return [
    ...models.flatMap((model): LockDifference[] => {
      const locked = lock.get(model.key);
      if (locked === undefined) return [{ kind: 'missing', key: model.key }];
      const reason = misfit(model, locked);
      return reason === undefined ? [] : [{ kind: 'changed', key: model.key, reason }];
    }),
    ...[...lock.keys()].filter((key) => !keys.has(key)).map((key) => ({ kind: 'left-over', key }) as const),
  ];
}

/** What is there has not the content that a lock pins. @param what names it, with the verb: `acme/triage@1.4.0#q4_0 has` */
export function contentMismatch(what: string, actual: string, locked: string): FreeholdError {
  return new FreeholdError('LOCK_MISMATCH', `${what} the content ${actual}, locked is ${locked}`, {
    hint: 'somebody put other content under the same name; if that is meant, freehold lock --upgrade takes it over',
    detail: { expected: locked, actual },
  });
}

/** Why a locked model is not what is asked for, or undefined. */
function misfit({ text, reference, variant }: AppModel, locked: LockedModel): string | undefined {
  if (locked.from !== text) return `freehold.yaml says ${text}, the lock is of ${locked.from}`;
  if (variant !== undefined && locked.variant !== variant) {
    return `freehold.yaml says the variant ${variant}, the lock has ${locked.variant}`;
  }
  if (reference.kind !== 'registry') return undefined;
  const source = parseModelSource(locked.source).reference;
  const isThere =
    source.kind === 'registry' &&
    source.host === reference.host &&
    source.repository === reference.repository;
  if (!isThere) return `freehold.yaml says ${text}, the lock has ${locked.source}`;
  return selectorMisfit(reference.selector, source.selector, locked);
}

function selectorMisfit(
  wanted: ArtifactSelector,
  actual: ArtifactSelector,
  { version, variant, manifest }: LockedModel,
): string | undefined {
  switch (wanted.kind) {
    case 'newest':
      return undefined;
    case 'tag':
      return mayLeadTo(wanted.tag, { version, variant })
        ? undefined
        : `freehold.yaml says ${wanted.tag}, the lock has ${version} (${variant})`;
    case 'digest': {
      const locked = actual.kind === 'digest' ? actual.digest : manifest;
      const isFine = [locked, manifest].includes(wanted.digest);
      return isFine ? undefined : `freehold.yaml says ${wanted.digest}, the lock has ${locked}`;
    }
    case 'range':
      return isInRange(version, wanted.range) ? undefined : `${version} is not in the range ${wanted.range}`;
    default:
      return wanted satisfies never;
  }
}

/** One line for each difference, for messages. */
export function differenceText(difference: LockDifference): string {
  switch (difference.kind) {
    case 'missing':
      return `${difference.key} is not in the lock`;
    case 'changed':
      return `${difference.key}: ${difference.reason}`;
    case 'left-over':
      return `${difference.key} is in the lock only`;
    default:
      return difference satisfies never;
  }
}

/**
 * The check of `--frozen`.
 * @returns what is locked of each model, in the order of `freehold.yaml`
 * @throws LOCK_MISMATCH naming every difference
 */
export function requireLocked(
  models: readonly AppModel[],
  lock: LockFile | undefined,
): { readonly key: string; readonly locked: LockedModel }[] {
  if (lock === undefined) {
    throw new FreeholdError('LOCK_MISMATCH', `there is no ${LOCK_FILE_NAME}`, {
      hint: 'freehold install, where the lock may be written; then check it in',
    });
  }
  const differences = compareLock(models, lock);
  if (differences.length > 0) {
    throw new FreeholdError(
      'LOCK_MISMATCH',
      `${LOCK_FILE_NAME} does not fit freehold.yaml: ${differences.map(differenceText).join('; ')}`,
    );
  }
  return models.flatMap(({ key }) => {
    const locked = lock.get(key);
    return locked === undefined ? [] : [{ key, locked }];
  });
}
