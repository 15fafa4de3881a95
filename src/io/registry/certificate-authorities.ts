import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import { isSystemError } from '../files/system-refusal.ts';
import type { Environment } from '../http/http-connections.ts';

/** A bundle of all public authorities has 250 kB. */
const AUTHORITY_BYTES_MAX = 4 << 20;
const AUTHORITIES_MAX = 64;

/** Where container tools look for the authorities of one registry: `FOLDER/HOST[:PORT]/*.crt`. */
export function authorityFolders(environment: Environment): string[] {
  const { HOME, XDG_CONFIG_HOME } = environment;
  const config = XDG_CONFIG_HOME ?? (HOME === undefined ? undefined : path.join(HOME, '.config'));
  return [
    ...(config === undefined ? [] : [path.join(config, 'containers', 'certs.d')]),
    '/etc/containers/certs.d',
    '/etc/docker/certs.d',
  ];
}

/**
 * Certificate authorities that count for one registry, besides the system's.
 * @param file named by the user
 * @returns PEM texts
 * @throws CONFIG_INVALID, NOT_FOUND for the file; folders that cannot be read are left aside, as other tools do
 */
export async function readAuthorities(
  host: string,
  file: string | undefined,
  folders: readonly string[],
): Promise<string[]> {
  const named = file === undefined ? [] : [await readAuthority(file)];
  const found: string[] = [];
  for (const folder of folders.map((parent) => path.join(parent, host))) {
    const names = await readdir(folder).catch(() => []);
    for (const name of names
      .filter((entry) => entry.endsWith('.crt'))
      .sort()
      .slice(0, AUTHORITIES_MAX)) {
      found.push(await readAuthority(path.join(folder, name)));
    }
  }
  return [...named, ...found];
}

async function readAuthority(file: string): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > AUTHORITY_BYTES_MAX) throw invalid(file, `has ${size} bytes`);
    const text = await readFile(file, 'utf8');
    if (!text.includes('-----BEGIN CERTIFICATE-----'))
      throw invalid(file, 'is no PEM file with certificates');
    return text;
  } catch (error) {
    if (error instanceof FreeholdError) throw error;
    if (isSystemError(error, 'ENOENT')) {
      throw new FreeholdError('NOT_FOUND', `no such file of certificate authorities: ${file}`, {
        cause: error,
      });
    }
    throw invalid(file, 'cannot be read', error);
  }
}

const invalid = (file: string, reason: string, cause?: unknown) =>
  new FreeholdError('CONFIG_INVALID', `certificate authorities: ${file} ${reason}`, {
    cause,
    hint: 'a PEM file: -----BEGIN CERTIFICATE-----',
  });
