import { suggestion } from '../../core/base/did-you-mean.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted, shortName } from '../../core/base/ids.ts';
import { parseReference } from '../../core/base/reference.ts';
import { registryReferenceText } from '../../core/base/registry-reference.ts';
import { addModelText } from '../../core/format/app-document.ts';
import { type AppModel, parseModelKey, parseModelSource } from '../../core/format/app-yaml.ts';
import { compareLock, type LockedModel, type LockFile, requireLocked } from '../../core/format/lock-file.ts';
import { isInRange } from '../../core/format/version-range.ts';
import { readAppFiles, requireAppFiles, updateAppYaml, updateLockFile } from './app-folder.ts';
import type { Freehold } from './freehold.ts';
import { fullReference } from './installed-packages.ts';
import { installLocked, type ResolveOptions, resolveModel } from './model-resolution.ts';

/** What happened to one model of `freehold.yaml`. */
export interface LockChange {
  readonly key: string;
  /** `acme/triage@1.4.2#q4_0`; of a model that left the lock, what it was. */
  readonly reference: string;
  readonly kind: 'kept' | 'added' | 'changed' | 'removed';
  /** What the lock had before, where that was something else. */
  readonly before?: string;
}

export interface InstalledModel extends LockChange {
  readonly isNew: boolean;
}

export interface AppInstallOptions extends ResolveOptions {
  /** Only what the lock says, and the lock is not written: for CI. */
  readonly isFrozen: boolean;
}

/**
 * `freehold install` in the folder of an application: what `freehold.yaml` asks for and the lock has not is resolved and
 * locked, then exactly what the lock has is installed.
 * @throws NOT_FOUND without a `freehold.yaml`; LOCK_MISMATCH when frozen and the lock does not fit, or where something
 *   has other content than is locked; what resolving and installing throw
 */
export async function installApp(
  freehold: Freehold,
  options: AppInstallOptions,
): Promise<readonly InstalledModel[]> {
  const { folder, isFrozen } = options;
  const { plan, lock } = await requireAppFiles(folder);
  const changes: readonly PlannedChange[] = isFrozen
    ? requireLocked(plan.models, lock).map((entry) => ({ ...entry, kind: 'kept' }))
    : await lockAll(freehold, plan.models, lock ?? new Map(), new Set(), options);
  const installed: InstalledModel[] = [];
  for (const { locked, ...change } of changes) {
    const isNew = change.kind !== 'removed' && (await installLocked(freehold, locked, options)).isNew;
    installed.push({ ...change, reference: fullReference(locked), isNew });
  }
  return installed;
}

export interface LockOptions extends ResolveOptions {
  /** Resolve these anew although the lock has them; `all` for every one. Absent: none. */
  readonly upgrade?: readonly string[] | 'all';
}

/**
 * `freehold lock`: brings the lock up to date with `freehold.yaml` and, where asked, with the registries.
 * @throws NOT_FOUND for an unknown key, what resolving throws
 */
export async function lockApp(freehold: Freehold, options: LockOptions): Promise<readonly LockChange[]> {
  const { plan, lock } = await requireAppFiles(options.folder);
  const keys = plan.models.map(({ key }) => key);
  const upgrade = options.upgrade === 'all' ? keys : (options.upgrade ?? []);
  for (const key of upgrade) requireKnown(key, keys);
  const changes = await lockAll(freehold, plan.models, lock ?? new Map(), new Set(upgrade), options);
  return changes.map(({ locked, ...change }) => ({ ...change, reference: fullReference(locked) }));
}

/**
 * `freehold add`: writes a model into `freehold.yaml` and the lock.
 * @param text `KEY=REF` or `REF`, which gets the short name of its package as its key
 * @throws ALREADY_EXISTS when the key has another source; REFERENCE_INVALID, NAME_INVALID, what resolving throws
 */
