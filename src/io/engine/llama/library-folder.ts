import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { FreeholdError } from '../../../core/base/errors.ts';

/** Folder with the shared libraries, and the two that we call. */
export interface LibraryFiles {
  readonly folder: string;
  readonly llama: string;
  readonly ggml: string;
}

/** Prebuilt libraries by `process.platform` and `process.arch`. */
const PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': '@node-llama-cpp/linux-x64',
  'linux-arm64': '@node-llama-cpp/linux-arm64',
};

/**
 * Finds the prebuilt llama.cpp of this platform by package resolution, never by a search path.
 * @throws PLATFORM_UNSUPPORTED naming the package that is missing
 */
export function locateLibrary(
  platform: string = process.platform,
  architecture: string = process.arch,
): LibraryFiles {
  const target = `${platform}-${architecture}`;
  const name = PACKAGES[target];
  if (name === undefined) {
    throw new FreeholdError('PLATFORM_UNSUPPORTED', `no llama.cpp library is known for ${target}`, {
      hint: `this version runs models on ${Object.keys(PACKAGES).join(' and ')}`,
    });
  }
  const folder = path.join(packageFolder(name), 'bins', target);
  try {
    return libraryFiles(folder);
  } catch (cause) {
    throw new FreeholdError('PLATFORM_UNSUPPORTED', `the npm package ${name} is incomplete`, {
      hint: 'npm ci',
      cause,
    });
  }
}

function packageFolder(name: string): string {
  try {
    return path.resolve(path.dirname(fileURLToPath(import.meta.resolve(name))), '..');
  } catch (cause) {
    throw new FreeholdError('PLATFORM_UNSUPPORTED', `the npm package ${name} is not installed`, {
      hint: `npm install ${name}; npm leaves it out after "--omit=optional" or with a lockfile of another platform`,
      cause,
    });
  }
}

function libraryFiles(folder: string): LibraryFiles {
  const names = readdirSync(folder);
  const find = (library: string): string => {
    // `libggml-base.so` and `libllama-common.so` are others.
    const found = names.find((name) => new RegExp(`^lib${library}(\\.v[\\d.]+)?\\.so$`).test(name));
    if (found === undefined) throw new Error(`no lib${library} in ${folder}`);
    return path.join(folder, found);
  };
  return { folder, llama: find('llama'), ggml: find('ggml') };
}
