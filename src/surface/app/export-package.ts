import { randomBytes } from 'node:crypto';
import { read } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import { layerPath } from '../../core/format/oci.ts';
import { syncFolder, syncNames } from '../../io/files/folder.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, installedPackages, resolveInstalled } from './installed-packages.ts';
import { fileError } from './local-file.ts';
import { verifyInstalled } from './verify-package.ts';

/** Large enough to copy as fast as the disk. */
const CHUNK_BYTES = 1 << 20;

export interface ExportResult {
  readonly reference: string;
  readonly folder: string;
  readonly files: readonly string[];
}

/**
 * Writes the files of a verified package, `freehold.json` and signatures included, to a plain folder that
 * `freehold install file:FOLDER` and OpenSSF's `model_signing verify` read. The folder appears when it is complete, and
 * survives a power cut once this has returned.
 * @throws ALREADY_EXISTS when the folder holds something, and whatever verification throws
 */
export async function exportPackage(
  freehold: Freehold,
  text: string,
  folder: string,
  signal: AbortSignal,
): Promise<ExportResult> {
  const target = path.resolve(folder);
  await requireEmpty(target, folder);
  const item = resolveInstalled(
    installedPackages(await freehold.store.entries()),
    text,
    Number.POSITIVE_INFINITY,
  );
  const { manifest } = await verifyInstalled(freehold, item);
  const failed = (error: unknown) => {
    throw fileError(error, folder);
  };
  const made = await mkdir(path.dirname(target), { recursive: true }).catch(failed);
  const partial = `${target}.partial-${randomBytes(6).toString('hex')}`;
  await mkdir(partial).catch(failed);
  const files: string[] = [];
  try {
    for (const layer of manifest.layers) {
      const name = layerPath(layer) ?? '';
      await exportFile(freehold, { ...layer, name }, path.join(partial, name), signal);
      files.push(name);
    }
    await flushFolders(partial).catch(failed);
    // Replaces an empty folder and nothing else: what came there meanwhile is not ours to remove.
    await rename(partial, target).catch(failed);
    // The target's name, and those of the folders that were made for it.
    const above = path.relative(path.dirname(made ?? target), target).split(path.sep);
    await syncNames(target, above.length).catch(failed);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return { reference: fullReference(item), folder: target, files };
}

/** The names of the files: their contents are flushed already. */
async function flushFolders(folder: string): Promise<void> {
  const items = await readdir(folder, { withFileTypes: true });
  for (const item of items) if (item.isDirectory()) await flushFolders(path.join(folder, item.name));
  await syncFolder(folder);
}

async function requireEmpty(target: string, shown: string): Promise<void> {
  const found = await readdir(target).catch((error: unknown) => {
    const reason = systemErrorCode(error);
    if (reason === 'ENOENT') return [];
    throw reason === 'ENOTDIR' ? taken(shown, 'is not a folder') : fileError(error, shown);
  });
  if (found.length > 0) throw taken(shown, 'is not empty');
}

const taken = (shown: string, how: string) =>
  new FreeholdError('ALREADY_EXISTS', `${shown} ${how}`, { hint: 'choose a folder that does not exist' });

/** Copies and hashes in one pass: what lies in the folder is what was signed. */
async function exportFile(
  freehold: Freehold,
  file: { digest: Digest; size: number; name: string },
  target: string,
  signal: AbortSignal,
): Promise<void> {
  // `warm` is enough for finding the file: the copy itself is hashed below.
  const source = await freehold.store.openVerified(file.digest, { mode: 'warm', name: file.name, signal });
  const hash = Digest.begin();
  try {
    await mkdir(path.dirname(target), { recursive: true });
    const handle = await open(target, 'wx');
    try {
      for await (const chunk of readChunks(source.fd)) {
        signal.throwIfAborted();
        hash.update(chunk);
        await handle.writeFile(chunk);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    signal.throwIfAborted();
    throw fileError(error, target);
  } finally {
    await source.close();
  }
  const actual = Digest.finish(hash);
  if (actual !== file.digest) {
    throw new FreeholdError('DIGEST_MISMATCH', `${file.name} changed while it was copied`, {
      detail: { file: file.name, expected: file.digest, actual },
    });
  }
}

/** Not a stream over the descriptor: when the writer fails, such a stream closes what belongs to somebody else. */
async function* readChunks(fd: number): AsyncGenerator<Buffer> {
  const readAt = promisify(read);
  for (let position = 0; ; ) {
    const { bytesRead, buffer } = await readAt(fd, Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, position);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    position += bytesRead;
  }
}
