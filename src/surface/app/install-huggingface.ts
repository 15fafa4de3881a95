import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import type { HuggingFaceReference } from '../../core/base/reference.ts';
import { chooseGguf, ggufCandidates } from '../../core/format/gguf/gguf-choice.ts';
import { LICENSE_UNKNOWN } from '../../core/format/license-expression.ts';
import { localPackageName } from '../../core/format/local-name.ts';
import type { HubOptions, HubRepository, PinnedFile } from '../../io/fetch/huggingface-hub.ts';
import type { Freehold } from './freehold.ts';
import {
  type ImportOptions,
  type ImportResult,
  importName,
  requireImportAccepted,
  UNSIGNED,
} from './import-options.ts';
import { type ImportedBytes, installGguf, installOnce } from './install-gguf.ts';

const DEFAULT_REVISION = 'main';

/**
 * Installs a GGUF model from a repository on Hugging Face as `local/NAME`. The hub says which commit the branch means and
 * which digests its files have; the bytes are compared with them, and the result names the commit for the lock.
 * @throws OFFLINE, NOT_FOUND, REFERENCE_INVALID listing the quantizations, AUTHENTICATION_FAILED with the page on which
 *   access is given, LICENSE_NOT_ACCEPTED, SOURCES_EXHAUSTED, and what `installGguf` throws
 */
export async function installFromHuggingFace(
  freehold: Freehold,
  reference: HuggingFaceReference,
  options: ImportOptions,
): Promise<ImportResult> {
  const place = `hf://${reference.repository}`;
  if (freehold.isOffline) {
    throw new FreeholdError('OFFLINE', `${place}: only the hub can say which file is meant`, {
      hint: 'leave out --offline; what is installed already runs without the hub (freehold list)',
    });
  }
  const { signal } = options;
  const hub: HubOptions = { environment: freehold.env, signal };
  const { explainedRefusal, readHubRepository, requireAccess, withDigests } = await import(
    '../../io/fetch/huggingface-hub.ts'
  );
  const repository = await readHubRepository(
    reference.repository,
    reference.revision ?? DEFAULT_REVISION,
    hub,
  );
  const paths = repository.files.map((file) => file.path);
  const { path: first, files: wanted } = chooseGguf(paths, reference.wanted, place);
  const files = await withDigests(repository, wanted, hub);
  const name = importName(options, foreignName(repository, first));
  const digests = files.map(({ digest }) => digest);
  const installed = await installOnce(freehold, { name, digests }, options, async () => {
    await requireAccess(repository, hub);
    // Who was let in to a gated repository has accepted its licence there.
    if (!repository.isGated) requireImportAccepted(repository.license, place, repository.licenseUrl, options);
    const weights: ImportedBytes[] = [];
    for (const file of files) {
      const fetched = fetchHubFile(freehold, repository, file, hub);
      weights.push(
        await fetched.catch(async (error: unknown) => {
          throw await explainedRefusal(error, repository, hub);
        }),
      );
    }
    const { license } = repository;
    const facts = {
      name,
      description: `Imported from ${place}.`,
      ...(license === LICENSE_UNKNOWN ? {} : { license }),
    };
    return installGguf(freehold, weights, facts, options);
  });
  return { ...installed, source: `${place}/${first}@${repository.commit}`, remarks: [UNSIGNED] };
}

/** The repository's name where it holds one model in several quantizations, as most do; else that of the file. */
function foreignName(repository: HubRepository, file: string): string {
  const candidates = ggufCandidates(repository.files.map((item) => item.path));
  const names = new Set(candidates.map((item) => stemName(item.path)));
  return names.size === 1 ? path.posix.basename(repository.name) : path.posix.basename(file);
}

/** Undefined for names of which nothing is left. */
function stemName(file: string): string | undefined {
  try {
    return localPackageName(path.posix.basename(file));
  } catch {
    return undefined;
  }
}

/** In the cache, unless the store has these bytes already: of a model under another name, or of an install that failed late. */
async function fetchHubFile(
  freehold: Freehold,
  repository: HubRepository,
  file: PinnedFile,
  { signal, environment }: HubOptions,
): Promise<ImportedBytes> {
  const { digest, sizeBytes } = file;
  if (await freehold.store.isSound({ digest, sizeBytes })) return { kind: 'stored', digest, sizeBytes };
  const { fetchEntry } = await import('../../io/fetch/fetch-entry.ts');
  const fileName = path.posix.basename(file.path);
  const fetched = await fetchEntry(
    {
      name: fileName,
      fileName,
      digest,
      sizeBytes,
      sources: [{ kind: 'huggingface', repo: repository.name, revision: repository.commit, file: file.path }],
    },
    {
      cacheFolder: await freehold.home.folder('cache'),
      progress: freehold.progress,
      signal,
      environment,
    },
  );
  return { kind: 'cached', path: fetched.path, digest, sizeBytes };
}
