import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { makeFolder, syncFolder } from '../files/folder.ts';
import { onDisk } from './disk-error.ts';
import type { Layout } from './layout.ts';

/**
 * A file under `tmp/`, on the file system of the store, that becomes visible by one rename or not at all.
 * The process number in its name is for people; whether the writer still lives, gc knows from the lease.
 */
export interface TempFile {
  readonly path: string;
  readonly handle: FileHandle;
  /** Writes all bytes at the end. @throws DISK_FULL, PERMISSION_DENIED */
  fill(bytes: Uint8Array): Promise<void>;
  /** Flushes the file, sets its mode, renames it to `target` and flushes the folder. */
  publish(target: string, mode: number): Promise<void>;
  /** Closes and removes it; never throws, since it runs where another error is on its way. Idempotent. */
  discard(): Promise<void>;
}

/** @throws DISK_FULL, PERMISSION_DENIED */
export async function createTempFile(layout: Layout): Promise<TempFile> {
  const file = await newTempPath(layout);
  return openedTempFile(file, await onDisk('create', file, () => open(file, 'wx', 0o600)));
}

/** A fresh name for calls that create the file themselves (`link`, `copyFile`). */
export async function newTempPath(layout: Layout): Promise<string> {
  await onDisk('create', layout.tempFolder, () => makeFolder(layout.tempFolder));
  return path.join(layout.tempFolder, `${process.pid}-${randomBytes(8).toString('hex')}`);
}

/** @param handle open on `file`, which `newTempPath` named; closed by `publish` and `discard` */
export function openedTempFile(file: string, handle: FileHandle): TempFile {
  return {
    path: file,
    handle,
    fill: (bytes) => onDisk('write', file, () => writeAll(handle, bytes)),
    async publish(target, mode) {
      await onDisk('write', target, async () => {
        await handle.chmod(mode);
        await handle.sync();
        await rename(file, target);
        await syncFolder(path.dirname(target));
      });
      await handle.close();
    },
    async discard() {
      await handle.close().catch(() => {});
      await rm(file, { force: true }).catch(() => {});
    },
  };
}

/** Runs work with an empty folder under `tmp/`. The caller holds the lease. @throws DISK_FULL, PERMISSION_DENIED */
export async function withScratchFolder<T>(layout: Layout, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await newTempPath(layout);
  await onDisk('create', folder, () => mkdir(folder, { mode: 0o700 }));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Replaces a small file of the store as one step: readers see the old one or the new one. @throws DISK_FULL, PERMISSION_DENIED */
export async function replaceFile(
  layout: Layout,
  target: string,
  bytes: Uint8Array,
  mode: number,
): Promise<void> {
  const temp = await createTempFile(layout);
  try {
    await temp.fill(bytes);
    await temp.publish(target, mode);
  } finally {
    await temp.discard();
  }
}

/** A write may take fewer bytes than offered (a nearly full disk): goes on until all are taken or the system refuses. */
async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done);
    done += bytesWritten;
  }
}
