import type { BigIntStats } from 'node:fs';
import { rename } from 'node:fs/promises';
import { z } from 'zod';
import type { Digest } from '../../core/base/digest.ts';
import { makeFolder } from '../files/folder.ts';
import type { Layout } from './layout.ts';
import { readSmallFile } from './plain-file.ts';
import { createTempFile, type TempFile } from './temp-file.ts';

/** Ours have about 250 bytes. */
const RECORD_BYTES_MAX = 4096;
/**
 * The coarsest clock of a file system that people use: FAT counts in two seconds, the kernel's own clock ticks every
 * 1 to 10 ms.
 */
const TIMESTAMP_TICK_NS = 2_000_000_000n;

/** What a file looked like when it was hashed. Any write, `chmod`, rename or new link gives it another change time. */
export interface FileIdentity {
  readonly device: string;
  readonly inode: string;
  readonly sizeBytes: string;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
}

const decimal = z.string().regex(/^\d{1,20}$/);
const recordSchema = z.strictObject({
  digest: z.string(),
  device: decimal,
  inode: decimal,
  sizeBytes: decimal,
  mtimeNs: decimal,
  ctimeNs: decimal,
});

export function identityOf(stats: BigIntStats): FileIdentity {
  return {
    device: stats.dev.toString(),
    inode: stats.ino.toString(),
    sizeBytes: stats.size.toString(),
    mtimeNs: stats.mtimeNs.toString(),
    ctimeNs: stats.ctimeNs.toString(),
  };
}

export function isSameIdentity(left: FileIdentity, right: FileIdentity): boolean {
  return (
    left.device === right.device &&
    left.inode === right.inode &&
    left.sizeBytes === right.sizeBytes &&
    left.mtimeNs === right.mtimeNs &&
    left.ctimeNs === right.ctimeNs
  );
}

/** @returns whether this very file was hashed before and found to have this digest; false on any doubt */
export async function isRecordedAs(layout: Layout, digest: Digest, identity: FileIdentity): Promise<boolean> {
  try {
    const bytes = await readSmallFile(layout.verifiedPath(digest), RECORD_BYTES_MAX);
    const record = recordSchema.parse(JSON.parse(bytes.toString('utf8')));
    return record.digest === digest && isSameIdentity(record, identity);
  } catch {
    // None, unreadable or malformed: the caller hashes, which is never wrong.
    return false;
  }
}

/**
 * A record in the making. It must be begun before the last look at the file: the creation time of its temporary file
 * is then the file system's own clock, read before that look.
 */
export interface RecordDraft {
  /**
   * Keeps the record, but only when the file's change time lies more than a clock tick before the draft was begun.
   * Otherwise a write after our last look could fall into the same tick and leave the same times behind ("racily
   * clean" in the words of git's index): the next load simply hashes again.
   */
  commit(identity: FileIdentity): Promise<void>;
  discard(): Promise<void>;
}

/** @returns undefined where none can be written (a read-only disk): warm starts are then full ones */
export async function beginRecord(layout: Layout, digest: Digest): Promise<RecordDraft | undefined> {
  try {
    const temp = await createTempFile(layout);
    const { mtimeNs } = await temp.handle.stat({ bigint: true });
    return {
      async commit(identity) {
        if (BigInt(identity.ctimeNs) + TIMESTAMP_TICK_NS > mtimeNs) return temp.discard();
        await writeRecord(layout, digest, temp, identity);
      },
      discard: () => temp.discard(),
    };
  } catch {
    return undefined;
  }
}

/** A lost record costs one hash, so it is not flushed; a half-written one does not parse. */
async function writeRecord(
  layout: Layout,
  digest: Digest,
  temp: TempFile,
  identity: FileIdentity,
): Promise<void> {
  try {
    await makeFolder(layout.verifiedFolder);
    await temp.fill(Buffer.from(JSON.stringify({ digest, ...identity })));
    await rename(temp.path, layout.verifiedPath(digest));
  } catch {
    // A full disk must not keep a verified model from being used.
  } finally {
    await temp.discard();
  }
}
