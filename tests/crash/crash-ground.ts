import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { sendFile, startFileServer } from '../fixtures/file-server.ts';
import { CATALOG_ETAG, type CrashGround, crashGround, makeCrashGround } from './operations.ts';

/**
 * Runs work with everything that the operations need, and a folder for it. In memory where there is one: what is tested
 * is the order of calls, which the model knows, not this disk.
 */
export async function withCrashGround(
  work: (ground: CrashGround, folder: string) => Promise<void>,
): Promise<void> {
  const folder = fs.mkdtempSync(
    path.join(fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'freehold-crash-'),
  );
  const file = crashGround(path.join(folder, 'ground'), '').catalogFile;
  const server = await startFileServer((request, response) => {
    sendFile(request, response, fs.readFileSync(file), { etag: CATALOG_ETAG });
  });
  try {
    await work(await makeCrashGround(path.join(folder, 'ground'), `${server.origin}/small.gguf`), folder);
  } finally {
    await server.close();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
