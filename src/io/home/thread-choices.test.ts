import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { ThreadChoice } from '../../core/base/thread-choices.ts';
import { machineFingerprint, openThreadChoices, THREAD_CHOICES_MAX } from './thread-choices.ts';

const choice: ThreadChoice = { decode: 1, batch: 2, tokensPerCpuSecond: 150.5 };

const withFolder = (work: (folder: string) => Promise<void>) => async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'freehold-threads-'));
  try {
    await work(path.join(folder, 'cache'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

test(
  'what was measured is found again, on the same machine and under the same key only',
  withFolder(async (folder) => {
    assert.equal(await openThreadChoices(folder).read('a'), undefined);
    await openThreadChoices(folder, 'one').write('a', choice);
    await openThreadChoices(folder, 'two').write('a', { ...choice, decode: 7 });
    assert.deepEqual(await openThreadChoices(folder, 'one').read('a'), choice);
    assert.deepEqual(await openThreadChoices(folder, 'two').read('a'), { ...choice, decode: 7 });
    assert.equal(await openThreadChoices(folder, 'one').read('b'), undefined);
    assert.equal(await openThreadChoices(folder, 'three').read('a'), undefined);
    assert.equal((await stat(path.join(folder, 'threads.json'))).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(folder), ['threads.json']);
  }),
);

test(
  'a new measurement takes the place of the old one, and concurrent ones all stay',
  withFolder(async (folder) => {
    const choices = openThreadChoices(folder, 'one');
    await choices.write('a', choice);
    await Promise.all(
      ['b', 'c', 'a', 'd'].map((key, index) => choices.write(key, { ...choice, decode: index + 1 })),
    );
    assert.deepEqual(
      (await choices.list()).map(({ key, decode }) => [key, decode]),
      [
        ['b', 1],
        ['c', 2],
        ['a', 3],
        ['d', 4],
      ],
    );
  }),
);

test(
  'the oldest go when there are too many',
  withFolder(async (folder) => {
    const choices = openThreadChoices(folder, 'one');
    await choices.write('first', choice);
    const file = path.join(folder, 'threads.json');
    const content = JSON.parse(await readFile(file, 'utf8')) as { choices: object[] };
    const full = Array.from({ length: THREAD_CHOICES_MAX }, (_, index) => ({
      ...content.choices[0],
      key: String(index),
    }));
    await writeFile(file, JSON.stringify({ ...content, choices: full }));
    assert.equal((await choices.list()).length, THREAD_CHOICES_MAX);
    await choices.write('last', choice);
    const kept = await choices.list();
    assert.equal(kept.length, THREAD_CHOICES_MAX);
    assert.equal(kept[0]?.key, '1');
    assert.deepEqual(await choices.read('last'), choice);
  }),
);

test(
  'damage, foreign content and a file that others may write count as empty, and are replaced',
  withFolder(async (folder) => {
    const choices = openThreadChoices(folder, 'one');
    const file = path.join(folder, 'threads.json');
    await choices.write('a', choice);
    const good = await readFile(file, 'utf8');
    const foreign = JSON.stringify({
      schemaVersion: 1,
      choices: [{ machine: 'one', key: 'a', decode: 1e9, batch: 1, tokensPerCpuSecond: 1 }],
    });
    for (const text of ['', '{', 'null', good.slice(0, -20), '{"schemaVersion":2}', foreign]) {
      await writeFile(file, text);
      assert.equal(await choices.read('a'), undefined, text);
    }
    await writeFile(file, good);
    await chmod(file, 0o666);
    assert.equal(await choices.read('a'), undefined);
    await choices.write('b', choice);
    assert.deepEqual(await choices.read('b'), choice);
  }),
);

test(
  'neither a place that cannot be written nor a senseless number throws',
  withFolder(async (folder) => {
    await writeFile(folder, 'a file where the folder should be');
    const choices = openThreadChoices(folder, 'one');
    await choices.write('a', choice);
    assert.equal(await choices.read('a'), undefined);
    const elsewhere = openThreadChoices(`${folder}-2`, 'one');
    await elsewhere.write('a', { ...choice, decode: 0 });
    await elsewhere.write('b', { ...choice, tokensPerCpuSecond: Number.NaN });
    assert.deepEqual(await elsewhere.list(), []);
  }),
);

test('the fingerprint is the same at each call, and names the processors', () => {
  assert.equal(machineFingerprint(), machineFingerprint());
  assert.match(machineFingerprint(), /\d+ processors, \d+ usable$/);
});
