import type { FileHandle } from 'node:fs/promises';
import type { Digest } from '../../core/base/digest.ts';
import type { VerifiedFile } from '../../core/base/engine-port.ts';
import { FreeholdError, namingFile } from '../../core/base/errors.ts';
import { hashOpenFile } from '../files/file-hash.ts';
import { openBlob } from './disk-blob-store.ts';
import { onDisk } from './disk-error.ts';
import type { Layout } from './layout.ts';
import {
  beginRecord,
  type FileIdentity,
  identityOf,
  isRecordedAs,
  isSameIdentity,
} from './verification-record.ts';

export interface OpenVerifiedOptions {
  /** `warm` trusts the record of an earlier full hash of the very same, unchanged file; see `docs/store.md`. */
  readonly mode: 'full' | 'warm';
  /** Path of the file inside its package, for messages. */
  readonly name: string;
  /** As declared by the manifest; compared before anything is hashed. */
  readonly sizeBytes?: number;
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (doneBytes: number) => void;
}

/**
 * Opens a blob once and verifies it through that descriptor, which is then the only way to its bytes: who exchanges
 * the file afterwards exchanges another one.
 * @throws FILE_MISSING, SIZE_MISMATCH, DIGEST_MISMATCH, STORE_CORRUPT (each names the file of the package), CANCELLED
 */
export async function openVerified(
  layout: Layout,
  digest: Digest,
  options: OpenVerifiedOptions,
): Promise<VerifiedFile> {
  const handle = await openNamed(layout, digest, options.name);
  try {
    const path = layout.blobPath(digest);
    const before = await identify(handle);
    requireDeclaredSize(before, path, options);
    const isWarm = options.mode === 'warm' && (await isRecordedAs(layout, digest, before));
    if (!isWarm) await onDisk('read', path, () => verifyContent(layout, handle, digest, before, options));
    return {
      fd: handle.fd,
      digest,
      sizeBytes: Number(before.sizeBytes),
      requireUnchanged: async () => requireSame(before, await identify(handle), digest, options.name),
      // The handle lives in this closure: were it collected, Node would close the descriptor under the engine.
      close: () => handle.close(),
    };
  } catch (thrown) {
    await handle.close();
    throw thrown;
  }
}

async function openNamed(layout: Layout, digest: Digest, name: string): Promise<FileHandle> {
  try {
    return await openBlob(layout, digest);
  } catch (thrown) {
    throw namingFile(thrown, name, 'freehold check lists what is missing; install the package again');
  }
}

async function verifyContent(
  layout: Layout,
  handle: FileHandle,
  digest: Digest,
  before: FileIdentity,
  options: OpenVerifiedOptions,
): Promise<void> {
  const hashed = await hashOpenFile(handle, options);
  if (hashed.digest !== digest) {
    throw new FreeholdError(
      'DIGEST_MISMATCH',
      `${options.name}: its bytes have ${hashed.digest} instead of ${digest}`,
      { detail: mismatchDetail(options.name, layout.blobPath(digest), digest, hashed.digest) },
    );
  }
  const draft = await beginRecord(layout, digest);
  const after = await identify(handle);
  if (!isSameIdentity(before, after)) await draft?.discard();
  requireSame(before, after, digest, options.name);
  await draft?.commit(after);
}

async function identify(handle: FileHandle): Promise<FileIdentity> {
  return identityOf(await handle.stat({ bigint: true }));
}

function requireDeclaredSize(found: FileIdentity, path: string, options: OpenVerifiedOptions): void {
  if (options.sizeBytes === undefined || found.sizeBytes === String(options.sizeBytes)) return;
  throw new FreeholdError(
    'SIZE_MISMATCH',
    `${options.name}: has ${found.sizeBytes} bytes instead of ${options.sizeBytes}`,
    { detail: mismatchDetail(options.name, path, options.sizeBytes, Number(found.sizeBytes)) },
  );
}

function requireSame(before: FileIdentity, now: FileIdentity, digest: Digest, name: string): void {
  if (isSameIdentity(before, now)) return;
  throw new FreeholdError('DIGEST_MISMATCH', `${name}: was changed or removed while it was being loaded`, {
    hint: 'try again; if it stays, freehold check names the damage',
    detail: { file: name, expected: digest, actual: null },
  });
}

function mismatchDetail(file: string, path: string, expected: string | number, actual: string | number) {
  return { file, path, expected, actual };
}
