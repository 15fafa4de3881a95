import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import type { LockedModel } from '../../core/format/lock-file.ts';
import { contentMismatch } from '../../core/format/lock-file.ts';
import { fullReference, type InstalledPackage } from './installed-packages.ts';

/** Names that an application gives to packages, each for exactly one variant of one version with one content. */
export type ModelAliases = ReadonlyMap<
  string,
  Pick<LockedModel, 'name' | 'version' | 'variant'> & { readonly content?: string }
>;

/**
 * What a client's name means: an alias stands for its package, every other name for itself.
 * @throws CONFIG_INVALID when a package of another name is called so as well; MODEL_NOT_FOUND when the alias's package
 *   is not installed; LOCK_MISMATCH when it has other content than the alias says
 */
export function withoutAlias(
  packages: readonly InstalledPackage[],
  aliases: ModelAliases,
  id: string,
): string {
  const alias = aliases.get(id);
  if (alias === undefined) return id;
  requireUnambiguous(packages, id, alias.name);
  const reference = fullReference(alias);
  const item = packages.find((installed) => fullReference(installed) === reference);
  if (item === undefined) {
    throw new FreeholdError('MODEL_NOT_FOUND', `${id} is ${reference}, which is not installed`, {
      hint: 'freehold install, in the folder of freehold.yaml',
    });
  }
  if (alias.content === undefined || alias.content === item.contentDigest) return reference;
  throw contentMismatch(`${reference}, which ${id} is locked to, has`, item.contentDigest, alias.content);
}

/** @throws CONFIG_INVALID for the first alias that is another package's name as well */
export function requireNoCollisions(packages: readonly InstalledPackage[], aliases: ModelAliases): void {
  for (const [key, { name }] of aliases) requireUnambiguous(packages, key, name);
}

function requireUnambiguous(packages: readonly InstalledPackage[], key: string, name: string): void {
  const other = packages.find(
    (item) => item.name !== name && (item.name === key || shortName(item.name) === key),
  );
  if (other === undefined) return;
  throw new FreeholdError(
    'CONFIG_INVALID',
    `freehold.yaml calls ${name} by the name ${key}, and so is ${other.name} called, which is installed`,
    { hint: `give the model another key in freehold.yaml, or remove ${other.name}` },
  );
}
