import assert from 'node:assert/strict';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { baseRules, programRules } from './readable-paths.ts';

const REPOSITORY = path.resolve(import.meta.dirname, '..', '..', '..', '..');

test('our code and its packages may be read, and no folder above or beside them', () => {
  const paths = baseRules().map((rule) => rule.path);
  for (const needed of ['src', 'package.json', 'node_modules/koffi']) {
    assert.ok(paths.includes(path.join(REPOSITORY, needed)), needed);
  }
  assert.ok(
    paths.some((folder) => folder.includes('koffi-')),
    'the library of koffi, a dependency of a dependency',
  );
  const forbidden = ['.git', 'tests', '.', '..'].map((name) => path.join(REPOSITORY, name));
  for (const secret of [...forbidden, os.homedir(), os.tmpdir(), '/etc/passwd', '/proc/1', '/root']) {
    const opening = paths.filter((folder) => secret === folder || secret.startsWith(`${folder}/`));
    assert.deepEqual(opening, [], `${secret} must stay closed`);
  }
});

test('the program and what it has mapped may be read, whole folders only of the system', () => {
  const maps = [
    '00400000-05c69000 r-xp 00000000 fe:00 1234 /home/ann/.nvm/bin/node',
    '7f0000000000-7f0000001000 r--p 00000000 fe:00 11 /usr/lib/x86_64-linux-gnu/libc.so.6',
    '7f0000001000-7f0000002000 r-xp 00001000 fe:00 11 /usr/lib/x86_64-linux-gnu/libc.so.6',
    '7f0000003000-7f0000004000 r--p 00000000 fe:00 12 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2',
    '7f0000005000-7f0000006000 r--p 00000000 fe:00 13 /home/ann/my lib/libstdc++.so.6.0.33',
    '7f0000007000-7f0000008000 rw-p 00000000 00:00 0 [stack]',
    '7f0000009000-7f000000a000 r--p 00000000 fe:00 14 /home/ann/notes.txt',
  ].join('\n');
  assert.deepEqual(programRules(maps, '/home/ann/.nvm/bin/node'), [
    { path: '/home/ann/.nvm/bin/node', grant: 'execute' },
    { path: '/usr/lib/x86_64-linux-gnu/libc.so.6', grant: 'read' },
    { path: '/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2', grant: 'execute' },
    { path: '/home/ann/my lib/libstdc++.so.6.0.33', grant: 'read' },
    { path: '/usr/lib/x86_64-linux-gnu', grant: 'read' },
  ]);
});
