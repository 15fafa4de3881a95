import path from 'node:path';
import type { GgufDescription } from '../../core/format/gguf/gguf-description.ts';
import type { PackageDescriptor } from '../../core/format/package-descriptor.ts';
import { requireLicenseAccepted } from '../../io/fetch/catalog.ts';
import type { CatalogEntry } from '../../io/fetch/catalog-entry.ts';
import { withFileLock } from '../../io/files/file-lock.ts';
import type { Freehold } from './freehold.ts';
import { readGgufWeights } from './gguf-weights.ts';
import { addVerified, type InstallResult } from './install-package.ts';
import { installedPackages } from './installed-packages.ts';
import { describePackage } from './package-description.ts';
import { writeSigned } from './sign-package.ts';
import { verifyFiles, verifyInstalled, verifyVersionIndex } from './verify-package.ts';

/** Catalog entries are pinned by digest; the version counts our packaging of them. */
const CATALOG_VERSION = '1.0.0';

export interface CatalogInstallOptions {
  readonly isLicenseAccepted: boolean;
  readonly signal: AbortSignal;
}

/**
 * Fetches a catalog model, checks it against its pinned digest, packages it as `catalog/NAME`, signs it with the
 * home's own key (trusted for `catalog/*` only), and installs it through the same verification as every package.
 * @throws MODEL_NOT_FOUND, LICENSE_NOT_ACCEPTED, SOURCES_EXHAUSTED, OFFLINE, GGUF_INVALID, DISK_FULL
 */
export async function installFromCatalog(
  freehold: Freehold,
  name: string,
  { isLicenseAccepted, signal }: CatalogInstallOptions,
): Promise<InstallResult> {
  const entry = (await freehold.catalog()).find(name);
  const existing = await findInstalled(freehold, entry, signal);
  if (existing !== undefined) return existing;
  requireLicenseAccepted(entry, isLicenseAccepted);
  const cacheFolder = await freehold.home.folder('cache');
  const label = `another process that installs ${name}`;
  // The file leaves the cache when it is imported: a second install would fetch it once more, or lose it on the way.
  return withFileLock(
    path.join(cacheFolder, `${entry.name}.lock`),
    'exclusive',
    Number.POSITIVE_INFINITY,
    async () =>
      (await findInstalled(freehold, entry, signal)) ?? fetchAndAdd(freehold, entry, cacheFolder, signal),
    { signal, onWait: () => freehold.progress({ kind: 'step-started', label }) },
  );
}

/** The caller holds the entry's lock. */
async function fetchAndAdd(
  freehold: Freehold,
  entry: CatalogEntry,
  cacheFolder: string,
  signal: AbortSignal,
): Promise<InstallResult> {
  // Loaded here: the HTTP client is a seventh of every command's start, and most fetch nothing.
  const { fetchEntry } = await import('../../io/fetch/fetch-entry.ts');
  const fetched = await fetchEntry(entry, {
    cacheFolder,
    offline: freehold.isOffline,
    progress: freehold.progress,
    signal,
    environment: freehold.env,
  });
  const { description } = await readGgufWeights(fetched.path);
  const { store } = freehold;
  return store.withLease(async () => {
    await store.importFile(fetched.path, {
      how: { kind: 'move-from-cache', ownCacheFolder: cacheFolder },
      expect: { digest: entry.digest, sizeBytes: entry.sizeBytes },
      signal,
    });
    const descriptor = catalogDescriptor(entry, description);
    const { privateKey } = await freehold.home.ensureHomeSigner();
    const signed = await writeSigned(freehold, descriptor, [], privateKey);
    const added = await addVerified(freehold, descriptor, signed.signatures, [privateKey.publicKey]);
    // An entry may have been there, over damaged files: these are new.
    return { ...added, isNew: true };
  });
}

function catalogDescriptor(entry: CatalogEntry, description: GgufDescription): PackageDescriptor {
  return describePackage({
    name: `catalog/${entry.name}`,
    version: CATALOG_VERSION,
    variant: description.quantization.toLowerCase(),
    license: entry.license,
    description: entry.description,
    ...(entry.parameters === undefined ? {} : { parameters: entry.parameters }),
    model: description,
    files: [{ path: entry.fileName, role: 'weights', size: entry.sizeBytes, digest: entry.digest }],
  });
}

/** The model as it is installed already, if it is sound; a damaged one is installed anew. */
async function findInstalled(
  freehold: Freehold,
  entry: CatalogEntry,
  signal: AbortSignal,
): Promise<InstallResult | undefined> {
  const packages = installedPackages(await freehold.store.entries());
  const item = packages.find(({ name }) => name === `catalog/${entry.name}`);
  if (item === undefined) return undefined;
  try {
    const { descriptor } = await verifyInstalled(freehold, item);
    await verifyVersionIndex(freehold, item);
    if (!descriptor.files.some((file) => file.digest === entry.digest)) return undefined;
    await verifyFiles(freehold, descriptor.files, 'warm', signal);
    return { ...item, isNew: false };
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}
