import { randomBytes } from 'node:crypto';
import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { RepositoryName } from '../../core/base/registry-reference.ts';
import { withFileLock } from '../files/file-lock.ts';
import { makeFolder } from '../files/folder.ts';
import { systemRefusal } from '../files/system-refusal.ts';

/** Registries forget unfinished uploads after hours or days. */
const RECORD_AGE_MS_MAX = 14 * 24 * 3600_000;
/** A location may carry a signed state of a few kilobytes. */
const RECORD_BYTES_MAX = 64 << 10;

const recordSchema = z.strictObject({
  host: z.string(),
  repository: z.string(),
  digest: z.string(),
  location: z.string(),
});

/** The unfinished upload of one blob to one repository, as far as it is remembered. */
export interface UploadRecord {
  /** Where it goes on; undefined when there is nothing to go on with. */
  read(): Promise<string | undefined>;
  /** Remembers the location: survives the end of the process, however it ends. @throws DISK_FULL, PERMISSION_DENIED */
  write(location: string): Promise<void>;
  forget(): Promise<void>;
}

/** For an upload that nobody could continue: another process or call sends the same blob. */
const noRecord: UploadRecord = {
  read: async () => undefined,
  write: async () => {},
  forget: async () => {},
};

/**
 * Runs an upload with its record, which it has for itself alone: two that continued one upload would spoil it. Locations
 * may be as good as a password, so the files have mode 0600.
 * @param folder undefined: nothing is remembered
 */
export async function withUploadRecord<Result>(
  folder: string | undefined,
  name: RepositoryName,
  digest: Digest,
  work: (record: UploadRecord) => Promise<Result>,
): Promise<Result> {
  if (folder === undefined) return work(noRecord);
  const key = Digest.hex(Digest.of(`${name.host}\0${name.repository}\0${digest}`));
  const lock = path.join(folder, `${key}.lock`);
  let hasBegun = false;
  try {
    return await withFileLock(lock, 'exclusive', 0, async () => {
      hasBegun = true;
      try {
        return await work(fileRecord(path.join(folder, `${key}.json`), name, digest));
      } finally {
        // Held still, and nobody waits for it: a further upload makes another.
        await rm(lock, { force: true });
      }
    });
  } catch (error) {
    if (hasBegun || !(error instanceof FreeholdError) || error.code !== 'BUSY') throw error;
    return work(noRecord);
  }
}

function fileRecord(file: string, { host, repository }: RepositoryName, digest: Digest): UploadRecord {
  return {
    async read() {
      try {
        const { size, mtimeMs } = await stat(file);
        if (size > RECORD_BYTES_MAX || Date.now() - mtimeMs > RECORD_AGE_MS_MAX) return undefined;
        const record = recordSchema.parse(JSON.parse(await readFile(file, 'utf8')));
        const isOurs = record.host === host && record.repository === repository && record.digest === digest;
        return isOurs ? record.location : undefined;
      } catch {
        // Absent, torn, or of another version: the upload begins anew.
        return undefined;
      }
    },
    async write(location) {
      const temporary = `${file}.${randomBytes(8).toString('hex')}.tmp`;
      try {
        await makeFolder(path.dirname(file));
        await writeFile(temporary, JSON.stringify({ host, repository, digest, location }), { mode: 0o600 });
        await rename(temporary, file);
      } catch (error) {
        await rm(temporary, { force: true }).catch(() => {});
        throw systemRefusal(error, 'write', file) ?? error;
      }
    },
    async forget() {
      await rm(file, { force: true });
    },
  };
}

/** Removes records that no registry can know any more, and what killed writers left. */
export async function removeOldRecords(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((entry) =>
    /^[0-9a-f]{64}\.(json|lock)(\.[0-9a-f]{16}\.tmp)?$/.test(entry),
  )) {
    const file = path.join(folder, name);
    const status = await stat(file).catch(() => undefined);
    if (status !== undefined && Date.now() - status.mtimeMs > RECORD_AGE_MS_MAX)
      await rm(file, { force: true });
  }
}
