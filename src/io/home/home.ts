import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { generatePrivateKey, type PublicKey } from '../../core/crypto/keys.ts';
import { parseTrustPattern } from '../../core/crypto/trust-policy.ts';
import { removeLeftovers } from './durable-file.ts';
import { FeedStore } from './feed-store.ts';
import { GrantRecord } from './grant-record.ts';
import { type HomeLock, homeLock } from './home-lock.ts';
import { HOME_KEY_NAME, KeyStore, type StoredKey } from './key-store.ts';
import { makePrivateFolder, requirePrivateFolder } from './private-folder.ts';
import { TrustStore } from './trust-store.ts';

/** Packages of catalog models are built on this machine and signed by it. */
const CATALOG_PATTERN = parseTrustPattern('catalog/*');
/** So are packages of models that were imported from elsewhere. The home's key is good for these names only. */
const LOCAL_PATTERN = parseTrustPattern('local/*');

export type HomeFolder = 'store' | 'cache';

/** The one folder in which a user's Freehold keeps everything. */
export interface Home {
  /** Absolute. */
  readonly path: string;
  readonly keys: KeyStore;
  readonly trust: TrustStore;
  /** Catalogs of others. */
  readonly feeds: FeedStore;
  /** `mirrors.yaml`, which need not exist. */
  readonly mirrorsPath: string;
  /** Absolute path of a subfolder, which is made with mode 0700 when it is missing. @throws DISK_FULL, PERMISSION_DENIED */
  folder(name: HomeFolder): Promise<string>;
  /**
   * The home's own key, which signs catalog packages and imported models when they are installed. Made at first use, and
   * trusted for `catalog/*` and `local/*` in the same step; who takes that trust back later keeps it that way.
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
  const feeds = new FeedStore(path.join(homePath, 'feeds'), withLock);
  const grants = new GrantRecord(path.join(homePath, 'keys', 'home.grants'));
  return {
    path: homePath,
    keys,
    trust,
    feeds,
    mirrorsPath: path.join(homePath, 'mirrors.yaml'),
    async folder(name) {
      const folder = path.join(homePath, name);
      await makePrivateFolder(folder);
      return folder;
    },
    ensureHomeSigner: () => ensureHomeSigner(keys, trust, grants, withLock),
    removeLeftovers: () =>
      withLock(async () => {
        // Measurements of threads lie there, and whoever wrote them may have been killed.
        const cache = path.join(homePath, 'cache');
        const inCache = existsSync(cache) ? await removeLeftovers(cache) : 0;
        return (
          (await removeLeftovers(homePath)) +
          (await keys.removeLeftovers()) +
          (await feeds.removeLeftovers()) +
          inCache
        );
      }),
  };
}

async function ensureHomeSigner(
  keys: KeyStore,
  trust: TrustStore,
  grants: GrantRecord,
  withLock: HomeLock,
): Promise<StoredKey> {
  const stored = await keys.find(HOME_KEY_NAME);
  if (stored !== undefined && (await grants.has(stored.privateKey.publicKey))) return stored;
  return withLock(async () => {
    const made = await keys.find(HOME_KEY_NAME);
    if (made === undefined) return makeHomeKey(keys, trust, grants);
    await grantLocalNames(made.privateKey.publicKey, trust, grants);
    return made;
  });
}

async function makeHomeKey(keys: KeyStore, trust: TrustStore, grants: GrantRecord): Promise<StoredKey> {
  const privateKey = generatePrivateKey();
  const { publicKey } = privateKey;
  const local = (await isLocalRuleOurs(trust, grants)) ? [LOCAL_PATTERN] : [];
  // Trust before the key: after a crash in between, a key is trusted that nobody has, and the next try makes another. The
  // record before that, so that the next try knows whose rule it finds.
  await grants.add(publicKey);
  await trust.addUnderLock([CATALOG_PATTERN, ...local].map((pattern) => ({ pattern, key: publicKey })));
  return keys.save(HOME_KEY_NAME, privateKey);
}

/**
 * For keys that were made when they were good for `catalog/*` only; once for each, so that trust that is taken back stays
 * so. Who does not trust the key for catalog names any more did not want it for further names.
 */
async function grantLocalNames(key: PublicKey, trust: TrustStore, grants: GrantRecord): Promise<void> {
  if (await grants.has(key)) return;
  const { rules } = await trust.load();
  const catalogRule = rules.find(({ pattern }) => pattern === CATALOG_PATTERN);
  const isTrusted = catalogRule?.keys.some(({ fingerprint }) => fingerprint === key.fingerprint) === true;
  if (isTrusted && (await isLocalRuleOurs(trust, grants))) {
    await trust.addUnderLock([{ pattern: LOCAL_PATTERN, key }]);
  }
  await grants.add(key);
}

/** A rule that a person wrote for `local/*` is theirs: it is not widened. */
async function isLocalRuleOurs(trust: TrustStore, grants: GrantRecord): Promise<boolean> {
  const { rules } = await trust.load();
  const rule = rules.find(({ pattern }) => pattern === LOCAL_PATTERN);
  const granted = await grants.list();
  return rule === undefined || rule.keys.some(({ fingerprint }) => granted.includes(fingerprint));
}
