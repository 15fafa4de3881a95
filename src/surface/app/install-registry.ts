import type { RegistryReference } from '../../core/base/registry-reference.ts';
import type { ArtifactSource } from '../../core/format/artifact-place.ts';
import type { VariantChoice } from '../../core/format/variant-choice.ts';
import { type FindOptions, findPackage } from './find-package.ts';
import type { Freehold } from './freehold.ts';
import type { ImportOptions, ImportResult } from './import-options.ts';
import {
  type ArtifactInstallOptions,
  type ArtifactInstallResult,
  installPackageArtifact,
} from './install-artifact.ts';
import { withSources } from './registry-places.ts';
import type { ListedVariant } from './resolve-remote.ts';

export interface RegistryInstallOptions extends ArtifactInstallOptions, Omit<ImportOptions, 'expect'> {
  /** Plain http also to another machine. */
  readonly plainHttp?: boolean;
  readonly mayImport?: FindOptions['mayImport'];
  /** Hears why the variant was chosen, before anything is downloaded. */
  readonly onChoice?: (choice: VariantChoice<ListedVariant>) => void;
}

/**
 * Installs what a reference to a registry means, from the registry or one of its mirrors.
 * @throws OFFLINE, NOT_FOUND, AUTHENTICATION_FAILED, and what `resolveArtifact` and `installFromSource` throw
 */
export async function installFromRegistry(
  freehold: Freehold,
  reference: RegistryReference,
  options: RegistryInstallOptions,
): Promise<ArtifactInstallResult | ImportResult> {
  const work = (sources: readonly ArtifactSource[]) =>
    installFromSources(freehold, sources, reference, options);
  return withSources(freehold, reference, work, { plainHttp: options.plainHttp === true });
}

/** The same from places that are open already. */
export async function installFromSources(
  freehold: Freehold,
  sources: readonly ArtifactSource[],
  reference: RegistryReference,
  options: RegistryInstallOptions,
): Promise<ArtifactInstallResult | ImportResult> {
  const found = await findPackage(freehold, sources, reference, options);
  if (found.choice !== undefined) options.onChoice?.(found.choice);
  if (found.artifact !== undefined) {
    return installPackageArtifact(freehold, found.sources, found.artifact, options);
  }
  const { installForeign } = await import('./install-foreign.ts');
  return installForeign(freehold, found.sources, found.manifest, reference, options);
}
