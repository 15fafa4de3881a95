import { constants } from 'node:fs';
import { copyFile, link, lstat, open, realpath, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { BlobExpectation, BlobInfo } from '../../core/base/blob-store.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { hashOpenFile, requireNotCancelled } from '../files/file-hash.ts';
import { isSystemError } from '../files/system-refusal.ts';
import { requireExpected, sizeMismatch } from './blob-expectation.ts';
import { placeBlob, soundBlob, writeBlob } from './blob-writing.ts';
import { onDisk } from './disk-error.ts';
import type { Layout } from './layout.ts';
import { openPlainFile } from './plain-file.ts';
import { newTempPath, openedTempFile, type TempFile } from './temp-file.ts';

/** Large enough that system calls cost nothing beside hashing. */
const COPY_CHUNK_BYTES = 1 << 20;
/** A third name would be one through which somebody could write into the blob. */
const CACHE_AND_TEMP_NAMES = 2;

export type ImportMethod =
  /** A user's file: shares its blocks where the file system can (Btrfs, XFS, APFS), else copies them. */
  | { readonly kind: 'reflink-or-copy' }
  /**
   * A finished file in Freehold's own cache: becomes the blob without a second copy and leaves the cache, so that gc
   * frees its room. Never for a user's file: through its other name the user could write into the blob later.
   */
  | { readonly kind: 'move-from-cache'; readonly ownCacheFolder: string };

export interface ImportOptions {
  readonly how: ImportMethod;
  readonly expect?: BlobExpectation;
  readonly signal?: AbortSignal;
  /** Bytes imported so far. */
  readonly onBytes?: (doneBytes: number) => void;
}

/**
 * Takes a file into the store; it is hashed, whatever the way, before it becomes visible. The caller holds the lease.
 * @throws NOT_FOUND, DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL, PERMISSION_DENIED, CANCELLED
 */
export async function importFile(layout: Layout, file: string, options: ImportOptions): Promise<BlobInfo> {
  try {
    return await importPresent(layout, file, options);
  } catch (thrown) {
    const digest = options.expect?.digest;
    const isGone = thrown instanceof FreeholdError && thrown.code === 'NOT_FOUND';
    if (options.how.kind !== 'move-from-cache' || digest === undefined || !isGone) throw thrown;
    // Two installs move the same file: whoever comes second finds the cache empty and the blob in its place.
    const moved = await soundBlob(layout, digest);
    if (moved === undefined) throw thrown;
    return moved;
  }
}

async function importPresent(layout: Layout, file: string, options: ImportOptions): Promise<BlobInfo> {
  await requirePlainSource(file, options.expect);
  const temp =
    options.how.kind === 'move-from-cache'
      ? await linkFromCache(layout, file, options.how.ownCacheFolder)
      : await reflink(layout, file);
  if (temp === undefined) return copyIn(layout, file, options);
  try {
    const info = await hashOpenFile(temp.handle, options);
    requireExpected(info, options.expect ?? {}, file);
    await placeBlob(layout, temp, info);
    if (options.how.kind === 'move-from-cache') await rm(file, { force: true });
    return info;
  } finally {
    await temp.discard();
  }
}

/** @throws NOT_FOUND, SIZE_MISMATCH before a byte is copied */
async function requirePlainSource(file: string, expect: BlobExpectation = {}): Promise<void> {
  const found = await onSource(file, () => stat(file));
  // A pipe or device has no end that we could trust.
  if (!found.isFile()) throw new FreeholdError('NOT_FOUND', `${file} is not a plain file`);
  if (expect.sizeBytes !== undefined && found.size !== expect.sizeBytes) {
    throw sizeMismatch(file, expect.sizeBytes, found.size);
  }
}

/** Like `onDisk`, for the file to import: that it is absent is the caller's mistake, not damage. @throws NOT_FOUND */
async function onSource<T>(file: string, work: () => Promise<T>): Promise<T> {
  return onDisk('read', file, () =>
    work().catch((thrown: unknown) => {
      if (!isSystemError(thrown, 'ENOENT', 'ENOTDIR')) throw thrown;
      throw new FreeholdError('NOT_FOUND', `no file ${file}`, { cause: thrown, detail: { path: file } });
    }),
  );
}

/** @returns undefined where the file system cannot share blocks between these two files */
async function reflink(layout: Layout, file: string): Promise<TempFile | undefined> {
  const target = await newTempPath(layout);
  try {
    await copyFile(file, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return openedTempFile(target, await openPlainFile(target));
  } catch {
    // Each system has its own code for "cannot"; whatever the reason was, copying works or names it.
    await rm(target, { force: true });
    return undefined;
  }
}

/**
 * @returns undefined when the file lies on another file system, or when somebody else has a name for it already
 * @throws PERMISSION_DENIED when it is not in the cache folder
 */
async function linkFromCache(
  layout: Layout,
  file: string,
  ownCacheFolder: string,
): Promise<TempFile | undefined> {
  await requireInside(file, ownCacheFolder);
  const target = await newTempPath(layout);
  try {
    await onSource(file, () => link(file, target));
  } catch (thrown) {
    // Another file system, or one without hard links: copying works, or names the reason.
    if (thrown instanceof FreeholdError && thrown.code === 'NOT_FOUND') throw thrown;
    return undefined;
  }
  const temp = openedTempFile(target, await onDisk('read', target, () => openPlainFile(target)));
  const { nlink } = await temp.handle.stat();
  if (nlink === CACHE_AND_TEMP_NAMES) return temp;
  await temp.discard();
  return undefined;
}

/** Compares real paths: neither `..` nor a symbolic link in the cache may bring in a user's file. */
async function requireInside(file: string, ownCacheFolder: string): Promise<void> {
  const [real, folder, found] = await onSource(file, () =>
    Promise.all([realpath(file), realpath(ownCacheFolder), lstat(file)]),
  );
  if (real.startsWith(folder + path.sep) && found.isFile()) return;
  throw new FreeholdError('PERMISSION_DENIED', `${file} is not in Freehold's own cache; it is not moved`, {
    detail: { path: file, cache: folder },
  });
}

async function copyIn(layout: Layout, file: string, options: ImportOptions): Promise<BlobInfo> {
  const source = await onSource(file, () => open(file));
  try {
    const info = await writeBlob(layout, chunksOf(source, file, options), options.expect ?? {}, file);
    if (options.how.kind === 'move-from-cache') await rm(file, { force: true });
    return info;
  } finally {
    await source.close();
  }
}

async function* chunksOf(source: Awaited<ReturnType<typeof open>>, file: string, options: ImportOptions) {
  const buffer = Buffer.allocUnsafeSlow(COPY_CHUNK_BYTES);
  for (let doneBytes = 0; ; ) {
    requireNotCancelled(options.signal);
    const { bytesRead } = await onDisk('read', file, () => source.read(buffer, 0, COPY_CHUNK_BYTES, null));
    if (bytesRead === 0) return;
    doneBytes += bytesRead;
    // The consumer hashes and writes it before it asks for more, so one buffer is enough.
    yield buffer.subarray(0, bytesRead);
    options.onBytes?.(doneBytes);
  }
}
