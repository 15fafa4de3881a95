import { type CatalogEntry, sourceLabel } from '../../io/fetch/catalog-entry.ts';
import type { Freehold } from './freehold.ts';

export { STARTER_NAME } from '../../io/fetch/catalog-data.ts';

/** A catalog entry as people and `--json` see it. */
export type CatalogSummary = Omit<CatalogEntry, 'sources'> & { readonly sourceNames: readonly string[] };

function summary({ sources, ...entry }: CatalogEntry): CatalogSummary {
  return { ...entry, sourceNames: sources.map(sourceLabel) };
}

/** The catalog, with the entries of the user's mirrors.yaml. @throws CONFIG_INVALID */
export async function catalogEntries(freehold: Freehold): Promise<CatalogSummary[]> {
  return (await freehold.catalog()).list().map(summary);
}

/** @throws MODEL_NOT_FOUND with the nearest name */
export async function catalogEntry(freehold: Freehold, name: string): Promise<CatalogSummary> {
  return summary((await freehold.catalog()).find(name));
}

/** Catalog sources of the user that cannot be used now, each with its reason. */
export async function catalogFaults(freehold: Freehold): Promise<string[]> {
  return (await freehold.catalog()).faults.map(
    ({ source, error }) => `the catalog source ${source} is left out: ${error.message}`,
  );
}
