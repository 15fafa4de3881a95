import { FreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import type { Freehold } from './freehold.ts';
import type { ImportResult } from './import-options.ts';
import { installFromCatalog } from './install-catalog.ts';
import type { InstallResult } from './install-package.ts';
import type { RegistryInstallOptions } from './install-registry.ts';

/**
 * Installs what a reference names, from wherever it says: a registry, the catalog, a file or folder, Hugging Face, the
 * folders of Ollama and LM Studio.
 * @throws REFERENCE_INVALID when it does not say where from, and whatever the ways of installing throw
 */
export async function installReference(
  freehold: Freehold,
  text: string,
  options: RegistryInstallOptions,
): Promise<InstallResult | ImportResult> {
  const reference = parseReference(text);
  switch (reference.kind) {
    case 'catalog':
      return installFromCatalog(freehold, reference.name, options);
    case 'file':
      return (await import('./install-local.ts')).installFromPath(freehold, reference.path, options);
    case 'huggingface':
      return (await import('./install-huggingface.ts')).installFromHuggingFace(freehold, reference, options);
    case 'ollama':
      return (await import('./install-local.ts')).installFromOllama(freehold, reference.name, options);
    case 'lmstudio':
      return (await import('./install-local.ts')).installFromLmStudio(freehold, reference.name, options);
    case 'installed': {
      const known = (await freehold.catalog()).list().some((entry) => entry.name === reference.name);
      throw new FreeholdError('REFERENCE_INVALID', `${text} does not say where to install from`, {
        hint: known
          ? `freehold install catalog:${reference.name}`
          : 'oci://HOST/NAME:TAG, hf://OWNER/REPO:QUANT, catalog:NAME, file:PATH, ollama:NAME or lmstudio:NAME',
      });
    }
    case 'registry':
      return (await import('./install-registry.ts')).installFromRegistry(freehold, reference, options);
    default:
      return reference satisfies never;
  }
}
