import type { Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { hashInto } from './file-hash.ts';
import { syncFolder, syncNames } from './folder.ts';
import { isSystemError, systemRefusal } from './system-refusal.ts';
import { WriteBehind } from './write-behind.ts';

/** Our sidecar has under 1 kB; a source can make a validator as long as its headers may be. */
const SIDECAR_BYTES_MAX = 64 << 10;
/** The cache and the home in which it lies, perhaps made a moment ago. */
const FOLDERS_OF_A_CACHE = 2;

/** What the beginning of a file came from, so that the same source can continue it. */
const sidecarSchema = z.strictObject({
  /** Digest of what identifies the source; not the source itself, since URLs may carry secrets. */
  source: z.string(),
  /** Strong entity tag of the answer. */
  etag: z.string().optional(),
  lastModified: z.string().optional(),
  /** Wheels: so many members are complete, and they end here. */
  membersDone: z.int().min(0).optional(),
  membersBytes: z.int().min(0).optional(),
});
export type Sidecar = z.infer<typeof sidecarSchema>;

/** What the bytes must turn out to be. */
export interface Expected {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** A file in the making: hashed while it grows, never longer than expected, visible under its name only when right. */
export interface PartialFile {
  readonly expected: Expected;
  readonly sizeBytes: number;
  /** What is noted about the source of the bytes so far. */
  readonly sidecar: Sidecar | undefined;
  /** The bytes came in several answers or runs: if the digest is wrong, the pieces may not belong together. */
  readonly isPieced: boolean;
  /**
   * Takes up what an earlier run got from the same source, else begins with no bytes. Reads the kept bytes once, to
   * hash them.
   * @param keepBytes how much of the file to keep at most
   */
  resume(source: string, keepBytes?: (sidecar: Sidecar) => number, signal?: AbortSignal): Promise<void>;
  /** Notes where the following bytes come from. @param isContinued they continue another answer's */
  describe(sidecar: Sidecar, isContinued?: boolean): Promise<void>;
  /** @throws SIZE_MISMATCH when it would grow beyond the expected size; DISK_FULL */
  append(bytes: Uint8Array): Promise<void>;
  /** Back to no bytes. */
  restart(): void;
  /** @throws SIZE_MISMATCH, DIGEST_MISMATCH unless the bytes so far are exactly what is expected */
  verify(): void;
  /**
   * Makes the file visible at `path` and durable.
   * @param mode permissions that it gets before; default: as it was made
   * @throws SIZE_MISMATCH, DIGEST_MISMATCH: wipe it then
   */
  commit(path: string, mode?: number): Promise<void>;
  /** Closes it. What is on disk stays for the next run; an empty file is removed. */
  close(): Promise<void>;
  /** Deletes the bytes of this source; what another one left and nobody took up yet stays. */
  wipe(): Promise<void>;
}

/** Opens `path`, or creates it (mode 0600). The caller holds the lock. @throws DISK_FULL, PERMISSION_DENIED */
export async function openPartialFile(path: string, expected: Expected): Promise<PartialFile> {
  // O_NOFOLLOW: a link put here would let the download write into somebody else's file.
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  const file = await guarded(path, () => open(path, flags, 0o600));
  return new DiskPartialFile(path, file, expected);
}

class DiskPartialFile implements PartialFile {
  readonly expected: Expected;
  sizeBytes = 0;
  sidecar: Sidecar | undefined;
  isPieced = false;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #writes: WriteBehind;
  #hash: Hash = Digest.begin();
  /** The disk still holds what another source or run left: kept until there is something to put in its place. */
  #isStale = true;

  constructor(path: string, file: FileHandle, expected: Expected) {
    this.#path = path;
    this.#file = file;
    this.#writes = new WriteBehind(file);
    this.expected = expected;
  }

  get #sidecarPath(): string {
    return `${this.#path}.json`;
  }

  async resume(
    source: string,
    keepBytes?: (sidecar: Sidecar) => number,
    signal?: AbortSignal,
  ): Promise<void> {
    this.restart();
    const sidecar = await readSidecar(this.#sidecarPath);
    const { size } = await this.#file.stat();
    const keptBytes = sidecar?.source === source ? Math.min(size, keepBytes?.(sidecar) ?? size) : 0;
    if (keptBytes === 0 || keptBytes > this.expected.sizeBytes) return;
    await guarded(this.#path, () => this.#file.truncate(keptBytes));
    this.sizeBytes = await hashInto(this.#hash, this.#file, () => signal?.throwIfAborted());
    this.sidecar = sidecar;
    this.isPieced = true;
    this.#isStale = false;
  }

  async describe(sidecar: Sidecar, isContinued = false): Promise<void> {
    await this.#emptyIfStale();
    this.sidecar = sidecar;
    this.isPieced ||= isContinued;
    await guarded(this.#path, () => writeFile(this.#sidecarPath, JSON.stringify(sidecar), { mode: 0o600 }));
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#emptyIfStale();
    const sizeBytes = this.sizeBytes + bytes.byteLength;
    if (sizeBytes > this.expected.sizeBytes) {
      throw new FreeholdError('SIZE_MISMATCH', `more than the expected ${this.expected.sizeBytes} bytes`);
    }
    await guarded(this.#path, () => this.#writes.append(bytes, this.sizeBytes));
    this.#hash.update(bytes);
    this.sizeBytes = sizeBytes;
  }

  restart(): void {
    this.#isStale = true;
    this.#hash = Digest.begin();
    this.sizeBytes = 0;
    this.sidecar = undefined;
    this.isPieced = false;
  }

  async #emptyIfStale(): Promise<void> {
    if (!this.#isStale) return;
    await rm(this.#sidecarPath, { force: true });
    await guarded(this.#path, async () => {
      await this.#writes.discard();
      await this.#file.truncate(0);
    });
    this.#isStale = false;
  }

  verify(): void {
    const { digest, sizeBytes } = this.expected;
    const actual = Digest.finish(this.#hash.copy());
    if (this.sizeBytes !== sizeBytes || actual !== digest) {
      const isShort = this.sizeBytes !== sizeBytes;
      const reason = isShort
        ? `${this.sizeBytes} bytes instead of ${sizeBytes}`
        : `the bytes have the digest ${actual}`;
      throw new FreeholdError(isShort ? 'SIZE_MISMATCH' : 'DIGEST_MISMATCH', reason, {
        detail: { expected: digest, actual },
      });
    }
  }

  async commit(path: string, mode?: number): Promise<void> {
    this.verify();
    await guarded(this.#path, async () => {
      await this.#writes.drain();
      if (mode !== undefined) await this.#file.chmod(mode);
      await this.#file.sync();
      await rename(this.#path, path);
      await syncFolder(dirname(path));
      await syncNames(dirname(path), FOLDERS_OF_A_CACHE);
    });
    await rm(this.#sidecarPath, { force: true });
  }

  async close(): Promise<void> {
    // What arrived is kept for the next run; where the disk refuses it, there is less to keep.
    await (this.#isStale ? this.#writes.discard() : this.#writes.drain()).catch(() => {});
    const { size, nlink } = await this.#file.stat();
    await this.#file.close();
    if (size === 0 && nlink > 0) await removePartialFile(this.#path);
  }

  async wipe(): Promise<void> {
    const isOurs = !this.#isStale;
    this.restart();
    if (isOurs) await this.#emptyIfStale();
  }
}

/** The bytes and what is noted about them; nothing when there are none. The caller holds the lock. */
export async function removePartialFile(path: string): Promise<void> {
  await guarded(path, async () => {
    await rm(path, { force: true });
    await rm(`${path}.json`, { force: true });
  });
}

/**
 * Whether a file in the cache has the right bytes; one that has not is deleted.
 * @throws PERMISSION_DENIED, the signal's reason
 */
export async function isCached(path: string, expected: Expected, signal?: AbortSignal): Promise<boolean> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT') return false;
    // ELOOP: a link, which is not ours.
    if (code === 'ELOOP') {
      await rm(path, { force: true });
      return false;
    }
    throw translated(path, error);
  }
  try {
    const status = await file.stat();
    const hash = Digest.begin();
    const isRight =
      status.isFile() &&
      status.size === expected.sizeBytes &&
      (await hashInto(hash, file, () => signal?.throwIfAborted())) === expected.sizeBytes &&
      Digest.finish(hash) === expected.digest;
    if (!isRight) await guarded(path, () => rm(path, { force: true, recursive: true }));
    return isRight;
  } finally {
    await file.close();
  }
}

/** Undefined when it is absent or torn by a crash: then the file begins anew. */
async function readSidecar(path: string): Promise<Sidecar | undefined> {
  try {
    const text = await readFile(path, 'utf8');
    if (text.length > SIDECAR_BYTES_MAX) return undefined;
    return sidecarSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

async function guarded<Result>(path: string, operation: () => Promise<Result>): Promise<Result> {
  try {
    return await operation();
  } catch (error) {
    throw translated(path, error);
  }
}

/** A failure of our own disk: no other source can help. */
export function translated(path: string, error: unknown): unknown {
  const refusal = systemRefusal(error, 'write', path);
  if (refusal !== undefined) return refusal;
  // Something that is no folder, or no file, or a link stands where ours should be.
  if (isSystemError(error, 'ENOTDIR', 'EEXIST', 'ELOOP')) {
    return new FreeholdError('PERMISSION_DENIED', `cannot write ${path} (${systemErrorCode(error)})`, {
      cause: error,
    });
  }
  return error;
}

/** Where everything about one digest lies. Two entries with one digest share it. */
export function cachePaths(folder: string, digest: Digest) {
  const hex = Digest.hex(digest);
  return {
    file: join(folder, hex),
    partial: join(folder, `${hex}.partial`),
    lock: join(folder, `${hex}.lock`),
    wheels: join(folder, `${hex}.wheels`),
  } as const;
}
