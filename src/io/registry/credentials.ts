import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { isSystemError } from '../files/system-refusal.ts';
import type { Environment } from '../http/http-connections.ts';
import { credentialHelper } from './credential-helper.ts';
import { credentialKeys } from './docker-hub.ts';

/** What proves who asks. Never part of a message. */
export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, which the token server changes for access tokens. */
  | { readonly kind: 'identity-token'; readonly token: string }
  /** Goes to the registry as it is. */
  | { readonly kind: 'registry-token'; readonly token: string };

/** Docker's file has a few kilobytes, with icons of old tools a few hundred. */
const CONFIG_BYTES_MAX = 4 << 20;

const entrySchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
type Entry = z.infer<typeof entrySchema>;

/** Not strict: the file belongs to other tools, which keep much else in it. */
const configSchema = z.object({
  auths: z.record(z.string(), entrySchema).optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
  credsStore: z.string().optional(),
});
type DockerConfig = z.infer<typeof configSchema>;

/**
 * Looks credentials up where other tools keep them: docker's `config.json` (`credHelpers`, then `credsStore`, then
 * `auths`), then the `auth.json` of podman and skopeo.
 * @returns undefined when nobody logged in to this host
 * @throws CONFIG_INVALID, AUTHENTICATION_FAILED when a credential helper fails
 */
export async function findCredentials(
  host: string,
  environment: Environment,
  signal: AbortSignal,
): Promise<Credentials | undefined> {
  const keys = credentialKeys(host);
  for (const file of configFiles(environment)) {
    const config = await readConfig(file);
    if (config === undefined) continue;
    const helper = keys.map((key) => config.credHelpers?.[key]).find((name) => name !== undefined);
    const name = helper ?? config.credsStore;
    if (name !== undefined && name !== '') {
      const found = await credentialHelper(name, keys[0] ?? host, environment, signal);
      if (found !== undefined) return found;
    }
    for (const key of keys) {
      const entry = config.auths?.[key];
      const credentials = entry === undefined ? undefined : entryCredentials(entry, file, key);
      if (credentials !== undefined) return credentials;
    }
  }
  return undefined;
}

function configFiles(environment: Environment): string[] {
  const { DOCKER_CONFIG, HOME, REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR } = environment;
  const folder =
    filled(DOCKER_CONFIG) ?? (filled(HOME) === undefined ? undefined : path.join(HOME ?? '', '.docker'));
  return [
    filled(REGISTRY_AUTH_FILE),
    folder === undefined ? undefined : path.join(folder, 'config.json'),
    filled(XDG_RUNTIME_DIR) === undefined
      ? undefined
      : path.join(XDG_RUNTIME_DIR ?? '', 'containers', 'auth.json'),
  ].filter((file) => file !== undefined);
}

const filled = (text: string | undefined) => (text === '' ? undefined : text);

async function readConfig(file: string): Promise<DockerConfig | undefined> {
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > CONFIG_BYTES_MAX) throw invalid(file, `${size} bytes, at most ${CONFIG_BYTES_MAX} are read`);
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined;
    if (error instanceof FreeholdError) throw error;
    throw invalid(file, 'cannot be read', error);
  }
  try {
    return configSchema.parse(JSON.parse(text));
  } catch {
    // Without the cause: a parser's message quotes what it stumbled over, and that may be a password.
    throw invalid(file, 'not JSON, or not in the form that docker login writes');
  }
}

const invalid = (file: string, reason: string, cause?: unknown) =>
  new FreeholdError('CONFIG_INVALID', `${file}: ${reason}`, {
    cause,
    hint: 'docker login HOST writes it; DOCKER_CONFIG names another folder',
  });

function entryCredentials(entry: Entry, file: string, key: string): Credentials | undefined {
  const registryToken = filled(entry.registrytoken);
  if (registryToken !== undefined) return { kind: 'registry-token', token: registryToken };
  const identityToken = filled(entry.identitytoken);
  if (identityToken !== undefined) return { kind: 'identity-token', token: identityToken };
  const auth = filled(entry.auth);
  if (auth === undefined) {
    const [username, password] = [filled(entry.username), filled(entry.password)];
    return username === undefined || password === undefined
      ? undefined
      : { kind: 'password', username, password };
  }
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 1) throw invalid(file, `auths["${key}"].auth is not USER:PASSWORD in base64`);
  // Some tools pad with NUL.
  const password = text.slice(colon + 1).replace(/\0+$/, '');
  return { kind: 'password', username: text.slice(0, colon), password };
}