export async function addModel(
  freehold: Freehold,
  text: string,
  options: ResolveOptions,
): Promise<LockChange> {
  const [, keyText, rest = text] = /^([a-z0-9._-]+)=(.+)$/.exec(text) ?? [];
  const key = keyText === undefined ? undefined : parseModelKey(keyText);
  const source = parseModelSource(rest);
  const files = await readAppFiles(options.folder);
  if (files?.plan.models.some((model) => model.key === key && model.text === rest) === true) {
    const change = (await lockApp(freehold, options)).find((item) => item.key === key);
    if (change !== undefined) return change;
  }
  const resolved = await resolveModel(freehold, { key: key ?? 'new', ...source }, options);
  const name = key ?? parseModelKey(shortName(resolved.name));
  const from = writtenSource(rest, resolved);
  let kind: LockChange['kind'] = 'kept';
  await updateAppYaml(freehold, options.folder, (before) => addModelText(before, name, from));
  await updateLockFile(freehold, options.folder, (lock) => {
    kind = lock.has(name) ? 'changed' : 'added';
    return new Map(lock).set(name, { ...resolved, from });
  });
  return { key: name, reference: fullReference(resolved), kind };
}

/** Who names no version gets what is compatible with today's newest, as npm does it. */
function writtenSource(text: string, { version }: LockedModel): string {
  const reference = parseReference(text);
  if (reference.kind !== 'registry' || reference.selector.kind !== 'newest') return text;
  return registryReferenceText({ ...reference, selector: { kind: 'range', range: `^${version}` } });
}

interface PlannedChange extends Omit<LockChange, 'reference'> {
  readonly locked: LockedModel;
}

/** Resolves what must be, and writes the lock; entries that fit stay as they are. */
async function lockAll(
  freehold: Freehold,
  models: readonly AppModel[],
  lock: LockFile,
  upgrade: ReadonlySet<string>,
  options: ResolveOptions,
): Promise<readonly PlannedChange[]> {
  const misfits = new Set(compareLock(models, lock).map(({ key }) => key));
  const changes: PlannedChange[] = [];
  for (const model of models) {
    const before = lock.get(model.key);
    const mayStay = !upgrade.has(model.key) && before !== undefined;
    const locked =
      mayStay && !misfits.has(model.key)
        ? before
        : mayStay && stillFits(model, before)
          ? { ...before, from: model.text }
          : await resolveModel(freehold, model, options);
    changes.push(changeOf(model.key, before, locked));
  }
  const keys = new Set(models.map(({ key }) => key));
  for (const [key, locked] of lock) if (!keys.has(key)) changes.push({ key, locked, kind: 'removed' });
  await updateLockFile(freehold, options.folder, (now) => {
    const wanted = new Map(now);
    for (const { key, locked, kind } of changes) {
      if (kind === 'removed') wanted.delete(key);
      else wanted.set(key, locked);
    }
    return wanted;
  });
  return changes;
}

/** A range that was changed so that it still holds the locked version asks for nothing new. */
function stillFits({ reference, variant }: AppModel, locked: LockedModel): boolean {
  if (reference.kind !== 'registry' || reference.selector.kind !== 'range') return false;
  const { reference: before } = parseModelSource(locked.from);
  return (
    before.kind === 'registry' &&
    before.host === reference.host &&
    before.repository === reference.repository &&
    (variant === undefined || variant === locked.variant) &&
    isInRange(locked.version, reference.selector.range)
  );
}

function changeOf(key: string, before: LockedModel | undefined, locked: LockedModel): PlannedChange {
  if (before === undefined) return { key, locked, kind: 'added' };
  if (before.content === locked.content) return { key, locked, kind: 'kept' };
  return { key, locked, kind: 'changed', before: fullReference(before) };
}

function requireKnown(key: string, keys: readonly string[]): void {
  if (keys.includes(key)) return;
  throw new FreeholdError('NOT_FOUND', `freehold.yaml has no model ${quoted(key)}${suggestion(key, keys)}`);
}
