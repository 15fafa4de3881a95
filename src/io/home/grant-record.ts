import path from 'node:path';
import type { Fingerprint, PublicKey } from '../../core/crypto/keys.ts';
import { isFingerprint } from '../../core/crypto/keys.ts';
import { readGuarded, writeFileDurably } from './durable-file.ts';
import { makePrivateFolder, requirePrivateFolder } from './private-folder.ts';

/** One fingerprint on each line; a home makes one key in its life, or a few. */
const RECORD_BYTES_MAX = 16 << 10;

/**
 * Which of the home's own keys Freehold has trusted for imported models on its own account. `trust.yaml` cannot say it: a
 * rule that a user removed looks like one that never was, and must not come back.
 */
export class GrantRecord {
  readonly #file: string;

  /** @param file its folder is made when the first key is */
  constructor(file: string) {
    this.#file = file;
  }

  /** @throws PERMISSION_DENIED, CONFIG_INVALID */
  async has(key: PublicKey): Promise<boolean> {
    return (await this.list()).includes(key.fingerprint);
  }

  /** The caller holds the home's lock. @throws DISK_FULL, PERMISSION_DENIED */
  async add(key: PublicKey): Promise<void> {
    const folder = path.dirname(this.#file);
    await makePrivateFolder(folder);
    await requirePrivateFolder(folder);
    const fingerprints = [...(await this.list()), key.fingerprint];
    await writeFileDurably(this.#file, Buffer.from(`${fingerprints.join('\n')}\n`), { mode: 0o600 });
  }

  /** @throws PERMISSION_DENIED, CONFIG_INVALID */
  async list(): Promise<readonly Fingerprint[]> {
    const guard = { bytesMax: RECORD_BYTES_MAX, forbiddenMode: 0o022, repair: 'chmod go-w' };
    return ((await readGuarded(this.#file, guard)) ?? '').split('\n').filter(isFingerprint);
  }
}
