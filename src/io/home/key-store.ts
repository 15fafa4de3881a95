import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import {
  encodePrivateKey,
  generatePrivateKey,
  KEY_PEM_CHARACTERS_MAX,
  type PrivateKey,
  parsePrivateKey,
} from '../../core/crypto/keys.ts';
import { onFile, readGuarded, removeLeftovers, writeFileDurably } from './durable-file.ts';
import type { HomeLock } from './home-lock.ts';
import { makePrivateFolder, requirePrivateFolder } from './private-folder.ts';

/** A signing key of this home. */
export interface StoredKey {
  readonly name: string;
  readonly privateKey: PrivateKey;
  /** PKCS #8 PEM, mode 0600. */
  readonly privateKeyPath: string;
  /** SPKI PEM to hand out; a copy for convenience, the private key alone counts. */
  readonly publicKeyPath: string;
}

/** The name of the key that a home makes for itself: see `Home.ensureHomeSigner`. */
export const HOME_KEY_NAME = 'home';

export const KEY_NAME_CHARACTERS_MAX = 64;
const KEY_NAME = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;
const PRIVATE_SUFFIX = '.key';
const PUBLIC_SUFFIX = '.pub';

/** @throws NAME_INVALID */
export function parseKeyName(text: string): string {
  if (text.length > KEY_NAME_CHARACTERS_MAX || !KEY_NAME.test(text)) {
    throw new FreeholdError('NAME_INVALID', `not a key name: ${quoted(text)}`, {
      hint: 'lower case letters and digits, joined by ".", "_" or "-": acme-release',
    });
  }
  return text;
}

/** The folder `keys/` of a home: `NAME.key` and `NAME.pub`. A key is never overwritten. */
export class KeyStore {
  readonly #folder: string;
  readonly #withLock: HomeLock;

  /** @param folder is made when the first key is */
  constructor(folder: string, withLock: HomeLock) {
    this.#folder = folder;
    this.#withLock = withLock;
  }

  /**
   * Makes an ECDSA P-256 pair. The name `home` is kept for the key that `ensureHomeSigner` makes.
   * @throws ALREADY_EXISTS, NAME_INVALID, DISK_FULL, PERMISSION_DENIED
   */
  async create(name: string): Promise<StoredKey> {
    if (parseKeyName(name) === HOME_KEY_NAME) {
      throw new FreeholdError(
        'NAME_INVALID',
        `the key name "${HOME_KEY_NAME}" is kept for the home's own key`,
        {
          hint: 'choose another name',
        },
      );
    }
    return this.#withLock(() => this.save(name, generatePrivateKey()));
  }

  /**
   * Writes a new key; the caller holds the home's lock. A crash in between can leave a key without its `.pub`, which
   * `encode…` of the private key gives back, never a `.pub` without its key.
   * @throws ALREADY_EXISTS, DISK_FULL, PERMISSION_DENIED
   */
  async save(name: string, privateKey: PrivateKey): Promise<StoredKey> {
    await makePrivateFolder(this.#folder);
    await requirePrivateFolder(this.#folder);
    await removeLeftovers(this.#folder);
    const stored = this.#stored(name, privateKey);
    const pem = Buffer.from(encodePrivateKey(privateKey));
    await writeFileDurably(stored.privateKeyPath, pem, { mode: 0o600, exclusive: true }).catch(
      (error: unknown) => {
        if (!(error instanceof FreeholdError) || error.code !== 'ALREADY_EXISTS') throw error;
        throw new FreeholdError(
          'ALREADY_EXISTS',
          `there is a key ${quoted(name)} already; it was left as it is`,
          {
            cause: error,
            detail: { path: stored.privateKeyPath },
          },
        );
      },
    );
    await writeFileDurably(stored.publicKeyPath, Buffer.from(privateKey.publicKey.pem), { mode: 0o644 });
    return stored;
  }

  /** What killed writers left; the caller holds the home's lock. @returns how many files there were */
  async removeLeftovers(): Promise<number> {
    return (await requirePrivateFolder(this.#folder)) ? removeLeftovers(this.#folder) : 0;
  }

  /** @throws NOT_FOUND, KEY_INVALID, PERMISSION_DENIED when others may read the file */
  async load(name: string): Promise<StoredKey> {
    const stored = await this.find(name);
    if (stored !== undefined) return stored;
    throw new FreeholdError('NOT_FOUND', `there is no key ${quoted(name)}`, {
      hint: 'freehold key list shows the keys of this home, freehold key new NAME makes one',
    });
  }

  /** @throws as `load` and `create` do */
  async loadOrCreate(name: string): Promise<StoredKey> {
    const stored = await this.find(name);
    if (stored !== undefined) return stored;
    return this.create(name).catch((error: unknown) => {
      // Another process was faster.
      if (error instanceof FreeholdError && error.code === 'ALREADY_EXISTS') return this.load(name);
      throw error;
    });
  }

  /** All keys, by name. @throws KEY_INVALID or PERMISSION_DENIED for the first that cannot be used */
  async list(): Promise<readonly StoredKey[]> {
    if (!(await requirePrivateFolder(this.#folder))) return [];
    const files = await onFile('list', this.#folder, () => readdir(this.#folder));
    const names = files
      .filter((file) => file.endsWith(PRIVATE_SUFFIX))
      .map((file) => file.slice(0, -PRIVATE_SUFFIX.length))
      .filter((name) => KEY_NAME.test(name))
      .sort();
    return Promise.all(names.map((name) => this.load(name)));
  }

  /** As `load`, but undefined when there is none. */
  async find(name: string): Promise<StoredKey | undefined> {
    const file = path.join(this.#folder, `${parseKeyName(name)}${PRIVATE_SUFFIX}`);
    if (!(await requirePrivateFolder(this.#folder))) return undefined;
    const pem = await readGuarded(file, {
      bytesMax: KEY_PEM_CHARACTERS_MAX,
      forbiddenMode: 0o077,
      repair: 'chmod 600',
    });
    return pem === undefined ? undefined : this.#stored(name, parsePrivateKey(pem, file));
  }

  #stored(name: string, privateKey: PrivateKey): StoredKey {
    return {
      name,
      privateKey,
      privateKeyPath: path.join(this.#folder, `${name}${PRIVATE_SUFFIX}`),
      publicKeyPath: path.join(this.#folder, `${name}${PUBLIC_SUFFIX}`),
    };
  }
}
