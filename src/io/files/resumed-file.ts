import { FreeholdError } from '../../core/base/errors.ts';
import { withFileLock } from './file-lock.ts';
import { type Expected, openPartialFile, type PartialFile } from './partial-file.ts';

/** The bytes are the same from wherever they come: what one source began, any other continues. */
const ANY_SOURCE = 'blob';

export interface ResumedFile {
  readonly expected: Expected;
  /** Where it grows; a lock of this name with `.lock` lies beside it. Its folder is there. */
  readonly partialPath: string;
  /** Where it lies when it is whole. Its folder is there. */
  readonly path: string;
  readonly mode: number;
  /** Whether it lies there already. */
  isThere(): Promise<boolean>;
  /** The bytes from an offset on; may be called again with another one. */
  open(startBytes: number): AsyncIterable<Uint8Array>;
  readonly signal: AbortSignal;
  readonly onBytes?: ((doneBytes: number, resumedBytes: number) => void) | undefined;
  /** Runs under the lock when the file is in its place. */
  readonly onWritten?: () => Promise<void>;
}

/** The stream ended too early; nothing says that what came is wrong. */
class ShortStreamError extends FreeholdError {}

/**
 * Fills a file whose digest is known from a stream that can begin anywhere. What arrived stays when the stream breaks or
 * the process dies, and is hashed and continued by the next call; the file gets its name last, with the right digest only.
 * Two processes that want the same file take turns, and the second finds it there.
 * @throws DIGEST_MISMATCH, SIZE_MISMATCH (what is wrong is thrown away), DISK_FULL, PERMISSION_DENIED, the signal's reason,
 *   whatever the stream throws
 */
export async function fillResumedFile(file: ResumedFile): Promise<'present' | 'written'> {
  const { signal } = file;
  const work = async () => {
    if (await file.isThere()) return 'present';
    const partial = await openPartialFile(file.partialPath, file.expected);
    try {
      await fillTwice(partial, file);
      await partial.commit(file.path, file.mode);
      await file.onWritten?.();
      return 'written';
    } catch (error) {
      if (isWrongContent(error)) await partial.wipe();
      throw error;
    } finally {
      await partial.close();
    }
  };
  return withFileLock(`${file.partialPath}.lock`, 'exclusive', Number.POSITIVE_INFINITY, work, { signal });
}

/** Pieces of several runs may not belong together (a power cut, a lying source): then once more from the beginning. */
async function fillTwice(partial: PartialFile, file: ResumedFile): Promise<void> {
  await partial.resume(ANY_SOURCE, undefined, file.signal);
  try {
    await fill(partial, file);
  } catch (error) {
    if (!partial.isPieced || !isWrongContent(error)) throw error;
    await partial.wipe();
    await fill(partial, file);
  }
}

async function fill(partial: PartialFile, { open, signal, onBytes }: ResumedFile): Promise<void> {
  const resumedBytes = partial.sizeBytes;
  onBytes?.(resumedBytes, resumedBytes);
  await partial.describe({ source: ANY_SOURCE }, resumedBytes > 0);
  // A file said to be empty is asked for as well: its source may have bytes.
  if (resumedBytes === 0 || resumedBytes < partial.expected.sizeBytes) {
    for await (const bytes of open(resumedBytes)) {
      signal.throwIfAborted();
      await partial.append(bytes);
      onBytes?.(partial.sizeBytes, resumedBytes);
    }
  }
  const { sizeBytes, expected } = partial;
  // What arrived may be right: it is kept, and the next source continues.
  if (sizeBytes < expected.sizeBytes) {
    throw new ShortStreamError(
      'SIZE_MISMATCH',
      `the bytes ended after ${sizeBytes} of ${expected.sizeBytes}`,
    );
  }
  partial.verify();
}

function isWrongContent(error: unknown): boolean {
  if (!(error instanceof FreeholdError) || error instanceof ShortStreamError) return false;
  return error.code === 'DIGEST_MISMATCH' || error.code === 'SIZE_MISMATCH';
}
