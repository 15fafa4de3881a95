import assert from 'node:assert/strict';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { openTemporaryHome } from '../../../tests/fixtures/freehold-home.ts';
import { codeOf, UPDATED_NAME as NAME, updateWorld } from '../../../tests/fixtures/update-world.ts';
import { restoreArchive } from './archive-restore.ts';
import { saveArchive } from './archive-save.ts';
import type { Freehold } from './freehold.ts';
import { listInstalled } from './package-list.ts';
import { removeInstalled } from './store-upkeep.ts';
import { rollBack } from './update-rollback.ts';

const { signal } = new AbortController();

const heldOf = async (freehold: Freehold) =>
  (await listInstalled(freehold)).map(({ version, held }) => [version, held ?? 'in use or older']);

/** A customer with 1.0.0 in use and 1.1.0 rolled back. */
async function ground(context: TestContext) {
  const made = await updateWorld(context);
  await made.offer('1.1.0');
  await made.apply();
  await rollBack(made.customer, NAME);
  const save = async (name: string, references: readonly string[] = [], options = {}) => {
    const file = path.join(made.folder, name);
    const saved = await saveArchive(made.customer, file, references, {
      ...{ signal, isWithoutProgram: true },
      ...options,
    });
    return { ...saved, file };
  };
  const restore = (freehold: Freehold, file: string) =>
    restoreArchive(freehold, file, { signal, approved: { kind: 'all' } });
  return { made, save, restore };
}

test('what is held back stays at home unless it is named, and is held back elsewhere too', async (context) => {
  const { made, save, restore } = await ground(context);
  for (const references of [[], [NAME]]) {
    const { packages, heldBack } = await save(`of-${references.length}.tar`, references);
    assert.deepEqual([packages.length, heldBack.length], [1, 1]);
    assert.match(packages[0] ?? '', /@1\.0\.0#/);
  }
  const { file } = await save('named.tar', [`${NAME}@1.0.0`, `${NAME}@1.1.0`]);
  const empty = await openTemporaryHome(context);
  await restore(empty, file);
  assert.equal(await made.inUse(empty), '1.0.0');
  assert.deepEqual(await heldOf(empty), await heldOf(made.customer));
  const alone = await save('alone.tar', [`${NAME}@1.1.0`]);
  assert.equal(alone.packages.length, 1);
  await removeInstalled(made.customer, `${NAME}@1.0.0`, false);
  await assert.rejects(save('nothing.tar', [NAME]), codeOf('MODEL_NOT_FOUND', /with its version/));
});

test("a home's own decisions outlive every archive", async (context) => {
  const { made, restore } = await ground(context);
  // As the publisher has it: 1.1.0 in use there, marked by nobody.
  const file = path.join(made.folder, 'publisher.tar');
  await saveArchive(made.publisher, file, [], { signal, isWithoutProgram: true });
  const before = await heldOf(made.customer);
  await restore(made.customer, file);
  assert.deepEqual([await made.inUse(), await heldOf(made.customer)], ['1.0.0', before]);
  // Also where it was removed meanwhile.
  await removeInstalled(made.customer, `${NAME}@1.1.0`, false);
  const { packages } = await restore(made.customer, file);
  assert.deepEqual([await made.inUse(), await heldOf(made.customer)], ['1.0.0', before]);
  assert.deepEqual(packages.map(({ reference, held }) => [reference.slice(0, 15), held]).sort(), [
    ['acme/tiny@1.0.0', undefined],
    ['acme/tiny@1.1.0', 'rolled-back'],
  ]);
  // What is newer and nobody declined comes into use.
  await made.offer('1.2.0');
  const newer = path.join(made.folder, 'newer.tar');
  await saveArchive(made.publisher, newer, [], { signal, isWithoutProgram: true });
  await restore(made.customer, newer);
  assert.equal(await made.inUse(), '1.2.0');
});

test('an incremental archive brings its channels', async (context) => {
  const { made, save, restore } = await ground(context);
  const first = await save('first.tar');
  const second = await save('second.tar', [], { since: first.file });
  assert.ok(second.leftOut.blobs > 0);
  const empty = await openTemporaryHome(context);
  await restore(empty, first.file);
  assert.deepEqual((await restore(empty, second.file)).remarks, []);
  assert.equal(await made.inUse(empty), '1.0.0');
});

test('damaged channels keep no model from travelling, and say how to go on', async (context) => {
  const { made, save } = await ground(context);
  const file = path.join(made.customer.home.path, 'channels', 'acme%2Ftiny.json');
  const bytes = await readFile(file);
  const damages = [() => truncate(file, 100), () => writeFile(file, '{}'), () => truncate(file, 0)];
  for (const [number, damage] of damages.entries()) {
    await damage();
    const { remarks } = await save(`${number}.tar`);
    assert.match(remarks.join(), /without the channels of acme\/tiny: .*CONFIG_INVALID.*remove the file/);
    assert.equal((await listInstalled(made.customer)).length, 2);
    await made.refuses('CONFIG_INVALID', /remove the file: .*older state/);
  }
  await writeFile(file, bytes);
  assert.deepEqual((await save('sound.tar')).remarks, []);
});

test('an archive needs a name', async (context) => {
  const { made } = await ground(context);
  await assert.rejects(saveArchive(made.customer, '', [], { signal }), codeOf('USAGE', /archive save/));
});
