import { FreeholdError } from '../../core/base/errors.ts';
import { DOCUMENT_BYTES_MAX } from '../../core/format/artifact-documents.ts';
import { type FileResponse, readBytes } from '../http/http-request.ts';
import { nextPage } from './link-header.ts';
import { registryFault } from './registry-fault.ts';
import { PAGES_MAX } from './registry-limits.ts';
import { type RepositoryContext, readScopes } from './repository-context.ts';

/**
 * The pages of a list, as JSON.
 * @param isAbsent whether the first answer means that there is no such list
 * @returns undefined in that case
 * @throws NETWORK for a list without end, for pages elsewhere, for what is no JSON
 */
export async function readPages(
  context: RepositoryContext,
  first: string,
  isAbsent: (response: FileResponse) => boolean,
  signal: AbortSignal,
): Promise<unknown[] | undefined> {
  const { connection, repository, label } = context;
  const pages: unknown[] = [];
  let target: string | URL | undefined = first;
  while (target !== undefined) {
    if (pages.length >= PAGES_MAX) {
      throw new FreeholdError('NETWORK', `${label}: a list of more than ${PAGES_MAX} pages`);
    }
    const scopes = readScopes(repository);
    const response: FileResponse = await connection.send({ method: 'GET', target, scopes, signal });
    if (pages.length === 0 && isAbsent(response)) {
      response.abandon();
      return undefined;
    }
    if (response.status !== 200) throw await registryFault(response, label, 'read a list');
    target = nextPage(response.header('link'), response.url);
    pages.push(parsePage(await readBytes(response, DOCUMENT_BYTES_MAX), label));
  }
  return pages;
}

function parsePage(bytes: Buffer, label: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new FreeholdError('NETWORK', `${label}: the answer is no JSON`, {
      cause,
      hint: 'is there a registry at this address?',
    });
  }
}
