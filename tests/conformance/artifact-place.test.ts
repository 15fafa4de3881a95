import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { ArtifactPlace } from '../../src/core/format/artifact-place.ts';
import { openRepository } from '../../src/io/registry/repository.ts';
import { REGISTRY_PROGRAMS, registryMissing, startRegistryServer } from '../fixtures/registry-server.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { startTestRegistry } from '../fixtures/test-registry.ts';
import { artifactPlaceSuite } from './artifact-place-suite.ts';

const ABILITIES = { tags: true, referrers: true, requiresParts: true };

/** A repository with a folder of its own for unfinished uploads. */
function repositoryAt(context: Pick<TestContext, 'after'>, host: string): ArtifactPlace {
  const uploadsFolder = mkdtempSync(path.join(tmpdir(), 'freehold-uploads-'));
  const place = openRepository({ host, repository: 'acme/triage' }, { environment: {}, uploadsFolder });
  context.after(async () => {
    await place.close();
    rmSync(uploadsFolder, { recursive: true, force: true });
  });
  return place;
}

artifactPlaceSuite(
  'a registry with the referrers API',
  async (context) => repositoryAt(context, (await startTestRegistry(context, { pageEntries: 3 })).host),
  ABILITIES,
);

for (const program of REGISTRY_PROGRAMS) {
  artifactPlaceSuite(
    program,
    async (context) => repositoryAt(context, (await startRegistryServer(context, program)).host),
    { ...ABILITIES, skip: skipUnlessCi(registryMissing(program)) },
  );
}
