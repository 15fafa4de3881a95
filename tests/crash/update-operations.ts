import assert from 'node:assert/strict';
import fs from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../src/core/base/digest.ts';
import type { ArtifactPlace } from '../../src/core/format/artifact-place.ts';
import { CHANNELS_TAG, encodeChannelArtifact } from '../../src/features/updates/channel-artifact.ts';
import { storePlace } from '../../src/io/store/store-place.ts';
import { buildPackage } from '../../src/surface/app/build-package.ts';
import { createPackageChannels, promoteRelease } from '../../src/surface/app/channel-publish.ts';
import { type ChannelOptions, channelStore } from '../../src/surface/app/channel-refresh.ts';
import { followChannel } from '../../src/surface/app/channel-trust.ts';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { installedPackages, resolveInstalled } from '../../src/surface/app/installed-packages.ts';
import { signPackages } from '../../src/surface/app/sign-package.ts';
import { applyUpdates } from '../../src/surface/app/update-apply.ts';
import { rollBack } from '../../src/surface/app/update-rollback.ts';
import { memoryPlace } from '../fixtures/memory-place.ts';
import type { CrashGround, CrashOperation } from './operations.ts';

const { signal } = new AbortController();
const NAME = 'acme/kept';
const REPOSITORY = 'oci://registry.acme.example/acme/kept';
const NOW_MS = Date.parse('2026-11-22T12:00:00Z');

const openAt = (home: string): Promise<Freehold> => openFreehold({ env: {}, home });

function optionsFor(place: ArtifactPlace): ChannelOptions {
  return {
    signal,
    clock: { nowMs: () => NOW_MS },
    access: {
      withSources: (_freehold, _name, work) => work([place]),
      withRepository: (_freehold, _name, work) => work(place),
    },
  };
}

const publisherHome = (ground: CrashGround) => path.join(ground.folder, 'updates', 'publisher');

/** The packages of a publisher's store with the channels of its home beside them, as a registry would have them. */
async function publishedPlace(publisher: Freehold): Promise<ArtifactPlace> {
  const packages = storePlace(publisher.store, NAME);
  const channels = memoryPlace('channels');
  const files = await channelStore(publisher).load(NAME);
  if (files !== undefined) {
    const { manifest, blobs } = encodeChannelArtifact(files, NAME);
    for (const bytes of blobs) channels.blobs.set(Digest.of(bytes), bytes);
    await channels.putManifest(manifest, CHANNELS_TAG, signal);
  }
  return {
    ...packages,
    manifest: (reference, abort) =>
      ('tag' in reference && reference.tag === CHANNELS_TAG ? channels : packages).manifest(reference, abort),
    blob: (blob, range, abort) =>
      (channels.blobs.has(blob.digest) ? channels : packages).blob(blob, range, abort),
    putBlob: (blob, open, options) => channels.putBlob(blob, open, options),
    putManifest: (document, tag, abort) => channels.putManifest(document, tag, abort),
  };
}

/** A publisher with the key of the common home, who offers 1.1.0 of its package. Made once. */
async function makePublisher(ground: CrashGround): Promise<void> {
  const home = publisherHome(ground);
  const ready = path.join(path.dirname(home), 'ready');
  if (fs.existsSync(ready)) return;
  fs.cpSync(ground.home, home, { recursive: true });
  const project = path.join(path.dirname(home), 'project');
  fs.cpSync(ground.project('kept'), project, { recursive: true });
  await writeFile(path.join(project, 'LICENSE'), 'That of 1.1.0.\n');
  const yaml = await readFile(path.join(project, 'model.yaml'), 'utf8');
  await writeFile(path.join(project, 'model.yaml'), yaml.replace('version: 1.0.0', 'version: 1.1.0'));
  const publisher = await openAt(home);
  await buildPackage(publisher, project, { mayReplace: false, signal });
  await signPackages(publisher, `${NAME}@1.1.0`, 'acme', signal);
  const options = async () => optionsFor(await publishedPlace(publisher));
  await createPackageChannels(publisher, NAME, REPOSITORY, { key: 'acme' }, {}, await options());
  await promoteRelease(publisher, `${NAME}@1.1.0`, 'stable', { rolloutPercent: 100 }, await options());
  await writeFile(ready, '');
}

const publishedOptions = async (ground: CrashGround) =>
  optionsFor(await publishedPlace(await openAt(publisherHome(ground))));

async function follow(ground: CrashGround, home: string): Promise<void> {
  await makePublisher(ground);
  await followChannel(await openAt(home), NAME, REPOSITORY, 'stable', await publishedOptions(ground));
}

async function apply(ground: CrashGround, home: string): Promise<void> {
  const [outcome] = await applyUpdates(await openAt(home), [], await publishedOptions(ground));
  if (outcome?.kind === 'failed') throw outcome.failure;
}

/** Whatever happened, a bare name means one version, and it is one of the two. */
async function verifyInUse(home: string, expected: readonly string[]): Promise<void> {
  const packages = installedPackages(await (await openAt(home)).store.entries());
  const { version } = resolveInstalled(packages, 'kept', Number.POSITIVE_INFINITY);
  assert.ok(expected.includes(version), `${version} is in use`);
}

export const UPDATE_OPERATIONS: readonly CrashOperation[] = [
  {
    name: 'follow a channel',
    prepare: makePublisher,
    run: follow,
  },
  {
    name: 'apply an update',
    prepare: follow,
    run: apply,
    verify: (home, isAtEnd) => verifyInUse(home, isAtEnd ? ['1.1.0'] : ['1.0.0', '1.1.0']),
  },
  {
    name: 'roll an update back',
    doneAlready: 'MODEL_NOT_FOUND',
    async prepare(ground, home) {
      await follow(ground, home);
      await apply(ground, home);
    },
    run: async (_ground, home) => rollBack(await openAt(home), NAME),
    verify: (home, isAtEnd) => verifyInUse(home, isAtEnd ? ['1.0.0'] : ['1.0.0', '1.1.0']),
  },
];
