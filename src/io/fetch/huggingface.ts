import { FreeholdError } from '../../core/base/errors.ts';
import { isLoopbackHost } from '../../core/base/loopback.ts';
import type { Environment } from '../http/http-request.ts';
import type { Source } from './catalog-entry.ts';
import type { HttpPlace } from './http-source.ts';

/**
 * Where a file of Hugging Face is fetched: at HF_ENDPOINT if the environment names one, with HF_TOKEN for that host.
 * @throws CONFIG_INVALID when HF_ENDPOINT is not an https URL (http on loopback only)
 */
export function huggingFacePlace(
  source: Extract<Source, { kind: 'huggingface' }>,
  environment: Environment,
): HttpPlace {
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
  const segments = [source.repo, 'resolve', source.revision, source.file].join('/').split('/');
  const path = segments.map(encodeURIComponent).join('/');
  return {
    url: `${url.href.replace(/\/+$/, '')}/${path}`,
    allowHttp: false,
    bearerToken: bearerToken(environment.HF_TOKEN),
  };
}

/** A token with a line break in it (a careless `cat`) would split the header. */
function bearerToken(text: string | undefined): string | undefined {
  const token = text?.trim();
  return token !== undefined && /^[\x21-\x7e]{1,500}$/.test(token) ? token : undefined;
}
