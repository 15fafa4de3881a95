import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.dirname(import.meta.dirname);

/** Folder → folders that it may import besides itself. A prefix stands for everything below it. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'src/core/base': [],
  'src/core/crypto': ['src/core/base'],
  'src/core/format': ['src/core/base', 'src/core/crypto'],
  'src/core/grammar': ['src/core/base'],
  'src/core/wire': ['src/core/base'],
  'src/io/files': ['src/core/base'],
  'src/io/http': ['src/core/base'],
  'src/io/fetch': ['src/core', 'src/io/files', 'src/io/http'],
  'src/io/registry': ['src/core', 'src/io/files', 'src/io/http'],
  'src/io/archive': ['src/core', 'src/io/files'],
  'src/io/store': ['src/core', 'src/io/files'],
  'src/io/home': ['src/core', 'src/io/files'],
  'src/io/engine': ['src/core'],
  'src/features/optimize': ['src/core', 'src/io/engine'],
  'src/features/transfer': ['src/core'],
  'src/features/updates': ['src/core'],
  'src/surface/app': ['src/core', 'src/io', 'src/features'],
  'src/surface/server': ['src/core', 'src/surface/app'],
  'src/surface/cli': ['src/core', 'src/surface/app', 'src/surface/server'],
  'src/index.ts': ['src/core', 'src/surface/app', 'src/surface/server', 'src/verify.ts'],
  'src/verify.ts': ['src/core'],
  'src/format.ts': ['src/core'],
};

/** Core never touches the world. `node:crypto` and `node:buffer` compute; the rest of Node does I/O. */
const PURE_NODE_MODULES = ['node:crypto', 'node:buffer'];
const PURE_PACKAGES = ['zod', 'yaml', 'semver'];
/** Globals through which a pure file could reach clock, randomness or process all the same. */
const IMPURE_GLOBALS =
  /\b(?:Date\.now|new Date\(\)|performance\.now|Math\.random|process\.|setTimeout|setInterval|fetch\()/;

const SPECIFIER =
  /(?:^|\n)\s*(?:import|export)\s(?:type\s)?[\w\s{},*$]*?\sfrom\s+['"]([^'"]+)['"]|(?:^|\n)\s*import\s+['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;

function specifiersOf(source: string): string[] {
  return [...source.matchAll(SPECIFIER)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
}

function folderOf(file: string): string | undefined {
  return Object.keys(ALLOWED).find((folder) => file === folder || file.startsWith(`${folder}/`));
}

const files = globSync('src/**/*.{ts,js,mjs}', { cwd: ROOT })
  .map((file) => file.split(path.sep).join('/'))
  .filter((file) => !file.includes('.test.'));

test('the source of every folder is known to the table', () => {
  assert.ok(files.length > 10);
  for (const file of files)
    assert.ok(folderOf(file) !== undefined, `${file} lies in a folder without a rule`);
});

test('folders import only what their floor allows', () => {
  const violations: string[] = [];
  for (const file of files) {
    const own = folderOf(file) ?? '';
    for (const specifier of specifiersOf(readFileSync(path.join(ROOT, file), 'utf8'))) {
      if (!specifier.startsWith('.')) continue;
      const target = path.posix.join(path.posix.dirname(file), specifier);
      const isAllowed = [own, ...(ALLOWED[own] ?? [])].some(
        (folder) => target === folder || target.startsWith(`${folder}/`),
      );
      if (!isAllowed) violations.push(`${file} imports ${target}`);
    }
  }
  assert.deepEqual(violations, []);
});

test('core is pure: no file, network, process, wall clock or randomness of its own', () => {
  const violations: string[] = [];
  for (const file of files.filter((name) => name.startsWith('src/core/'))) {
    const source = readFileSync(path.join(ROOT, file), 'utf8');
    for (const specifier of specifiersOf(source)) {
      const isPure =
        specifier.startsWith('.') ||
        PURE_NODE_MODULES.includes(specifier) ||
        PURE_PACKAGES.includes(specifier);
      if (!isPure) violations.push(`${file} imports ${specifier}`);
    }
    const code = source.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '');
    const match = IMPURE_GLOBALS.exec(code);
    if (match !== null) violations.push(`${file} uses ${match[0]}`);
  }
  assert.deepEqual(violations, []);
});

test('the rules would notice an offence', () => {
  assert.deepEqual(specifiersOf("import { a,\n b } from './x.ts';\nexport type { C } from '../y.ts';"), [
    './x.ts',
    '../y.ts',
  ]);
  assert.deepEqual(specifiersOf("const m = await import('node:fs');\nimport 'side';"), ['node:fs', 'side']);
  assert.match('const t = Date.now();', IMPURE_GLOBALS);
});

test('no file passes 500 lines', () => {
  const long = [
    ...files,
    ...globSync('{tests,bench,scripts}/**/*.ts', { cwd: ROOT }),
    ...globSync('src/**/*.test.ts', { cwd: ROOT }),
  ]
    .map((file) => ({ file, lines: readFileSync(path.join(ROOT, file), 'utf8').split('\n').length }))
    .filter(({ lines }) => lines > 500);
  assert.deepEqual(long, []);
});
