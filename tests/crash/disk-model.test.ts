import assert from 'node:assert/strict';
import { mkdir, open, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../fixtures/freehold-home.ts';
import { type CrashOptions, crashStates } from './crash-states.ts';
import type { Tree } from './disk-model.ts';
import { readTree, writeTree } from './disk-tree.ts';
import { recordOperation } from './recorder.ts';

const OPTIONS: CrashOptions = { samplesPerStep: 20, seed: 1 };
const OLD = Buffer.alloc(9000, 'o');
const NEW = Buffer.alloc(10_000, 'n');

/** What crashes may make of a folder in which `file` holds `OLD`, when `work` runs; in words. */
async function outcomesOf(
  context: Parameters<typeof temporaryFolder>[0],
  work: (folder: string, file: string) => Promise<void>,
): Promise<{ anywhere: string[]; atEnd: string[] }> {
  const folder = await temporaryFolder(context);
  const file = path.join(folder, 'file');
  await writeFile(file, OLD);
  const record = await recordOperation(folder, () => work(folder, file));
  const states = crashStates(record, OPTIONS);
  const words = (all: typeof states) => [...new Set(all.map(({ tree }) => describe(tree)))].sort();
  return { anywhere: words(states), atEnd: words(states.filter(({ isAtEnd }) => isAtEnd)) };
}

function describe(tree: Tree): string {
  const found = tree.nodes.find((node) => node.path === 'file');
  if (found === undefined) return 'absent';
  const { bytes } = found.content;
  if (bytes.equals(OLD)) return 'old';
  if (bytes.equals(NEW)) return 'new';
  if (bytes.byteLength === 0) return 'empty';
  if (bytes.every((byte) => byte === 0)) return 'zeros';
  return bytes.includes('o') && bytes.includes('n') ? 'mixed' : 'torn';
}

async function sync(file: string): Promise<void> {
  const handle = await open(file);
  await handle.sync();
  await handle.close();
}

test('a file that is written in place may be anything', async (context) => {
  const { anywhere, atEnd } = await outcomesOf(context, async (_folder, file) => {
    const handle = await open(file, 'r+');
    await handle.write(NEW, 0, NEW.byteLength, 0);
    await handle.close();
  });
  assert.deepEqual(anywhere, atEnd);
  assert.deepEqual(
    atEnd,
    ['mixed', 'new', 'old', 'torn'].filter((word) => atEnd.includes(word)),
  );
  assert.ok(atEnd.includes('mixed') && atEnd.includes('old') && atEnd.includes('new'), atEnd.join());
});

test('a file that is emptied and written may be empty, or have its size and no content', async (context) => {
  const { atEnd } = await outcomesOf(context, (_folder, file) => writeFile(file, NEW));
  for (const word of ['empty', 'new', 'old', 'torn', 'zeros']) assert.ok(atEnd.includes(word), word);
});

test('a rename without a flush of the file may bring the name and not the content', async (context) => {
  const { atEnd } = await outcomesOf(context, async (folder, file) => {
    await writeFile(path.join(folder, 'temp'), NEW);
    await rename(path.join(folder, 'temp'), file);
    await sync(folder);
  });
  for (const word of ['empty', 'new', 'torn', 'zeros']) assert.ok(atEnd.includes(word), word);
  assert.ok(!atEnd.includes('old') && !atEnd.includes('absent'), atEnd.join());
});

test('a rename without a flush of the folder may be lost, and is never half done', async (context) => {
  const { anywhere, atEnd } = await outcomesOf(context, async (folder, file) => {
    await writeFile(path.join(folder, 'temp'), NEW);
    await sync(path.join(folder, 'temp'));
    await rename(path.join(folder, 'temp'), file);
  });
  assert.deepEqual(anywhere, ['new', 'old']);
  assert.deepEqual(atEnd, ['new', 'old']);
});

test('write, flush, rename, flush: old or new, and new in the end', async (context) => {
  const { anywhere, atEnd } = await outcomesOf(context, async (folder, file) => {
    await writeFile(path.join(folder, 'temp'), NEW);
    await sync(path.join(folder, 'temp'));
    await rename(path.join(folder, 'temp'), file);
    await sync(folder);
  });
  assert.deepEqual(anywhere, ['new', 'old']);
  assert.deepEqual(atEnd, ['new']);
});

test('a flush of a file saves neither its name nor that of its folder', async (context) => {
  const folder = await temporaryFolder(context);
  const record = await recordOperation(folder, async () => {
    await mkdir(path.join(folder, 'made'));
    await writeFile(path.join(folder, 'made', 'file'), NEW);
    await sync(path.join(folder, 'made', 'file'));
    await sync(path.join(folder, 'made'));
  });
  const atEnd = crashStates(record, OPTIONS).filter(({ isAtEnd }) => isAtEnd);
  const names = atEnd.map(({ tree }) => tree.nodes.map((node) => node.path).join(' '));
  assert.deepEqual(names.sort(), ['', ' made made/file']);
});

test('a removal may be undone, and two in any order', async (context) => {
  const folder = await temporaryFolder(context);
  for (const name of ['a', 'b']) await writeFile(path.join(folder, name), name);
  const record = await recordOperation(folder, async () => {
    await unlink(path.join(folder, 'a'));
    await rm(path.join(folder, 'b'), { force: true });
  });
  const names = crashStates(record, OPTIONS).map(({ tree }) =>
    tree.nodes.map(({ path: name }) => name).join(''),
  );
  assert.deepEqual(names.sort(), ['', 'a', 'ab', 'b']);
});

test('a recording that misses something is refused', async (context) => {
  const folder = await temporaryFolder(context);
  const { writeFileSync } = process.getBuiltinModule('fs');
  const unseen = writeFileSync.bind(undefined, path.join(folder, 'unseen'), 'x');
  await assert.rejects(
    recordOperation(folder, async () => unseen()),
    /not watched|record is incomplete/,
  );
  await assert.rejects(
    recordOperation(folder, async () => {
      process.getBuiltinModule('fs').appendFileSync(path.join(folder, 'other'), 'x');
    }),
    /fs\.appendFileSync\(.*other.*\) is not watched/,
  );
});

test('a tree is written as it was read: names, modes, contents, links', async (context) => {
  const folder = await temporaryFolder(context);
  const from = path.join(folder, 'from');
  await mkdir(path.join(from, 'empty'), { recursive: true, mode: 0o711 });
  await writeFile(path.join(from, 'a'), 'a', { mode: 0o444 });
  await mkdir(path.join(from, 'sub'));
  await (await import('node:fs/promises')).link(path.join(from, 'a'), path.join(from, 'sub', 'same'));
  const tree = readTree(from);
  writeTree(path.join(folder, 'to'), tree);
  assert.equal(readTree(path.join(folder, 'to')).key, tree.key);
  assert.equal(await readFile(path.join(folder, 'to', 'sub', 'same'), 'utf8'), 'a');
});
