import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import type { RepositoryName } from '../../core/base/registry-reference.ts';
import type { ArtifactPlace, ArtifactSource } from '../../core/format/artifact-place.ts';
import { type RegistryPlace, registryPlaces } from '../../core/format/registry-mirrors.ts';
import type { Repository } from '../../io/registry/repository.ts';
import type { Freehold } from './freehold.ts';
import { systemClock } from './system-clock.ts';

export interface PlaceOptions {
  /** Plain http also to another machine. */
  readonly plainHttp?: boolean;
}

/** Runs work with one repository, and closes its connections. @throws OFFLINE, CONFIG_INVALID, what the work throws */
export async function withRepository<T>(
  freehold: Freehold,
  name: RepositoryName,
  work: (place: ArtifactPlace) => Promise<T>,
  options: PlaceOptions = {},
): Promise<T> {
  const { registries } = await freehold.mirrors();
  // Written among the mirrors, a registry says how to connect to it.
  const itself = registryPlaces(registries, name).find((place) => isSame(place.name, name));
  return withPlaces(freehold, itself === undefined ? [] : [itself], options, ([place]) => {
    if (place === undefined) throw new FreeholdError('INTERNAL', 'a registry is not among its own places');
    return work(place);
  });
}

/** Runs work with the mirrors of a repository and the repository itself, in this order. @throws OFFLINE, CONFIG_INVALID */
export async function withSources<T>(
  freehold: Freehold,
  name: RepositoryName,
  work: (sources: readonly ArtifactSource[]) => Promise<T>,
  options: PlaceOptions = {},
): Promise<T> {
  const { registries } = await freehold.mirrors();
  return withPlaces(freehold, registryPlaces(registries, name), options, work);
}

const isSame = (left: RepositoryName, right: RepositoryName) =>
  left.host === right.host && left.repository === right.repository;

async function withPlaces<T>(
  freehold: Freehold,
  places: readonly RegistryPlace[],
  options: PlaceOptions,
  work: (repositories: readonly Repository[]) => Promise<T>,
): Promise<T> {
  const { env: environment, rateBytesPerSecond } = freehold;
  if (freehold.isOffline) {
    throw new FreeholdError(
      'OFFLINE',
      `${places.map(({ name }) => name.host).join(', ')}: not asked, offline`,
    );
  }
  // Loaded here: the HTTP client is a seventh of every command's start, and most need none.
  const { openRepository } = await import('../../io/registry/repository.ts');
  const { rateLimit } = await import('../../io/registry/rate-limit.ts');
  const rate = rateBytesPerSecond === undefined ? undefined : rateLimit(rateBytesPerSecond, systemClock);
  const uploadsFolder = path.join(await freehold.home.folder('cache'), 'uploads');
  const repositories = places.map(({ name, plainHttp, caFile, tokenRealms }) =>
    openRepository(name, {
      environment,
      plainHttp: plainHttp || options.plainHttp === true,
      caFile,
      tokenRealms,
      rate,
      uploadsFolder,
    }),
  );
  try {
    return await work(repositories);
  } finally {
    for (const repository of repositories) await repository.close();
  }
}
