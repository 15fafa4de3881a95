import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';

const skip = !existsSync('/dev/full') && 'no /dev/full: nothing here stands for a full disk';

test('a full disk behind standard output is an error of its own, not a crash', { skip }, async (context) => {
  const full = openSync('/dev/full', 'w');
  const home = path.join(await temporaryFolder(context), 'home');
  try {
    const { status, stderr } = spawnSync(
      process.execPath,
      [path.join(import.meta.dirname, 'main.ts'), 'list', '--home', home],
      { stdio: ['ignore', full, 'pipe'], encoding: 'utf8', timeout: 30_000 },
    );
    assert.equal(stderr, 'error: no room for standard output [DISK_FULL]\n');
    assert.equal(status, 7);
  } finally {
    closeSync(full);
  }
});
