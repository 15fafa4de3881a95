import { existsSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import type { PathRule } from './landlock-rules.ts';

/** Our own dependencies and theirs; far more than there are, so that a broken tree cannot make this run on. */
const PACKAGES_MAX = 300;

/** `src` in a checkout, `dist` when published: the folder with all our code. */
const CODE_FOLDER = path.resolve(import.meta.dirname, '..', '..', '..');
const PACKAGE_FOLDER = path.dirname(CODE_FOLDER);

/** Folders of the libraries that the system itself installs; reading their neighbours tells nothing about the user. */
const SYSTEM_LIBRARY_ROOTS = ['/usr/lib', '/usr/lib32', '/usr/lib64', '/usr/libx32', '/lib', '/lib64'];

/** What Node, libc and llama.cpp ask the system for: entropy, memory and processor, limits, time zone. */
const SYSTEM_RULES: readonly PathRule[] = [
  { path: '/dev/null', grant: 'device' },
  { path: '/dev/urandom', grant: 'read' },
  { path: '/dev/random', grant: 'read' },
  { path: '/etc/ld.so.cache', grant: 'read' },
  { path: '/etc/localtime', grant: 'read' },
  { path: '/usr/share/zoneinfo', grant: 'read' },
  { path: '/proc/cpuinfo', grant: 'read' },
  { path: '/proc/meminfo', grant: 'read' },
  { path: '/proc/stat', grant: 'read' },
  { path: '/proc/loadavg', grant: 'read' },
  { path: '/proc/uptime', grant: 'read' },
  { path: '/proc/sys/vm', grant: 'read' },
  { path: '/sys/devices/system/cpu', grant: 'read' },
  { path: '/sys/devices/system/node', grant: 'read' },
  { path: '/sys/kernel/mm/transparent_hugepage', grant: 'read' },
  { path: '/sys/fs/cgroup', grant: 'read' },
];

let ownRules: readonly PathRule[] | undefined;

/**
 * What every child may read: the system's part, our code, and the packages that it depends on. Not the folder of the
 * project with its `.git`, not the working directory, not the home. Not all of it exists everywhere.
 */
export function baseRules(): readonly PathRule[] {
  ownRules ??= [
    CODE_FOLDER,
    path.join(PACKAGE_FOLDER, 'package.json'),
    ...dependencyFolders(PACKAGE_FOLDER),
  ].map((own): PathRule => ({ path: own, grant: 'read' }));
  return [...SYSTEM_RULES, ...ownRules];
}

/**
 * Rules for the program that runs and the libraries that it has mapped, found in `/proc/self/maps`: the child is the
 * same program and needs the same.
 */
export function programRules(maps: string, program: string): readonly PathRule[] {
  const rules: PathRule[] = [{ path: program, grant: 'execute' }];
  const folders = new Set<string>();
  for (const file of mappedLibraries(maps)) {
    // The kernel opens the loader itself when it starts the program.
    rules.push({ path: file, grant: /^ld[-.]/.test(path.basename(file)) ? 'execute' : 'read' });
    const folder = path.dirname(file);
    if (SYSTEM_LIBRARY_ROOTS.some((root) => folder === root || folder.startsWith(`${root}/`))) {
      folders.add(folder);
    }
  }
  return [...rules, ...[...folders].map((folder): PathRule => ({ path: folder, grant: 'read' }))];
}

function mappedLibraries(maps: string): ReadonlySet<string> {
  const files = new Set<string>();
  for (const line of maps.split('\n')) {
    // address, rights, offset, device, inode, path
    const file = /^\S+ \S+ \S+ \S+ \S+ +(\/.*\.so[.\d]*)$/.exec(line)?.[1];
    if (file !== undefined) files.add(file);
  }
  return files;
}

/** Follows package.json files as Node's resolver would, also through the links of pnpm. */
function dependencyFolders(root: string): readonly string[] {
  const found = new Set<string>();
  const pending = [realpathSync(root)];
  for (let folder = pending.shift(); folder !== undefined; folder = pending.shift()) {
    for (const name of dependencyNames(folder)) {
      const dependency = resolvePackage(folder, name);
      if (dependency === undefined || found.has(dependency) || found.size >= PACKAGES_MAX) continue;
      found.add(dependency);
      pending.push(dependency);
    }
  }
  return [...found];
}

function dependencyNames(folder: string): readonly string[] {
  const file = path.join(folder, 'package.json');
  if (!existsSync(file)) return [];
  const manifest: unknown = JSON.parse(readFileSync(file, 'utf8'));
  if (typeof manifest !== 'object' || manifest === null) return [];
  const fields: Record<string, unknown> = { ...manifest };
  return ['dependencies', 'optionalDependencies', 'peerDependencies'].flatMap((field) =>
    Object.keys(fields[field] ?? {}),
  );
}

function resolvePackage(from: string, name: string): string | undefined {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const candidate = path.join(folder, 'node_modules', name);
    if (existsSync(candidate)) return realpathSync(candidate);
    if (folder === path.dirname(folder)) return undefined;
  }
}
