import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileError } from './local-file.ts';

/** Runs `work` with a folder of its own below `parent`; the folder goes with everything in it, however `work` ends. */
export async function withScratchFolder<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(parent, 'scratch-')).catch((error: unknown) => {
    throw fileError(error, parent);
  });
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
