import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';
import type { SourceRun } from './source-run.ts';

const READ_BYTES = 1 << 20;

/**
 * Fills the partial file from a local file, or from a folder that holds it under the hex of its digest or its name.
 * @throws NOT_FOUND, SIZE_MISMATCH, DISK_FULL, the signal's reason
 */
export async function fetchFromFile(path: string, fileName: string, run: SourceRun): Promise<void> {
  const { partial, signal, meter } = run;
  const file = await openSource(path, fileName, partial.expected.digest);
  try {
    const status = await file.stat();
    if (!status.isFile()) throw new FreeholdError('NOT_FOUND', 'not a file');
    if (status.size !== partial.expected.sizeBytes) {
      throw new FreeholdError(
        'SIZE_MISMATCH',
        `${status.size} bytes instead of ${partial.expected.sizeBytes}`,
      );
    }
    partial.restart();
    meter.begin(0);
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, partial.sizeBytes);
      if (bytesRead === 0) return;
      await partial.append(buffer.subarray(0, bytesRead));
      meter.report(partial.sizeBytes);
    }
  } finally {
    await file.close();
  }
}

async function openSource(path: string, fileName: string, digest: Digest): Promise<FileHandle> {
  // O_NONBLOCK: a named pipe would otherwise wait for a writer for ever.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK;
  try {
    if (!(await stat(path)).isDirectory()) return await open(path, flags);
    const byDigest = join(path, Digest.hex(digest));
    const exists = await stat(byDigest).then(
      () => true,
      () => false,
    );
    return await open(exists ? byDigest : join(path, fileName), flags);
  } catch (error) {
    const code = systemErrorCode(error);
    // Also for what may not be read: to this fetch it is a source without the file, not a fault of the cache.
    throw new FreeholdError('NOT_FOUND', code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`, {
      cause: error,
    });
  }
}
