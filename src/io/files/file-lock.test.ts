import assert from 'node:assert/strict';
import { readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { withFolder } from '../../../tests/conformance/store-fixture.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type LockMode, withFileLock } from './file-lock.ts';

const withLockFile = (work: (file: string) => Promise<void>) => () =>
  withFolder((folder) => work(path.join(folder, 'locks', 'x.lock')));

const nothing = async () => {};

test(
  'holders exclude each other, except shared ones',
  withLockFile(async (file) => {
    const cases: [LockMode, LockMode, boolean][] = [
      ['shared', 'shared', true],
      ['shared', 'exclusive', false],
      ['exclusive', 'shared', false],
      ['exclusive', 'exclusive', false],
    ];
    for (const [first, second, goesTogether] of cases) {
      await withFileLock(file, first, 1000, async () => {
        const inner = withFileLock(file, second, 20, nothing);
        if (goesTogether) await inner;
        else await assert.rejects(inner, busy);
      });
      await withFileLock(file, 'exclusive', 1000, nothing);
    }
  }),
);

test(
  'twenty exclusive holders come one after the other',
  withLockFile(async (file) => {
    let inside = 0;
    let most = 0;
    const hold = () =>
      withFileLock(file, 'exclusive', 20_000, async () => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setTimeout(resolve, 1));
        inside--;
      });
    await Promise.all(Array.from({ length: 20 }, hold));
    assert.deepEqual([most, inside], [1, 0]);
  }),
);

test(
  'is free again after work that throws, and passes the error on',
  withLockFile(async (file) => {
    const failing = withFileLock(file, 'exclusive', 1000, () => Promise.reject(new Error('on purpose')));
    await assert.rejects(failing, /on purpose/);
    await withFileLock(file, 'exclusive', 0, nothing);
  }),
);

test(
  'waiting does not stop the event loop, and BUSY names the lock and its holder',
  withLockFile(async (file) => {
    await withFileLock(file, 'exclusive', 1000, async () => {
      let turns = 0;
      const counting = setInterval(() => turns++, 2);
      const started = performance.now();
      await assert.rejects(withFileLock(file, 'shared', 150, nothing), (thrown) => {
        assert.ok(thrown instanceof FreeholdError);
        assert.equal(thrown.detail.lock, file);
        assert.match(thrown.message, new RegExp(`x\\.lock is locked by process ${process.pid};`));
        return busy(thrown);
      });
      clearInterval(counting);
      assert.ok(performance.now() - started < 5_000);
      assert.ok(turns >= 10, `${turns} turns`);
    });
  }),
);

test(
  'a planted symbolic link is not followed',
  withLockFile(async (file) => {
    await withFileLock(file, 'shared', 1000, nothing);
    const [target, planted] = [`${file}.target`, `${file}.planted`];
    await writeFile(target, 'kept');
    await symlink(target, planted);
    await assert.rejects(withFileLock(planted, 'exclusive', 100, nothing), FreeholdError);
    assert.equal(await readFile(target, 'utf8'), 'kept');
  }),
);

function busy(thrown: unknown): boolean {
  return thrown instanceof FreeholdError && thrown.code === 'BUSY';
}
