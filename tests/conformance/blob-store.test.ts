import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { memoryBlobStore } from '../../src/io/store/memory-blob-store.ts';
import { openStore } from '../../src/io/store/store.ts';
import { blobStoreSuite } from './blob-store-suite.ts';

blobStoreSuite('memory', async () => ({ store: memoryBlobStore(), dispose: async () => {} }));

blobStoreSuite('disk', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'freehold-blobs-'));
  const { blobs } = await openStore(folder);
  return { store: blobs, dispose: () => rm(folder, { recursive: true, force: true }) };
});
