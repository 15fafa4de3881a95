import { z } from 'zod';
import { suggestion } from '../../core/base/did-you-mean.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { CATALOG_DATA } from './catalog-data.ts';
import { type CatalogEntry, type WrittenEntry, writtenEntrySchema } from './catalog-entry.ts';
import { type Mirrors, noMirrors } from './mirrors.ts';

export interface Catalog {
  /** Built-in entries, then those of feeds, then the user's own. */
  list(): readonly CatalogEntry[];
  /** @throws MODEL_NOT_FOUND with the nearest name; why the feed that it would be in cannot be used */
  find(name: string): CatalogEntry;
  /** Feeds that cannot be used, with the reason. */
  readonly faults: readonly FeedFault[];
}

/** What a catalog source of the user gives: its entries under `SOURCE.NAME`, or why it gives none. */
export interface FeedEntries {
  readonly source: string;
  readonly entries: readonly CatalogEntry[];
  readonly fault?: FreeholdError;
}

export interface FeedFault {
  readonly source: string;
  readonly error: FreeholdError;
}

/**
 * The built-in entries together with those of feeds and with a user's mirrors, whose sources come first. A feed never
 * replaces an entry that is there.
 * @throws CONFIG_INVALID when the mirrors redefine a built-in entry, or add a source to a name that nobody has
 */
export function openCatalog(mirrors: Mirrors = noMirrors, feeds: readonly FeedEntries[] = []): Catalog {
  const entries = new Map(builtInEntries());
  for (const entry of feeds.flatMap((feed) => feed.entries)) {
    if (!entries.has(entry.name)) entries.set(entry.name, entry);
  }
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
  const faults = feeds.flatMap(({ source, fault }) =>
    fault === undefined ? [] : [{ source, error: fault }],
  );
  for (const [name, sources] of Object.entries(mirrors.sources)) {
    const entry = entries.get(name);
    if (entry === undefined) {
      // Of a feed that is gone or cannot be read: no reason to do without all others.
      if (name.includes('.')) {
        const message = `${mirrors.label}: sources: no feed has ${quoted(name)}`;
        faults.push({ source: mirrors.label, error: new FreeholdError('CONFIG_INVALID', message) });
        continue;
      }
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
    find(name) {
      const entry = entries.get(name);
      if (entry !== undefined) return entry;
      const fault = faults.find(({ source }) => name.startsWith(`${source}.`));
      if (fault !== undefined) throw fault.error;
      return unknownEntry(name, entries.keys());
    },
    faults,
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
