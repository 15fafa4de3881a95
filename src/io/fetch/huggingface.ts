import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import { isLoopbackHost } from '../../core/base/loopback.ts';
import type { Environment } from '../http/http-connections.ts';
import type { Source } from './catalog-entry.ts';
import type { HttpPlace } from './http-source.ts';

/**
 * Where a file of Hugging Face is fetched: at HF_ENDPOINT if the environment names one, with the user's token for that
 * host.
 * @throws CONFIG_INVALID as `hubPlace`
 */
export function huggingFacePlace(
  source: Extract<Source, { kind: 'huggingface' }>,
  environment: Environment,
): Promise<HttpPlace> {
  return hubPlace([source.repo, 'resolve', source.revision, source.file].join('/'), environment);
}

/**
 * A path below the hub's address, with the token of the user, which is for that origin only.
 * @param hubPath segments between `/`, not escaped
 * @throws CONFIG_INVALID when HF_ENDPOINT is not an https URL (http on loopback only)
 */
export async function hubPlace(hubPath: string, environment: Environment): Promise<HttpPlace> {
  const escaped = hubPath.split('/').map(encodeURIComponent).join('/');
  return {
    url: `${hubEndpoint(environment)}/${escaped}`,
    allowHttp: false,
    bearerToken: await hubToken(environment),
  };
}

/** The address of the hub without a slash at its end. @throws CONFIG_INVALID */
export function hubEndpoint(environment: Environment): string {
  const endpoint = (environment.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  const url = URL.parse(endpoint);
  const isAllowed = url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopbackHost(url.hostname));
  if (
    url === null ||
    !isAllowed ||
    url.search !== '' ||
    url.hash !== '' ||
    url.username !== '' ||
    url.password !== ''
  ) {
    throw new FreeholdError(
      'CONFIG_INVALID',
      'HF_ENDPOINT must be an https URL without user, query or fragment',
    );
  }
  return url.href.replace(/\/+$/, '');
}

/**
 * HF_TOKEN, else the file in which the hub's own tools keep the token of a login: HF_TOKEN_PATH, `$HF_HOME/token`,
 * `$XDG_CACHE_HOME/huggingface/token`, `~/.cache/huggingface/token`.
 */
async function hubToken(environment: Environment): Promise<string | undefined> {
  const { HF_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME, HOME } = environment;
  if (HF_TOKEN) return bearerToken(HF_TOKEN);
  const cache = XDG_CACHE_HOME || (HOME ? path.join(HOME, '.cache') : undefined);
  const home = HF_HOME || (cache === undefined ? undefined : path.join(cache, 'huggingface'));
  const file = HF_TOKEN_PATH || (home === undefined ? undefined : path.join(home, 'token'));
  if (file === undefined) return undefined;
  // Without a login there is no file; a token that cannot be read is no token.
  return bearerToken(await readFile(file, 'utf8').catch(() => undefined));
}

/** A token with a line break in it (a careless `cat`) would split the header. */
function bearerToken(text: string | undefined): string | undefined {
  const token = text?.trim();
  return token !== undefined && /^[\x21-\x7e]{1,500}$/.test(token) ? token : undefined;
}
