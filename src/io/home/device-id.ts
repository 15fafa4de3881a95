import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import { readGuarded, writeFileDurably } from './durable-file.ts';

const DEVICE_FILE_NAME = 'device.json';
const FILE_BYTES_MAX = 4096;

// Loose: other work keeps facts about this device in the same file.
const deviceSchema = z.looseObject({ schemaVersion: z.literal(1), id: z.string().regex(/^[0-9a-f]{32}$/) });

/**
 * The random id of this home, made at first use. It never leaves the machine: it only decides when this device's turn in a
 * staged rollout comes. Whoever copies a home copies the id.
 * @throws CONFIG_INVALID when the file cannot be read, PERMISSION_DENIED, DISK_FULL
 */
export async function deviceId(homePath: string): Promise<string> {
  const file = path.join(homePath, DEVICE_FILE_NAME);
  const stored = await readDevice(file);
  if (stored !== undefined) return stored;
  const id = randomBytes(16).toString('hex');
  const bytes = Buffer.from(`${JSON.stringify({ schemaVersion: 1, id }, null, 2)}\n`);
  try {
    await writeFileDurably(file, bytes, { mode: 0o600, exclusive: true });
    return id;
  } catch (error) {
    // Another process was faster: there is one id.
    if (!(error instanceof FreeholdError) || error.code !== 'ALREADY_EXISTS') throw error;
    const theirs = await readDevice(file);
    if (theirs === undefined) throw error;
    return theirs;
  }
}

async function readDevice(file: string): Promise<string | undefined> {
  const guard = { bytesMax: FILE_BYTES_MAX, forbiddenMode: 0o077, repair: 'chmod 600' };
  const text = await readGuarded(file, guard);
  if (text === undefined) return undefined;
  const json = parseStrictJson(Buffer.from(text), {
    bytesMax: FILE_BYTES_MAX,
    depthMax: 8,
    code: 'CONFIG_INVALID',
    label: file,
  });
  const result = deviceSchema.safeParse(json);
  if (result.success) return result.data.id;
  throw new FreeholdError('CONFIG_INVALID', `${file} holds no device id`, {
    hint: `move ${file} away; a new id is made at the next use`,
  });
}
