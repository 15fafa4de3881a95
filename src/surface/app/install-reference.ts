import { FreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import type { Freehold } from './freehold.ts';
import { type CatalogInstallOptions, installFromCatalog } from './install-catalog.ts';
import { installFromFolder } from './install-folder.ts';
import type { InstallResult } from './install-package.ts';

/**
 * Installs what a reference names: `catalog:NAME`, or `file:FOLDER` of an exported package.
 * @throws REFERENCE_INVALID when it does not say where from, and whatever the two ways of installing throw
 */
export async function installReference(
  freehold: Freehold,
  text: string,
  options: CatalogInstallOptions,
): Promise<InstallResult> {
  const reference = parseReference(text);
  switch (reference.kind) {
    case 'catalog':
      return installFromCatalog(freehold, reference.name, options);
    case 'file':
      return installFromFolder(freehold, reference.path, options.signal);
    case 'installed': {
      const known = (await freehold.catalog()).list().some((entry) => entry.name === reference.name);
      throw new FreeholdError('REFERENCE_INVALID', `${text} does not say where to install from`, {
        hint: known ? `freehold install catalog:${reference.name}` : 'catalog:NAME or file:FOLDER',
      });
    }
    case 'registry':
    case 'huggingface':
    case 'ollama':
    case 'lmstudio':
      throw new FreeholdError('NOT_SUPPORTED', `cannot install from ${reference.kind}`);
    default:
      return reference satisfies never;
  }
}
