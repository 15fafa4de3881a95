import path from 'node:path';
import { type Progress, silentProgress } from '../../core/base/progress.ts';
import type { Catalog } from '../../io/fetch/catalog.ts';
import type { Mirrors } from '../../io/fetch/mirrors.ts';
import { type Home, openHome, resolveHomePath } from '../../io/home/home.ts';
import { openStore, type Store } from '../../io/store/store.ts';

export interface FreeholdOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Absent: `$FREEHOLD_HOME`, else `~/.freehold`. */
  readonly home?: string;
  /** A mirrors.yaml to use instead of the home's. */
  readonly mirrorsFile?: string;
  readonly isOffline?: boolean;
  /** Of all registries together. Absent: as fast as it goes. */
  readonly rateBytesPerSecond?: number | undefined;
  readonly progress?: Progress;
}

/** An opened home with everything in it: what every use case takes as its first argument. */
export interface Freehold {
  readonly home: Home;
  readonly store: Store;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isOffline: boolean;
  readonly rateBytesPerSecond: number | undefined;
  readonly progress: Progress;
  /** The user's own sources. @throws CONFIG_INVALID */
  mirrors(): Promise<Mirrors>;
  /** The built-in catalog with the user's feeds and mirrors. @throws CONFIG_INVALID */
  catalog(): Promise<Catalog>;
}

/**
 * Opens a home, and makes it at first use.
 * @throws PERMISSION_DENIED, ALREADY_EXISTS when the path is a file, STORE_CORRUPT, DISK_FULL
 */
export async function openFreehold(options: FreeholdOptions): Promise<Freehold> {
  const home = await openHome(resolveHomePath(options.env, options.home));
  const store = await openStore(await home.folder('store'));
  const { mirrorsFile } = options;
  // Imported here: most commands need neither the catalog nor a YAML parser.
  const mirrors = async () => {
    const { readMirrors } = await import('../../io/fetch/mirrors.ts');
    return mirrorsFile === undefined
      ? readMirrors(home.mirrorsPath, false)
      : readMirrors(path.resolve(mirrorsFile), true);
  };
  return {
    home,
    store,
    env: options.env,
    isOffline: options.isOffline === true,
    rateBytesPerSecond: options.rateBytesPerSecond,
    progress: options.progress ?? silentProgress,
    mirrors,
    async catalog() {
      const { openCatalog } = await import('../../io/fetch/catalog.ts');
      const { readFeeds } = await import('./catalog-feeds.ts');
      return openCatalog(await mirrors(), await readFeeds(home.feeds));
    },
  };
}
