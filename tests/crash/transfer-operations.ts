import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArtifactDocument } from '../../src/core/format/artifact-documents.ts';
import { openLayoutFolder } from '../../src/io/archive/layout-folder.ts';
import { storePlace } from '../../src/io/store/store-place.ts';
import { restoreArchive } from '../../src/surface/app/archive-restore.ts';
import { saveArchive } from '../../src/surface/app/archive-save.ts';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { installFromFolder } from '../../src/surface/app/install-folder.ts';
import { installFromSources } from '../../src/surface/app/install-registry.ts';
import { pushPackage } from '../../src/surface/app/push-package.ts';
import type { CrashGround, CrashOperation } from './operations.ts';

const { signal } = new AbortController();
const NAME = 'acme/brought';

const openAt = (home: string): Promise<Freehold> => openFreehold({ env: {}, home });

const layoutOf = ({ folder }: CrashGround) => path.join(folder, 'transfer', 'layout');
const archiveOf = ({ folder }: CrashGround) => path.join(folder, 'transfer', 'brought.tar');

/**
 * A layout, as a registry would be, and an archive, both with `acme/brought`. Made once: by whoever comes first, while the
 * others wait.
 */
async function makeSources(ground: CrashGround): Promise<void> {
  const folder = path.join(ground.folder, 'transfer');
  const ready = path.join(folder, 'ready');
  try {
    fs.mkdirSync(folder);
  } catch {
    while (!fs.existsSync(ready)) await sleep(10);
    return;
  }
  const home = path.join(folder, 'publisher');
  fs.cpSync(ground.home, home, { recursive: true });
  const publisher = await openAt(home);
  await installFromFolder(publisher, ground.exported, signal);
  const place = (await openLayoutFolder(layoutOf(ground), { mayCreate: true })).place(NAME);
  await pushPackage(publisher, NAME, place, NAME, { signal });
  await saveArchive(publisher, archiveOf(ground), [NAME], { signal, isWithoutProgram: true });
  fs.writeFileSync(ready, '');
}

async function install(ground: CrashGround, home: string): Promise<void> {
  const place = (await openLayoutFolder(layoutOf(ground))).place(NAME);
  const reference = { host: 'registry.example', repository: NAME, selector: { kind: 'newest' } } as const;
  await installFromSources(await openAt(home), [place], reference, { signal });
}

/** The first half of every file of the package, as a killed install leaves it. */
async function beginInstall(ground: CrashGround, home: string): Promise<void> {
  await makeSources(ground);
  const { store } = await openAt(home);
  const publisher = await openAt(path.join(ground.folder, 'transfer', 'publisher'));
  const source = storePlace(publisher.store, NAME);
  const tag = (await source.tags(signal)).find((item) => item.startsWith('1.0.0-')) ?? '';
  const manifest = await source.manifest({ tag }, signal);
  if (manifest === undefined) throw new Error('the publisher has no variant');
  const { layers } = parseArtifactDocument(manifest.bytes, manifest.digest);
  for (const { digest, size } of layers) {
    const blob = { digest, sizeBytes: size };
    const half = source.blob(blob, { startBytes: 0, endBytes: Math.floor(size / 2) }, signal);
    await store.download(blob, () => half, { signal }).catch(() => {});
  }
}

/** Packages on their way between homes. */
export const TRANSFER_OPERATIONS: readonly CrashOperation[] = [
  { name: 'install from a registry', prepare: makeSources, run: install },
  { name: 'install what was half pulled', prepare: beginInstall, run: install },
  {
    name: 'restore an archive',
    prepare: makeSources,
    run: async (ground, home) =>
      restoreArchive(await openAt(home), archiveOf(ground), { signal, approved: { kind: 'none' } }),
  },
];
