import { lstat, readdir, rmdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import type { BlobStore } from '../../core/base/blob-store.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { OciDescriptor } from '../../core/format/oci.ts';
import { syncFolder } from '../files/folder.ts';
import { isSystemError } from '../files/system-refusal.ts';
import { findReferrers, readClosure } from './closure.ts';
import { onDisk } from './disk-error.ts';
import type { Layout } from './layout.ts';

export interface GcReport {
  /** Blobs that nothing refers to, in the order of their removal. */
  readonly removed: readonly Digest[];
  /** What writers that died left in `tmp/`, and downloads that were not finished. */
  readonly removedTempFiles: number;
  /** Bytes of both; room that a reflink or an open descriptor still holds comes back later. */
  readonly freedBytes: number;
}

/**
 * Removes what no entry needs. The caller holds the lease exclusively: no writer is alive, so every temporary file is
 * a dead writer's. Cut off at any moment it leaves a store in which every entry is whole, only with garbage in it.
 * @throws STORE_CORRUPT when a document cannot be followed: what it refers to would be lost
 */
export async function collectGarbage(
  layout: Layout,
  blobs: BlobStore,
  entries: readonly OciDescriptor[],
  dryRun: boolean,
): Promise<GcReport> {
  const present = (await listFolder(layout.blobFolder))
    .map(digestOfName)
    .filter((digest) => digest !== undefined);
  const garbage = await findGarbage(blobs, entries, present);
  // Whoever removed an entry may have been killed before the new index was flushed: were the old one to come back after a
  // power cut, it would miss what is removed here.
  if (!dryRun) await onDisk('write', layout.folder, () => syncFolder(layout.folder));
  // Documents first: who is cut off here leaves few that lack something. None is harmful; whoever lists one looks first.
  const removed = [...garbage.documents, ...garbage.others];
  let freedBytes = 0;
  for (const digest of removed) freedBytes += await removeFile(layout.blobPath(digest), dryRun);
  if (!dryRun && removed.length > 0) {
    await onDisk('write', layout.blobFolder, () => syncFolder(layout.blobFolder));
  }
  const tempFiles: string[] = [];
  for (const folder of [layout.tempFolder, layout.partialFolder]) {
    for (const name of await listFolder(folder)) tempFiles.push(path.join(folder, name));
  }
  for (const file of tempFiles) freedBytes += await removeTemporary(file, dryRun);
  if (!dryRun) await removeStaleRecords(layout, present, removed);
  return { removed, removedTempFiles: tempFiles.length, freedBytes };
}

async function findGarbage(
  blobs: BlobStore,
  entries: readonly OciDescriptor[],
  present: readonly Digest[],
): Promise<{ documents: Digest[]; others: Digest[] }> {
  const closure = await readClosure(blobs, entries);
  const [problem] = closure.problems;
  if (problem !== undefined) {
    throw new FreeholdError(
      'STORE_CORRUPT',
      `nothing was removed: ${problem.owner.entry} cannot be followed (${problem.error.message})`,
      {
        cause: problem.error,
        hint: 'install that package again, or remove it',
        detail: { entry: problem.owner.entry, digest: problem.digest },
      },
    );
  }
  const kept = new Set(closure.members.keys());
  const unreferenced = present.filter((digest) => !kept.has(digest));
  const { referrers, documents } = await findReferrers(blobs, unreferenced, kept);
  const garbage = unreferenced.filter((digest) => !referrers.has(digest)).sort();
  return {
    documents: garbage.filter((digest) => documents.has(digest)),
    others: garbage.filter((digest) => !documents.has(digest)),
  };
}

/** Names in a folder of the store, none if it is not there yet. */
export async function listFolder(folder: string): Promise<string[]> {
  return onDisk('list', folder, async () => {
    try {
      return (await readdir(folder)).sort();
    } catch (thrown) {
      if (isSystemError(thrown, 'ENOENT')) return [];
      throw thrown;
    }
  });
}

/** @returns undefined for a name that is none of ours: gc leaves it alone, check reports it */
export function digestOfName(name: string): Digest | undefined {
  const text = `sha256:${name}`;
  return Digest.is(text) ? text : undefined;
}

/** @returns the size of the file */
async function removeFile(file: string, dryRun: boolean): Promise<number> {
  return onDisk('remove', file, async () => {
    const { size } = await lstat(file);
    if (!dryRun) await unlink(file);
    return size;
  });
}

/** A temporary file, or a scratch folder with what is in it. @returns the bytes of its files */
async function removeTemporary(file: string, dryRun: boolean): Promise<number> {
  const found = await onDisk('remove', file, () => lstat(file));
  if (!found.isDirectory()) return removeFile(file, dryRun);
  let freedBytes = 0;
  for (const name of await listFolder(file))
    freedBytes += await removeTemporary(path.join(file, name), dryRun);
  if (!dryRun) await onDisk('remove', file, () => rmdir(file));
  return freedBytes;
}

/** Records of blobs that are gone or never were; the sweep of blobs does not depend on it. */
async function removeStaleRecords(
  layout: Layout,
  present: readonly Digest[],
  removed: readonly Digest[],
): Promise<void> {
  const gone = new Set(removed);
  const kept = new Set(present.filter((digest) => !gone.has(digest)).map(layout.verifiedPath));
  for (const name of await listFolder(layout.verifiedFolder)) {
    const file = path.join(layout.verifiedFolder, name);
    if (!kept.has(file)) await removeFile(file, false);
  }
}
