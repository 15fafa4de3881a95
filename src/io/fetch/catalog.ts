import { z } from 'zod';
import { suggestion } from '../../core/base/did-you-mean.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { CATALOG_DATA } from './catalog-data.ts';
import { type CatalogEntry, type WrittenEntry, writtenEntrySchema } from './catalog-entry.ts';
import { type Mirrors, noMirrors } from './mirrors.ts';

export interface Catalog {
  /** Built-in entries, then the user's own. */
  list(): readonly CatalogEntry[];
  /** @throws MODEL_NOT_FOUND with the nearest name */
  find(name: string): CatalogEntry;
}

/**
 * The built-in entries together with a user's mirrors, whose sources come first.
 * @throws CONFIG_INVALID when the mirrors redefine a built-in entry, or add a source to a name that nobody has
 */
export function openCatalog(mirrors: Mirrors = noMirrors): Catalog {
  const entries = new Map(builtInEntries());
  for (const [name, entry] of Object.entries(mirrors.entries)) {
    if (entries.has(name)) {
      throw new FreeholdError(
        'CONFIG_INVALID',
        `${mirrors.label}: entries: ${quoted(name)} is in the catalog already`,
        {
          hint: `to fetch it from elsewhere, list the place under sources: ${name}:`,
        },
      );
    }
    entries.set(name, entry);
  }
  for (const [name, sources] of Object.entries(mirrors.sources)) {
    const entry = entries.get(name);
    if (entry === undefined) {
      const meant = suggestion(name, entries.keys());
      throw new FreeholdError(
        'CONFIG_INVALID',
        `${mirrors.label}: sources: no catalog entry ${quoted(name)}${meant}`,
      );
    }
    entries.set(name, { ...entry, sources: [...sources, ...entry.sources] });
  }
  return {
    list: () => [...entries.values()],
    find: (name) => entries.get(name) ?? unknownEntry(name, entries.keys()),
  };
}

function builtInEntries(): [string, CatalogEntry][] {
  const written: Readonly<Record<string, WrittenEntry>> = CATALOG_DATA;
  return Object.entries(z.record(z.string(), writtenEntrySchema).parse(written)).map(([name, entry]) => [
    name,
    { ...entry, name },
  ]);
}

function unknownEntry(name: string, known: Iterable<string>): never {
  const meant = suggestion(name, known);
  throw new FreeholdError('MODEL_NOT_FOUND', `the catalog has no ${quoted(name)}${meant}`, {
    hint: 'freehold catalog list',
  });
}

/**
 * Call it before the first byte is fetched.
 * @throws LICENSE_NOT_ACCEPTED with the licence and where it can be read
 */
export function requireLicenseAccepted(entry: CatalogEntry, isAccepted: boolean): void {
  if (!entry.mustAccept || isAccepted) return;
  throw new FreeholdError(
    'LICENSE_NOT_ACCEPTED',
    `${entry.name} comes under ${entry.license}, which must be accepted first: ${entry.licenseUrl}`,
    { detail: { name: entry.name, license: entry.license, licenseUrl: entry.licenseUrl } },
  );
}
