import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { generatePrivateKey } from '../../core/crypto/keys.ts';
import { parseTrustPattern } from '../../core/crypto/trust-policy.ts';
import { removeLeftovers } from './durable-file.ts';
import { type HomeLock, homeLock } from './home-lock.ts';
import { HOME_KEY_NAME, KeyStore, type StoredKey } from './key-store.ts';
import { makePrivateFolder, requirePrivateFolder } from './private-folder.ts';
import { TrustStore } from './trust-store.ts';

/** Packages of the catalog are built on this machine and signed by it: the only names its own key is good for. */
export const HOME_KEY_PATTERN = 'catalog/*';

export type HomeFolder = 'store' | 'cache';

/** The one folder in which a user's Freehold keeps everything. */
export interface Home {
  /** Absolute. */
  readonly path: string;
  readonly keys: KeyStore;
  readonly trust: TrustStore;
  /** `mirrors.yaml`, which need not exist. */
  readonly mirrorsPath: string;
  /** Absolute path of a subfolder, which is made with mode 0700 when it is missing. @throws DISK_FULL, PERMISSION_DENIED */
  folder(name: HomeFolder): Promise<string>;
  /**
   * The home's own key, which signs catalog packages when they are installed. Made at first use, and trusted for
   * `catalog/*` in the same step; who takes that trust back later keeps it that way.
   * @throws DISK_FULL, PERMISSION_DENIED, CONFIG_INVALID when trust.yaml cannot be read, BUSY
   */
  ensureHomeSigner(): Promise<StoredKey>;
  /**
   * Removes what writers of keys and trust left that were killed half-way.
   * @returns how many files there were
   * @throws PERMISSION_DENIED, BUSY
   */
  removeLeftovers(): Promise<number>;
}

/**
 * Where the home is: what the command line says, else `FREEHOLD_HOME`, else `~/.freehold`.
 * @throws CONFIG_INVALID for a path that starts with an unexpanded `~`, or holds NUL
 */
export function resolveHomePath(
  env: Readonly<Record<string, string | undefined>>,
  explicit?: string,
): string {
  const chosen = explicit ?? (env.FREEHOLD_HOME || undefined);
  if (chosen === undefined) return path.join(path.resolve(env.HOME || homedir()), '.freehold');
  if (chosen === '' || chosen.includes('\0') || /^~(?:[/\\]|$)/.test(chosen)) {
    throw new FreeholdError('CONFIG_INVALID', `not a path for the home folder: ${quoted(chosen)}`, {
      hint: 'give an absolute path; "~" is expanded by a shell only, not in configuration files',
    });
  }
  return path.resolve(chosen);
}

/**
 * Opens a home, and makes its folder (mode 0700) when it is missing. Reading needs no right to write.
 * @throws PERMISSION_DENIED when other users may write there or it belongs to one of them; ALREADY_EXISTS when the
 *   path is a file; DISK_FULL
 */
export async function openHome(homePath: string): Promise<Home> {
  await makePrivateFolder(homePath);
  await requirePrivateFolder(homePath);
  const withLock = homeLock(path.join(homePath, 'home.lock'));
  const keys = new KeyStore(path.join(homePath, 'keys'), withLock);
  const trust = new TrustStore(homePath, withLock);
  return {
    path: homePath,
    keys,
    trust,
    mirrorsPath: path.join(homePath, 'mirrors.yaml'),
    async folder(name) {
      const folder = path.join(homePath, name);
      await makePrivateFolder(folder);
      return folder;
    },
    ensureHomeSigner: () => ensureHomeSigner(keys, trust, withLock),
    removeLeftovers: () =>
      withLock(async () => {
        // Measurements of threads lie there, and whoever wrote them may have been killed.
        const cache = path.join(homePath, 'cache');
        const inCache = existsSync(cache) ? await removeLeftovers(cache) : 0;
        return (await removeLeftovers(homePath)) + (await keys.removeLeftovers()) + inCache;
      }),
  };
}

async function ensureHomeSigner(keys: KeyStore, trust: TrustStore, withLock: HomeLock): Promise<StoredKey> {
  const stored = await keys.find(HOME_KEY_NAME);
  if (stored !== undefined) return stored;
  return withLock(async () => {
    const made = await keys.find(HOME_KEY_NAME);
    if (made !== undefined) return made;
    const privateKey = generatePrivateKey();
    // Trust first: after a crash in between, a key is trusted that nobody has, and the next try makes another.
    await trust.addUnderLock({ pattern: parseTrustPattern(HOME_KEY_PATTERN), key: privateKey.publicKey });
    return keys.save(HOME_KEY_NAME, privateKey);
  });
}
