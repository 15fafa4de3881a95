import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { CONFIG_CHARACTERS_MAX } from '../../core/base/config-file.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { APP_FILE_NAME, type AppPlan, parseAppYaml } from '../../core/format/app-yaml.ts';
import { encodeLockFile, LOCK_FILE_NAME, type LockFile, parseLockFile } from '../../core/format/lock-file.ts';
import { withFileLock } from '../../io/files/file-lock.ts';
import { writeFileDurably } from '../../io/home/durable-file.ts';
import type { Freehold } from './freehold.ts';
import { readTextFile } from './local-file.ts';

/** Both files are read by everybody who works on the application. */
const FILE_MODE = 0o644;
/** Whoever holds the lock reads and writes two small files. */
const LOCK_TIMEOUT_MS = 15_000;

/** The folder of an application: `freehold.yaml`, and `freehold.lock` beside it. */
export interface AppFiles {
  readonly yamlText: string;
  readonly plan: AppPlan;
  /** Absent where there is no lock yet. */
  readonly lock: LockFile | undefined;
}

/**
 * @returns undefined in a folder without a `freehold.yaml`
 * @throws CONFIG_INVALID, NOT_SUPPORTED, PERMISSION_DENIED
 */
export async function readAppFiles(folder: string): Promise<AppFiles | undefined> {
  const yamlText = await readIfThere(path.join(folder, APP_FILE_NAME));
  if (yamlText === undefined) return undefined;
  const lockText = await readIfThere(path.join(folder, LOCK_FILE_NAME));
  return {
    yamlText,
    plan: parseAppYaml(yamlText),
    lock: lockText === undefined ? undefined : parseLockFile(lockText),
  };
}

/** @throws NOT_FOUND, and what `readAppFiles` throws */
export async function requireAppFiles(folder: string): Promise<AppFiles> {
  const files = await readAppFiles(folder);
  if (files !== undefined) return files;
  throw new FreeholdError('NOT_FOUND', `there is no ${APP_FILE_NAME} in ${folder}`, {
    hint: 'freehold add oci://HOST/NAME (or catalog:NAME) makes one',
  });
}

/**
 * Changes the lock as it is at this moment, so that what another process has written since stays.
 * @returns whether it had to be written
 */
export async function updateLockFile(
  freehold: Freehold,
  folder: string,
  change: (lock: LockFile) => LockFile,
): Promise<boolean> {
  return underAppLock(freehold, folder, async () => {
    const file = path.join(folder, LOCK_FILE_NAME);
    const text = await readIfThere(file);
    const wanted = encodeLockFile(change(text === undefined ? new Map() : parseLockFile(text)));
    if (wanted === text) return false;
    await writeAppFile(file, wanted);
    return true;
  });
}

/** Changes the text of `freehold.yaml` (empty where there is none); written only if it differs. */
export async function updateAppYaml(
  freehold: Freehold,
  folder: string,
  change: (text: string) => string,
): Promise<void> {
  await underAppLock(freehold, folder, async () => {
    const file = path.join(folder, APP_FILE_NAME);
    const text = await readIfThere(file);
    const wanted = change(text ?? '');
    if (wanted !== text) await writeAppFile(file, wanted);
  });
}

/** The lock lies in the home: an application's folder is under version control and should get no further files. */
async function underAppLock<Result>(
  freehold: Freehold,
  folder: string,
  work: () => Promise<Result>,
): Promise<Result> {
  const name = createHash('sha256')
    .update(await realpath(folder))
    .digest('hex')
    .slice(0, 16);
  const file = path.join(await freehold.home.folder('cache'), `app-${name}.lock`);
  return withFileLock(file, 'exclusive', LOCK_TIMEOUT_MS, work);
}

/** Through a link, since a rename would put a file in its place. */
async function writeAppFile(file: string, text: string): Promise<void> {
  const target = await realpath(file).catch(() => file);
  await writeFileDurably(target, Buffer.from(text), { mode: FILE_MODE });
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readTextFile(file, { bytesMax: CONFIG_CHARACTERS_MAX });
  } catch (error) {
    if (error instanceof FreeholdError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}
