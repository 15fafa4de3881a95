import { FreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import type { Freehold } from './freehold.ts';
import { installedPackages, selectInstalled } from './installed-packages.ts';
import { type Activation, rollBackVersion, rollbackTarget } from './version-activation.ts';

/**
 * Puts back what was in use before.
 * @param text NAME; absent: the one package that can be rolled back
 * @throws MODEL_NOT_FOUND, REFERENCE_INVALID when several packages could be meant
 */
export async function rollBack(freehold: Freehold, text: string | undefined): Promise<Activation> {
  const packages = installedPackages(await freehold.store.entries());
  if (text !== undefined) {
    const [item] = selectInstalled(packages, parseReference(text), text);
    return rollBackVersion(freehold, item?.name ?? text);
  }
  const names = [...new Set(packages.map(({ name }) => name))].filter(
    (name) => rollbackTarget(packages, name) !== undefined,
  );
  const [name, ...more] = names;
  if (name !== undefined && more.length === 0) return rollBackVersion(freehold, name);
  throw new FreeholdError(
    names.length === 0 ? 'MODEL_NOT_FOUND' : 'REFERENCE_INVALID',
    names.length === 0 ? 'no package has a version to go back to' : `which one of ${names.join(', ')}?`,
    { hint: 'freehold update rollback NAME' },
  );
}
