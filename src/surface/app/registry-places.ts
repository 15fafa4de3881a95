import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import type { RepositoryName } from '../../core/base/registry-reference.ts';
import type { ArtifactPlace, ArtifactSource } from '../../core/format/artifact-place.ts';
import type { Freehold } from './freehold.ts';

export interface PlaceOptions {
  /** Plain http also to another machine. */
  readonly plainHttp?: boolean;
}

/** Runs work with one repository, and closes its connections. @throws OFFLINE, and what the work throws */
export async function withRepository<T>(
  freehold: Freehold,
  name: RepositoryName,
  work: (place: ArtifactPlace) => Promise<T>,
  options: PlaceOptions = {},
): Promise<T> {
  if (freehold.isOffline) {
    throw new FreeholdError('OFFLINE', `${name.host} is not asked: --offline`);
  }
  // Loaded here: the HTTP client is a seventh of every command's start, and most need none.
  const { openRepository } = await import('../../io/registry/repository.ts');
  const place = openRepository(name, {
    environment: freehold.env,
    plainHttp: options.plainHttp === true,
    uploadsFolder: path.join(await freehold.home.folder('cache'), 'uploads'),
  });
  try {
    return await work(place);
  } finally {
    await place.close();
  }
}

/** Runs work with the mirrors of a repository and the repository itself, in this order. @throws OFFLINE */
export async function withSources<T>(
  freehold: Freehold,
  name: RepositoryName,
  work: (sources: readonly ArtifactSource[]) => Promise<T>,
  options: PlaceOptions = {},
): Promise<T> {
  return withRepository(freehold, name, (place) => work([place]), options);
}
