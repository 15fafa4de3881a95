import { stat } from 'node:fs/promises';
import path from 'node:path';
import { toFreeholdError } from '../../core/base/errors.ts';
import { type Log, silentLog } from '../../core/base/log.ts';
import { APP_FILE_NAME } from '../../core/format/app-yaml.ts';
import { compareLock, LOCK_FILE_NAME, type LockedModel } from '../../core/format/lock-file.ts';
import { readAppFiles } from './app-folder.ts';
import type { ModelAliases } from './model-aliases.ts';

/** What the application in a folder says about serving. */
export interface AppServing {
  /** The keys of `freehold.yaml` as names of models, read again when a file has changed: an update changes the lock. */
  readonly aliases: () => Promise<ModelAliases>;
  readonly listen?: string;
  /** Why a key of `freehold.yaml` cannot be used, for people. */
  readonly remarks: readonly string[];
}

/**
 * Reads the application of a folder; none has no aliases.
 * @param log hears of a file that cannot be read any more; then what it said before holds on
 * @throws CONFIG_INVALID, NOT_SUPPORTED
 */
export async function openAppServing(folder: string, log: Log = silentLog): Promise<AppServing> {
  let seen = await stateOf(folder);
  let current = await readKeys(folder);
  const { remarks, listen } = current;
  return {
    async aliases() {
      const now = await stateOf(folder);
      if (now === seen) return current.aliases;
      seen = now;
      try {
        current = await readKeys(folder);
      } catch (error) {
        const { code, message } = toFreeholdError(error);
        log({ level: 'warning', event: 'app-files-refused', fields: { code, message } });
      }
      return current.aliases;
    },
    remarks,
    ...(listen === undefined ? {} : { listen }),
  };
}

interface AppKeys {
  readonly aliases: ModelAliases;
  readonly listen?: string;
  readonly remarks: readonly string[];
}

async function readKeys(folder: string): Promise<AppKeys> {
  const files = await readAppFiles(folder);
  if (files === undefined) return { aliases: new Map(), remarks: [] };
  const { plan, lock = new Map<string, LockedModel>() } = files;
  const misfits = new Set(compareLock(plan.models, lock).map(({ key }) => key));
  const aliases = new Map([...lock].filter(([key]) => !misfits.has(key)));
  return {
    aliases,
    remarks: plan.models
      .filter(({ key }) => !aliases.has(key))
      .map(({ key }) => `${LOCK_FILE_NAME} does not fit ${APP_FILE_NAME} for ${key}: freehold install`),
    ...(plan.listen === undefined ? {} : { listen: plan.listen }),
  };
}

/** Changes whenever one of the two files does; both are replaced, never written into. */
async function stateOf(folder: string): Promise<string> {
  const states = [APP_FILE_NAME, LOCK_FILE_NAME].map(async (name) => {
    const found = await stat(path.join(folder, name)).catch(() => undefined);
    return found === undefined ? 'none' : `${found.ino} ${found.mtimeMs} ${found.size}`;
  });
  return (await Promise.all(states)).join(' / ');
}
