import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, test } from 'node:test';
import { cliEnvironment, FREEHOLD_BIN, temporaryHome } from '../fixtures/freehold-home.ts';
import { descendantsOf, isRunning, waitUntil } from '../fixtures/processes.ts';
import { servedUrl, startFreehold } from '../fixtures/running-freehold.ts';

const WAIT_MS = 10_000;

/** A Node on the PATH that is too old for the sources and new enough for the bin. */
function olderNode(): string | undefined {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return folders
    .map((folder) => path.join(folder, 'node'))
    .find((file) => {
      const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8' });
      return /^v2[0-3]\./.test(stdout ?? '');
    });
}

const node = olderNode();

describe('an older Node starts the newer one', {
  skip: node === undefined && 'there is no older Node on the PATH',
}, () => {
  test('and passes on words, output and exit codes', async (context) => {
    const home = await temporaryHome(context);
    const run = (args: readonly string[]) =>
      spawnSync(node ?? '', [FREEHOLD_BIN, ...args], { encoding: 'utf8', env: cliEnvironment(home) });
    assert.match(run(['--version']).stdout, /^\d+\.\d+\.\d+\n$/);
    const refused = run(['inspect', 'nobody']);
    assert.equal(refused.status, 3);
    assert.match(refused.stderr, /MODEL_NOT_FOUND/);
  });

  test('and signals: SIGTERM and SIGINT stop a server in order', async (context) => {
    const home = await temporaryHome(context);
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      const serve = startFreehold(context, ['serve', '--listen', '127.0.0.1:0'], { home, node: node ?? '' });
      await servedUrl(serve);
      const family = descendantsOf(serve.pid);
      assert.equal(family.length, 1);
      assert.deepEqual(await serve.stop(signal), { code: 0, signal: null });
      await waitUntil(() => !family.some(isRunning), WAIT_MS, 'the newer Node is left');
    }
  });

  test('and its death by kill -9 ends the server as well', async (context) => {
    const home = await temporaryHome(context);
    const serve = startFreehold(context, ['serve', '--listen', '127.0.0.1:0'], { home, node: node ?? '' });
    await servedUrl(serve);
    const family = descendantsOf(serve.pid);
    assert.equal(family.length, 1);
    process.kill(serve.pid, 'SIGKILL');
    await waitUntil(() => !family.some(isRunning), WAIT_MS, 'the newer Node goes on without its starter');
  });
});
