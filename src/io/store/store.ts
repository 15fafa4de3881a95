import type { BlobInfo, BlobStore } from '../../core/base/blob-store.ts';
import type { Digest } from '../../core/base/digest.ts';
import type { VerifiedFile } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { BlobReference, PutBlobOptions, PutBlobOutcome } from '../../core/format/artifact-place.ts';
import type { OciDescriptor } from '../../core/format/oci.ts';
import { withFileLock } from '../files/file-lock.ts';
import { freeBytes, makeFolder, syncFolder, syncNames } from '../files/folder.ts';
import { downloadBlob, isSound, partialBytes } from './blob-download.ts';
import { type CheckOptions, type CheckReport, checkLayout } from './check.ts';
import { entryName, readClosure, referrersOf } from './closure.ts';
import { diskBlobStore } from './disk-blob-store.ts';
import { corrupt, onDisk } from './disk-error.ts';
import { type ImportOptions, importFile } from './file-import.ts';
import { collectGarbage, digestOfName, type GcReport, listFolder } from './gc.ts';
import { claimFolder, type Layout, layoutOf, verifyLayout, writeLayoutFile } from './layout.ts';
import { kindOf, readSmallFile } from './plain-file.ts';
import { acceptEntries, encodeStoreIndex, INDEX_BYTES_MAX, parseStoreIndex } from './store-index.ts';
import { replaceFile, withScratchFolder } from './temp-file.ts';
import { type OpenVerifiedOptions, openVerified } from './verified-file.ts';

/** A gc of thousands of packages takes seconds; nobody waits longer for an answer without a word. */
export const LOCK_TIMEOUT_MS = 30_000;

/** `sha256`, `blobs`, the store, and the home in which it lies. */
const FOLDERS_OF_A_BLOB = 4;

export interface StoreOptions {
  /** How long to wait for another process before BUSY; default `LOCK_TIMEOUT_MS`. */
  readonly lockTimeoutMs?: number;
}

/** A content-addressed OCI image layout in a folder. Several processes may use one at once. */
export interface Store {
  readonly folder: string;
  readonly blobs: BlobStore;
  /** @throws NOT_FOUND, DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL, PERMISSION_DENIED, BUSY, CANCELLED */
  importFile(file: string, options: ImportOptions): Promise<BlobInfo>;
  /**
   * Fills a blob from a stream that can begin anywhere; what arrived is kept over failures and kills, and continued.
   * @param open gives the bytes from an offset on
   * @throws DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL, PERMISSION_DENIED, the signal's reason, whatever the stream throws
   */
  download(
    blob: BlobReference,
    open: (startBytes: number) => AsyncIterable<Uint8Array>,
    options: PutBlobOptions,
  ): Promise<PutBlobOutcome>;
  /** How much of a blob an unfinished download left; 0 when there is none. */
  partialBytes(digest: Digest): Promise<number>;
  /** What the user may still write on the store's disk; undefined where the system does not say. */
  freeBytes(): Promise<number | undefined>;
  /** Whether a blob is there with the right bytes: reads all of them. */
  isSound(blob: BlobReference): Promise<boolean>;
  /** Manifests in the store whose `subject` is this document; looks at every small blob. @throws STORE_CORRUPT */
  referrers(subject: Digest): Promise<readonly OciDescriptor[]>;
  /** What is installed: the descriptors of `index.json`. @throws STORE_CORRUPT */
  entries(): Promise<readonly OciDescriptor[]>;
  /**
   * Replaces the entries by what `change` makes of them, as one step that no other process can come between. New
   * entries must have everything that they refer to in the store. `change` may run at any time and must be pure.
   * @returns the entries as written
   * @throws NOT_FOUND or SIZE_MISMATCH naming what a new entry lacks; MANIFEST_INVALID, STORE_CORRUPT, DISK_FULL, BUSY
   */
  updateEntries(
    change: (entries: readonly OciDescriptor[]) => readonly OciDescriptor[],
  ): Promise<readonly OciDescriptor[]>;
  /**
   * Keeps gc away, in every process, while `work` runs: wrap everything from the first blob to the entry that refers
   * to it. Leases may be nested. @throws BUSY when a gc runs longer than the timeout
   */
  withLease<T>(work: () => Promise<T>): Promise<T>;
  /**
   * Runs `work` under a lease with an empty folder of its own on the store's file system. The folder goes with
   * everything in it when `work` ends; if the process is killed meanwhile, at the next gc. @throws DISK_FULL, BUSY
   */
  withScratchFolder<T>(work: (folder: string) => Promise<T>): Promise<T>;
  /** Hashes everything; changes nothing. */
  check(options?: CheckOptions): Promise<CheckReport>;
  /** @throws BUSY while somebody holds a lease, STORE_CORRUPT when an entry cannot be followed */
  gc(options?: { readonly dryRun?: boolean }): Promise<GcReport>;
  /** @throws FILE_MISSING, SIZE_MISMATCH, DIGEST_MISMATCH, STORE_CORRUPT, CANCELLED */
  openVerified(digest: Digest, options: OpenVerifiedOptions): Promise<VerifiedFile>;
}

/**
 * Opens the store in `folder`, and creates it when the folder is absent or empty. Opening an existing one writes
 * nothing, so that a read-only disk will do.
 * @throws STORE_CORRUPT with path and reason, PERMISSION_DENIED, DISK_FULL, BUSY
 */
export async function openStore(folder: string, options: StoreOptions = {}): Promise<Store> {
  const layout = layoutOf(folder);
  const lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
  if ((await kindOf(layout.layoutFile)) === 'absent') await createStore(layout, lockTimeoutMs);
  await verifyLayout(layout);
  await readEntries(layout);
  return storeOver(layout, lockTimeoutMs);
}

