import path from 'node:path';
import type { Document } from 'yaml';
import { FreeholdError } from '../../core/base/errors.ts';
import { parsePublicKey } from '../../core/crypto/keys.ts';
import {
  addTrust,
  parseTrustPattern,
  removeTrust,
  type TrustedKey,
  type TrustPolicy,
  type TrustSelector,
  trustPolicySchema,
} from '../../core/crypto/trust-policy.ts';
import { readGuarded, removeLeftovers, writeFileDurably } from './durable-file.ts';
import type { HomeLock } from './home-lock.ts';

export const TRUST_FILE_NAME = 'trust.yaml';

/** A rule with one key takes about 250 bytes; the YAML reader takes at most this much as well. */
const TRUST_FILE_BYTES_MAX = 1 << 20;

/** The file `trust.yaml` of a home. People edit it too: their comments and order stay. */
export class TrustStore {
  readonly path: string;
  readonly #withLock: HomeLock;

  constructor(homePath: string, withLock: HomeLock) {
    this.path = path.join(homePath, TRUST_FILE_NAME);
    this.#withLock = withLock;
  }

  /** An absent file is a policy that trusts nobody. @throws CONFIG_INVALID with line and path, PERMISSION_DENIED */
  async load(): Promise<TrustPolicy> {
    return this.#parse(await this.#read());
  }

  /**
   * Trusts a key for all packages that the pattern matches.
   * @param publicKeyPem PEM text of a public key, not of a private one
   * @returns what is trusted now; `isNew` is false when it was before
   * @throws NAME_INVALID, KEY_INVALID, CONFIG_INVALID, DISK_FULL, PERMISSION_DENIED, BUSY
   */
  async add(pattern: string, publicKeyPem: string): Promise<TrustedKey & { readonly isNew: boolean }> {
    const added = {
      pattern: parseTrustPattern(pattern),
      key: parsePublicKey(publicKeyPem, 'the public key'),
    };
    return this.#withLock(async () => ({ ...added, isNew: await this.addUnderLock([added]) }));
  }

  /**
   * As `add`, for several in one write, when the caller holds the home's lock already.
   * @returns false when nothing had to be changed
   */
  async addUnderLock(trusted: readonly TrustedKey[]): Promise<boolean> {
    const text = await this.#read();
    const policy = await this.#parse(text);
    const { addKeyNode, openTrustDocument } = await trustDocument();
    const document = openTrustDocument(text);
    let wanted = policy;
    for (const item of trusted) {
      const added = addTrust(wanted, item);
      if (added !== wanted) addKeyNode(document, item);
      wanted = added;
    }
    if (wanted === policy) return false;
    await this.#write(document, wanted);
    return true;
  }

  /**
   * @returns what is no longer trusted
   * @throws NOT_FOUND when the selector names nothing that is there, CONFIG_INVALID, DISK_FULL, PERMISSION_DENIED, BUSY
   */
  async remove(selector: TrustSelector): Promise<readonly TrustedKey[]> {
    return this.#withLock(async () => {
      const text = await this.#read();
      const { policy, removed } = removeTrust(await this.#parse(text), selector);
      const { openTrustDocument, removeKeyNode, removeRuleNode } = await trustDocument();
      const document = openTrustDocument(text);
      if (selector.kind === 'rule') removeRuleNode(document, selector.pattern);
      else for (const trusted of removed) removeKeyNode(document, trusted);
      await this.#write(document, policy);
      return removed;
    });
  }

  async #read(): Promise<string> {
    const guard = { bytesMax: TRUST_FILE_BYTES_MAX, forbiddenMode: 0o022, repair: 'chmod go-w' };
    return (await readGuarded(this.path, guard)) ?? '';
  }

  async #parse(text: string): Promise<TrustPolicy> {
    const { parseConfigYaml } = await import('../../core/base/config-file.ts');
    return parseConfigYaml(text, trustPolicySchema, this.path);
  }

  async #write(document: Document, wanted: TrustPolicy): Promise<void> {
    const text = document.toString({ lineWidth: 0 });
    // What says something else than it should, or cannot be read again, must not replace what could.
    if (summaryOf(await this.#parse(text)) !== summaryOf(wanted)) {
      throw new FreeholdError(
        'CONFIG_INVALID',
        `${this.path} cannot be changed by a program: it uses YAML aliases`,
        {
          hint: 'edit the file by hand, or write out what its aliases stand for',
        },
      );
    }
    await removeLeftovers(path.dirname(this.path));
    await writeFileDurably(this.path, Buffer.from(text), { mode: 0o600 });
  }
}

/** Equal for policies that say the same in the same order. */
const summaryOf = ({ rules }: TrustPolicy) =>
  JSON.stringify(rules.map(({ pattern, keys }) => [pattern, keys.map(({ fingerprint }) => fingerprint)]));

/** With its YAML parser, when it is needed: `freehold list` reads no policy. */
const trustDocument = () => import('./trust-document.ts');
