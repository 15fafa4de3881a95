import type { Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type ArchivePart, SPLIT_HINT } from '../../core/format/archive-parts.ts';
import { syncFolder } from '../files/folder.ts';
import { isSystemError } from '../files/system-refusal.ts';
import { onDisk } from './disk-access.ts';

export type WrittenPart = ArchivePart;

interface PartFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** One stream of bytes into files of given sizes, which appear under their names all at the end. */
export class PartWriter {
  doneBytes = 0;
  readonly #files: readonly PartFile[];
  readonly #written: WrittenPart[] = [];
  readonly #renamed: string[] = [];
  #handle: FileHandle | undefined;
  #hash: Hash = Digest.begin();
  #inPartBytes = 0;
  /** Of the last step: nothing is left to remove. */
  #isPublished = false;

  constructor(files: readonly PartFile[]) {
    this.#files = files;
  }

  /** @throws DISK_FULL, PERMISSION_DENIED */
  async write(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength; ) {
      const file = this.#files[this.#written.length];
      if (file === undefined) throw new RangeError('more bytes than the parts hold');
      this.#handle ??= await onPart(file.path, () => openAnew(partialName(file.path)));
      const taken = bytes.subarray(offset, offset + file.sizeBytes - this.#inPartBytes);
      await onPart(file.path, () => writeAll(this.#handle, taken));
      this.#hash.update(taken);
      offset += taken.byteLength;
      this.#inPartBytes += taken.byteLength;
      this.doneBytes += taken.byteLength;
      if (this.#inPartBytes === file.sizeBytes) await this.#endPart(file);
    }
  }

  async #endPart(file: PartFile): Promise<void> {
    await onPart(file.path, async () => {
      await this.#handle?.sync();
      await this.#handle?.close();
    });
    this.#handle = undefined;
    this.#written.push({ size: file.sizeBytes, digest: Digest.finish(this.#hash) });
    this.#hash = Digest.begin();
    this.#inPartBytes = 0;
  }

  /** @returns the parts, all of them flushed under their partial names */
  finish(): readonly WrittenPart[] {
    if (this.#written.length !== this.#files.length) throw new RangeError('fewer bytes than the parts hold');
    return this.#written;
  }

  /** Gives the files their names, and then writes the list, each step flushed before the next. */
  async publish(list: { readonly path: string; readonly bytes: Buffer } | undefined): Promise<void> {
    const folder = path.dirname(path.resolve(this.#files[0]?.path ?? '.'));
    for (const file of this.#files) {
      await onPart(file.path, () => rename(partialName(file.path), file.path));
      if (list !== undefined) this.#renamed.push(file.path);
    }
    await onPart(folder, () => syncFolder(folder));
    if (list !== undefined) {
      await onPart(list.path, async () => {
        const handle = await openAnew(partialName(list.path));
        try {
          await writeAll(handle, list.bytes);
          await handle.sync();
        } finally {
          await handle.close();
        }
        await rename(partialName(list.path), list.path);
        await syncFolder(folder);
      });
    }
    this.#isPublished = true;
  }

  /** Removes what a killed run left; the caller has seen that no finished archive is there. */
  async removeLeftovers(): Promise<void> {
    for (const { path: file } of this.#files) {
      for (const name of [file, partialName(file)]) await onPart(name, () => rm(name, { force: true }));
    }
  }

  /** Removes what this run has not finished; never throws, since another error may be on its way. */
  async discard(): Promise<void> {
    await this.#handle?.close().catch(() => {});
    if (this.#isPublished) return;
    for (const { path: file } of this.#files) await rm(partialName(file), { force: true }).catch(() => {});
    // Parts that have their names already are no archive without the list.
    for (const file of this.#renamed) await rm(file, { force: true }).catch(() => {});
  }
}

const partialName = (file: string) => `${file}.partial`;

/** What a killed run left is overwritten; a link in its place is not followed. */
const openAnew = (file: string) =>
  open(file, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o644);

/** A write may take fewer bytes than offered (a nearly full disk): goes on until all are taken or the system refuses. */
async function writeAll(handle: FileHandle | undefined, bytes: Uint8Array): Promise<void> {
  for (let done = 0; handle !== undefined && done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done);
    done += bytesWritten;
  }
}

async function onPart<T>(file: string, work: () => Promise<T>): Promise<T> {
  return onDisk('write', file, () =>
    work().catch((error: unknown) => {
      if (!isSystemError(error, 'EFBIG')) throw error;
      throw new FreeholdError('DISK_FULL', `the file system holds no file as large as ${file}`, {
        cause: error,
        hint: SPLIT_HINT,
        detail: { path: file },
      });
    }),
  );
}