/** The index lock keeps a second process from creating it at the same time, and from seeing half of it. */
async function createStore(layout: Layout, lockTimeoutMs: number): Promise<void> {
  await claimFolder(layout);
  await withFileLock(layout.indexLock, 'exclusive', lockTimeoutMs, async () => {
    if ((await kindOf(layout.layoutFile)) !== 'absent') return;
    await onDisk('create', layout.blobFolder, () => makeFolder(layout.blobFolder));
    await requireNoEntries(layout);
    await writeEntries(layout, []);
    await flushNames(layout);
    await writeLayoutFile(layout);
  });
}

/** An `oci-layout` that somebody removed must not cost the entries. */
async function requireNoEntries(layout: Layout): Promise<void> {
  if ((await kindOf(layout.indexFile)) === 'absent' || (await readEntries(layout)).length === 0) return;
  throw corrupt(layout.layoutFile, 'is missing, but index.json has entries');
}

function storeOver(layout: Layout, lockTimeoutMs: number): Store {
  const withLease = <T>(work: () => Promise<T>) =>
    withFileLock(layout.leaseLock, 'shared', lockTimeoutMs, work);
  const blobs = diskBlobStore(layout, withLease);
  const entries = () => readEntries(layout);
  return {
    folder: layout.folder,
    blobs,
    importFile: (file, options) => withLease(() => importFile(layout, file, options)),
    download: (blob, open, options) => withLease(() => downloadBlob(layout, blob, open, options)),
    partialBytes: (digest) => partialBytes(layout, digest),
    freeBytes: () => freeBytes(layout.folder),
    isSound: (blob) => isSound(layout, blob),
    async referrers(subject) {
      const present = (await listFolder(layout.blobFolder))
        .map(digestOfName)
        .filter((item) => item !== undefined);
      return referrersOf(blobs, present, subject);
    },
    entries,
    updateEntries: (change) =>
      // The lease keeps gc from taking a blob between the look at it and the entry that refers to it.
      withLease(() =>
        withFileLock(layout.indexLock, 'exclusive', lockTimeoutMs, () =>
          replaceEntries(layout, blobs, change),
        ),
      ),
    withLease,
    withScratchFolder: (work) => withLease(() => withScratchFolder(layout, work)),
    check: (options = {}) =>
      withLeaseIfWritable(withLease, () => checkLayout(layout, blobs, entries, options)),
    gc: ({ dryRun = false } = {}) =>
      withFileLock(layout.leaseLock, 'exclusive', lockTimeoutMs, async () =>
        collectGarbage(layout, blobs, await entries(), dryRun),
      ),
    openVerified: (digest, options) => openVerified(layout, digest, options),
  };
}

/** On a read-only disk there is no lock to take, and no gc that could disturb. */
async function withLeaseIfWritable<T>(withLease: Store['withLease'], work: () => Promise<T>): Promise<T> {
  try {
    await withLease(async () => {});
  } catch (thrown) {
    if (thrown instanceof FreeholdError && thrown.code === 'PERMISSION_DENIED') return work();
    throw thrown;
  }
  return withLease(work);
}

async function readEntries(layout: Layout): Promise<readonly OciDescriptor[]> {
  return parseStoreIndex(await readSmallFile(layout.indexFile, INDEX_BYTES_MAX), layout.indexFile);
}

async function replaceEntries(
  layout: Layout,
  blobs: BlobStore,
  change: (entries: readonly OciDescriptor[]) => readonly OciDescriptor[],
): Promise<readonly OciDescriptor[]> {
  const before = await readEntries(layout);
  const after = acceptEntries(change(before));
  const known = new Set(before.map(referenceOf));
  const added = after.filter((entry) => !known.has(referenceOf(entry)));
  for (const entry of added) await requireComplete(blobs, entry);
  if (added.length > 0) await flushNames(layout);
  await writeEntries(layout, after);
  return after;
}

/**
 * `oci-layout` says that all folders are there, and a new entry relies on it and on the names of blobs. Whoever made them
 * may have been killed before they were flushed.
 */
async function flushNames(layout: Layout): Promise<void> {
  const { blobFolder } = layout;
  await onDisk('write', blobFolder, async () => {
    await syncFolder(blobFolder);
    await syncNames(blobFolder, FOLDERS_OF_A_BLOB);
  });
}

/** What decides which blobs an entry needs; annotations do not. */
function referenceOf(entry: OciDescriptor): string {
  return `${entry.digest} ${entry.size} ${entry.mediaType}`;
}

/** An install is complete or absent: no entry whose closure is not in the store. */
async function requireComplete(blobs: BlobStore, entry: OciDescriptor): Promise<void> {
  const { members, problems } = await readClosure(blobs, [entry]);
  const [problem] = problems;
  if (problem !== undefined) throw problem.error;
  for (const { digest, sizeBytes, owners } of members.values()) {
    const file = owners[0]?.file ?? digest;
    if (!(await blobs.has(digest))) {
      throw new FreeholdError('NOT_FOUND', `${entryName(entry)}: ${file} is not in the store`, {
        detail: { file, digest },
      });
    }
    const found = await blobs.info(digest);
    if (found.sizeBytes === sizeBytes) continue;
    throw new FreeholdError(
      'SIZE_MISMATCH',
      `${entryName(entry)}: ${file} has ${found.sizeBytes} bytes instead of ${sizeBytes}`,
      { detail: { file, digest, expected: sizeBytes, actual: found.sizeBytes } },
    );
  }
}

async function writeEntries(layout: Layout, entries: readonly OciDescriptor[]): Promise<void> {
  await replaceFile(layout, layout.indexFile, encodeStoreIndex(entries), 0o644);
}
