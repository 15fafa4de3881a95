import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { install, withoutEntry, withStore } from '../../../tests/conformance/store-fixture.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { openStore, type Store } from './store.ts';

const CHILD = path.resolve(import.meta.dirname, '../../../tests/conformance/store-child.ts');

interface Child {
  readonly process: ChildProcess;
  /** The next line that it prints. */
  line(): Promise<unknown>;
  end(): Promise<number | null>;
}

function startChild(store: Store, command: string, argument = ''): Child {
  const child = spawn(process.execPath, [CHILD, store.folder, command, argument], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, 'exit');
  return {
    process: child,
    line: async () => JSON.parse(String((await lines.next()).value ?? 'null')),
    end: async () => (await ended)[0],
  };
}

test('six processes update the entries at once and none is lost', { timeout: 60_000 }, () =>
  withStore(async (store) => {
    const children = Array.from({ length: 6 }, (_, number) => startChild(store, 'add', `p${number}`));
    for (const child of children) assert.equal(await child.line(), 'done');
    assert.equal((await store.entries()).length, 30);
    assert.deepEqual((await store.check()).findings, []);
  }),
);

test('two processes import the same file at once', { timeout: 60_000 }, () =>
  withStore(async (store) => {
    const bytes = Buffer.alloc(20 << 20, 'weights');
    const file = path.join(store.folder, '..', 'model.gguf');
    await writeFile(file, bytes);
    const children = [startChild(store, 'import', file), startChild(store, 'import', file)];
    const expected = { digest: Digest.of(bytes), sizeBytes: bytes.byteLength };
    for (const child of children) assert.deepEqual(await child.line(), expected);
    assert.deepEqual(await readdir(path.join(store.folder, 'tmp')), []);
    assert.deepEqual(await readdir(path.join(store.folder, 'blobs', 'sha256')), [
      Digest.hex(expected.digest),
    ]);
  }),
);

test('gc in this process waits for a lease in another', { timeout: 60_000 }, () =>
  withStore(async (store) => {
    await install(store, 'gone', { gone: 'gone' });
    await store.updateEntries((entries) => withoutEntry(entries, 'gone'));
    const child = startChild(store, 'lease', 'half installed');
    assert.deepEqual(await child.line(), { digest: Digest.of('half installed'), sizeBytes: 14 });
    const impatient = await openStore(store.folder, { lockTimeoutMs: 100 });
    await assert.rejects(
      impatient.gc(),
      (thrown) =>
        thrown instanceof FreeholdError &&
        thrown.code === 'BUSY' &&
        thrown.detail.holders === String(child.process.pid),
    );
    const collecting = store.gc();
    child.process.stdin?.write('go on\n');
    assert.equal(await child.line(), 'done');
    assert.ok((await collecting).removed.includes(Digest.of('gone')));
    assert.equal((await store.blobs.readAll(Digest.of('half installed'), 100)).toString(), 'half installed');
    assert.deepEqual((await store.check()).findings, []);
  }),
);

test('a process that is killed with a lease leaves no lock', { timeout: 60_000 }, () =>
  withStore(async (store) => {
    const child = startChild(store, 'lease', 'never finished');
    await child.line();
    child.process.kill('SIGKILL');
    await child.end();
    const impatient = await openStore(store.folder, { lockTimeoutMs: 200 });
    assert.deepEqual((await impatient.gc()).removed, [Digest.of('never finished')]);
  }),
);

test('kill -9 at any moment leaves a sound store', { timeout: 120_000 }, () =>
  withStore(async (store) => {
    let leftovers = 0;
    for (let round = 0; round < 10; round++) {
      const child = startChild(store, 'churn', `seed ${round}`);
      assert.equal(await child.line(), 'started');
      // Random on purpose: each run looks at other moments.
      await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 150));
      child.process.kill('SIGKILL');
      await child.end();
      const survivor = await openStore(store.folder, { lockTimeoutMs: 500 });
      const { findings } = await survivor.check();
      assert.deepEqual(
        findings.filter(({ isDamage }) => isDamage),
        [],
      );
      leftovers += findings.length;
      if (round % 3 === 2) {
        await survivor.gc();
        assert.deepEqual((await survivor.check()).findings, []);
      }
    }
    assert.ok(leftovers > 0, 'no round was cut off in the middle of something');
  }),
);
