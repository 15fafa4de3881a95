import { access, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import path from 'node:path';

/** The tools that everything is measured against, built from the sources of the very libraries that we load. */
export interface Peers {
  readonly llamaBench: string;
  readonly llamaServer: string;
  readonly build: PeerBuild;
}

/** `build.json`: written last, so that a build which was cut short is not taken for a whole one. */
export interface PeerBuild {
  /** `v0.5.0` */
  readonly release: string;
  readonly commit: string;
  readonly compiler: string;
  readonly options: readonly string[];
}

export const HOW_TO_BUILD_PEERS =
  'no llama-bench and llama-server to compare with: build them with `node bench/build-peers.ts` ' +
  '(needs git, cmake, ninja and a C++ compiler; about 15 minutes on two cores)';

/** The npm package that carries the libraries, and its sibling of the same version that carries their sources. */
export const LIBRARY_PACKAGE = '@node-llama-cpp/linux-x64';
export const SOURCE_PACKAGE = 'node-llama-cpp';

/** Version of the libraries that this checkout loads. */
export async function libraryVersion(): Promise<string> {
  const { resolve } = createRequire(import.meta.url);
  const entry = resolve(LIBRARY_PACKAGE);
  const folder = entry.slice(0, entry.indexOf(path.normalize(LIBRARY_PACKAGE)) + LIBRARY_PACKAGE.length);
  const { version } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}

/** Outside the repository and kept between runs. */
export async function peersFolder(): Promise<string> {
  const cache = process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache');
  return path.join(cache, 'freehold', 'peers', `llama.cpp-${await libraryVersion()}`);
}

/** @returns undefined where nobody has built them */
export async function findPeers(): Promise<Peers | undefined> {
  const folder = await peersFolder();
  try {
    const build = JSON.parse(await readFile(path.join(folder, 'build.json'), 'utf8')) as PeerBuild;
    const [llamaBench, llamaServer] = ['llama-bench', 'llama-server'].map((name) =>
      path.join(folder, 'build', 'bin', name),
    ) as [string, string];
    await Promise.all([access(llamaBench), access(llamaServer)]);
    return { llamaBench, llamaServer, build };
  } catch {
    return undefined;
  }
}
