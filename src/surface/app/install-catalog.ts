import { requireLicenseAccepted } from '../../io/fetch/catalog.ts';
import type { CatalogEntry } from '../../io/fetch/catalog-entry.ts';
import type { Freehold } from './freehold.ts';
import type { ImportOptions } from './import-options.ts';
import { type GgufFacts, installGguf, installOnce } from './install-gguf.ts';
import type { InstallResult } from './install-package.ts';

export type CatalogInstallOptions = Omit<ImportOptions, 'name'>;

/**
 * Fetches a catalog model, checks it against its pinned digest, packages it as `catalog/NAME`, signs it with the
 * home's own key, and installs it through the same verification as every package.
 * @throws MODEL_NOT_FOUND, LICENSE_NOT_ACCEPTED, SOURCES_EXHAUSTED, OFFLINE, GGUF_INVALID, DISK_FULL
 */
export async function installFromCatalog(
  freehold: Freehold,
  name: string,
  options: CatalogInstallOptions,
): Promise<InstallResult> {
  const { isLicenseAccepted = false, signal } = options;
  const entry = (await freehold.catalog()).find(name);
  const packageName = `catalog/${entry.name}`;
  return installOnce(freehold, { name: packageName, digests: [entry.digest] }, options, async () => {
    requireLicenseAccepted(entry, isLicenseAccepted);
    // Loaded here: the HTTP client is a seventh of every command's start, and most fetch nothing.
    const { fetchEntry } = await import('../../io/fetch/fetch-entry.ts');
    const fetched = await fetchEntry(entry, {
      cacheFolder: await freehold.home.folder('cache'),
      offline: freehold.isOffline,
      progress: freehold.progress,
      signal,
      environment: freehold.env,
    });
    const { digest, sizeBytes } = entry;
    const weights = { kind: 'cached', path: fetched.path, digest, sizeBytes } as const;
    return installGguf(freehold, [weights], catalogFacts(entry), options);
  });
}

/** What the catalog says of a model, beside its bytes. */
export function catalogFacts({ name, license, description, parameters, fileName }: CatalogEntry): GgufFacts {
  return {
    name: `catalog/${name}`,
    license,
    description,
    weightsName: fileName,
    ...(parameters === undefined ? {} : { parameters }),
  };
}
