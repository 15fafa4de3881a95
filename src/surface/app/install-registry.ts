import type { RegistryReference } from '../../core/base/registry-reference.ts';
import type { ArtifactSource } from '../../core/format/artifact-place.ts';
import type { VariantChoice } from '../../core/format/variant-choice.ts';
import type { Freehold } from './freehold.ts';
import type { ImportOptions, ImportResult } from './import-options.ts';
import {
  type ArtifactInstallOptions,
  type ArtifactInstallResult,
  installFromSource,
  isPackageManifest,
} from './install-artifact.ts';
import { readMachineFacts } from './machine-facts.ts';
import { withSources } from './registry-places.ts';
import { type ListedVariant, resolveArtifact } from './resolve-remote.ts';

export interface RegistryInstallOptions extends ArtifactInstallOptions, Omit<ImportOptions, 'expect'> {
  /** Plain http also to another machine. */
  readonly plainHttp?: boolean;
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
  const { signal, expect = {} } = options;
  const { progress } = freehold;
  const resolved = await resolveArtifact(sources, reference, await readMachineFacts(), { signal, progress });
  if (resolved.choice !== undefined) options.onChoice?.(resolved.choice);
  if (!isPackageManifest(resolved.manifest)) {
    const { installForeign } = await import('./install-foreign.ts');
    return installForeign(freehold, sources, resolved.manifest, reference, options);
  }
  return installFromSource(freehold, sources, resolved.manifest, {
    ...options,
    expect: { ...resolved.expect, ...expect },
  });
}
