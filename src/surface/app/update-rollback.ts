import { FreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import { noticesFor } from '../../core/format/channel-documents.ts';
import { storedContents } from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';
import { type InstalledPackage, installedPackages, selectInstalled } from './installed-packages.ts';
import { type Activation, rollBackVersion, rollbackTarget, storedVersions } from './version-activation.ts';

/**
 * Puts back what was in use before. A version that its publisher has withdrawn is put back only by its own name.
 * @param text NAME, or NAME@VERSION for any version in the store; absent: the one package that can be rolled back
 * @throws MODEL_NOT_FOUND, REFERENCE_INVALID when several packages could be meant, CHANNEL_ROLLBACK for a withdrawn version
 */
export async function rollBack(
  freehold: Freehold,
  text: string | undefined,
): Promise<Activation & { readonly yankedBecause?: string }> {
  const packages = installedPackages(await freehold.store.entries());
  const { name, wanted } = text === undefined ? { name: onlyName(packages) } : named(packages, text);
  const target = rollbackTarget(packages, name, wanted);
  const yankedBecause = target && (await yankReason(freehold, name, target.version));
  if (target !== undefined && yankedBecause !== undefined && wanted === undefined) {
    const others = storedVersions(packages, name)
      .map(({ version }) => version)
      .filter((version) => version !== target.version && version !== target.from);
    const more = others.length === 0 ? '' : `; others in the store: ${others.join(', ')}`;
    throw new FreeholdError(
      'CHANNEL_ROLLBACK',
      `${name}@${target.version}, in use before, was withdrawn: ${yankedBecause}`,
      {
        hint: `${target.from} goes on; freehold update rollback ${name}@${target.version} takes it all the same${more}`,
        detail: { name, version: target.version, current: target.from },
      },
    );
  }
  const activation = await rollBackVersion(freehold, name, wanted);
  return { ...activation, ...(yankedBecause === undefined ? {} : { yankedBecause }) };
}

function named(packages: readonly InstalledPackage[], text: string) {
  const reference = parseReference(text);
  const [item] = selectInstalled(packages, reference, text);
  return {
    name: item?.name ?? text,
    wanted: reference.kind === 'installed' ? reference.version : undefined,
  };
}

function onlyName(packages: readonly InstalledPackage[]): string {
  const names = [...new Set(packages.map(({ name }) => name))].filter(
    (name) => rollbackTarget(packages, name) !== undefined,
  );
  const [name, ...more] = names;
  if (name !== undefined && more.length === 0) return name;
  throw new FreeholdError(
    names.length === 0 ? 'MODEL_NOT_FOUND' : 'REFERENCE_INVALID',
    names.length === 0 ? 'no package has a version to go back to' : `which one of ${names.join(', ')}?`,
    { hint: 'freehold update rollback NAME' },
  );
}

/** From what was verified last; a damaged file must not stand in the way back. */
async function yankReason(freehold: Freehold, name: string, version: string): Promise<string | undefined> {
  const contents = await storedContents(freehold, name).catch(() => undefined);
  return noticesFor(contents, version).yankedBecause;
}
