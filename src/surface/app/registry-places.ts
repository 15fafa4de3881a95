import { FreeholdError } from '../../core/base/errors.ts';
import type { RepositoryName } from '../../core/base/registry-reference.ts';
import type { ArtifactPlace, ArtifactSource } from '../../core/format/artifact-place.ts';
import type { Freehold } from './freehold.ts';

export interface PlaceOptions {
  /** Plain http also to another machine. */
  readonly plainHttp?: boolean;
}

/** Runs work with one repository, and closes its connections. @throws OFFLINE */
export async function withRepository<T>(
  freehold: Freehold,
  name: RepositoryName,
  work: (place: ArtifactPlace) => Promise<T>,
  _options: PlaceOptions = {},
): Promise<T> {
  throw new FreeholdError('OFFLINE', `${name.host} ${freehold.isOffline} ${typeof work}`);
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
