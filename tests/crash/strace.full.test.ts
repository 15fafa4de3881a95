import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { withCrashGround } from './crash-ground.ts';
import { homeIn, makeWorld } from './crash-run.ts';
import { type CrashGround, type CrashOperation, crashOperationNamed } from './operations.ts';
import { recordOperation } from './recorder.ts';

// The recorder believes Node. Here the kernel is asked: what it saw a process do is what was recorded, flushes included
// and in this order. Creations are left out, of which a trace does not say whether the file was there already.

/** Those that make no signature, whose length differs from one run to the next. */
const OPERATIONS = [
  'build',
  'install a folder',
  'remove the last package',
  'gc',
  'fetch what was half fetched',
  'trust a key',
];
const CALLS =
  'write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,' +
  'symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fchmod,chmod,fchmodat,ftruncate,truncate,copy_file_range,sendfile';
const CHILD = path.join(import.meta.dirname, 'operation-child.ts');

/** Not a failure with `CI=true`: containers often forbid tracing. The replay proves the same but for the flushes. */
const straceMissing =
  spawnSync('strace', ['-f', '-o', '/dev/null', 'true']).status === 0 ? false : 'strace cannot be used here';

describe('what the kernel sees is what is recorded', { skip: straceMissing }, () => {
  for (const name of OPERATIONS) {
    test(name, { timeout: 120_000 }, () =>
      withCrashGround(async (ground, folder) => {
        const operation = crashOperationNamed(name);
        const recorded = await recordedSteps(operation, ground, folder);
        assert.ok(recorded.some((step) => step.startsWith('flush')));
        assert.deepEqual(await tracedSteps(operation, ground, folder), recorded);
      }),
    );
  }
});

async function recordedSteps(
  operation: CrashOperation,
  ground: CrashGround,
  folder: string,
): Promise<string[]> {
  const world = await makeWorld(operation, ground, folder);
  const record = await recordOperation(world, async () => {
    await operation.run(ground, homeIn(world));
  });
  const steps = record.steps.map(({ label }) => label.replace(/^(write \d+) at \d+/, '$1'));
  return withoutRandomNames(steps.filter((label) => !label.startsWith('create ')));
}

async function tracedSteps(
  operation: CrashOperation,
  ground: CrashGround,
  folder: string,
): Promise<string[]> {
  const world = await makeWorld(operation, ground, folder);
  const output = path.join(folder, 'trace');
  // -y: the path of each descriptor; -s 0: no contents.
  const strace = ['-f', '-y', '-s', '0', '-e', `trace=${CALLS}`, '-o', output];
  const command = [process.execPath, CHILD, ground.folder, ground.url, homeIn(world), operation.name];
  // Not `spawnSync`: the server from which it fetches runs in this process.
  const { spawn } = await import('node:child_process');
  const child = spawn('strace', [...strace, ...command], { stdio: ['ignore', 'inherit', 'inherit'] });
  const [code] = await new Promise<[number | null]>((resolve) =>
    child.once('close', (status) => resolve([status])),
  );
  assert.equal(code, 0);
  const steps = wholeLines(fs.readFileSync(output, 'utf8')).flatMap((line) => stepOf(line, world) ?? []);
  // Node makes, and removes again, the target of a reflink that the file system refuses: a call that failed.
  const isRefusedReflink = (index: number) =>
    steps[index]?.startsWith('mode-set ') === true &&
    steps[index + 1] === steps[index]?.replace('mode-set', 'remove');
  return withoutRandomNames(
    steps.filter((_, index) => !isRefusedReflink(index) && !isRefusedReflink(index - 1)),
  );
}

/** Puts together what was interrupted by another thread: `fsync(3</a> <unfinished ...>`, `<... fsync resumed>) = 0`. */
function wholeLines(trace: string): string[] {
  const begun = new Map<string, string>();
  return trace.split('\n').flatMap((line) => {
    const [, pid = '', text = ''] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
    const unfinished = /^(.*) <unfinished \.\.\.>$/.exec(text)?.[1];
    if (unfinished !== undefined) {
      begun.set(pid, unfinished);
      return [];
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(text)?.[1];
    return resumed === undefined ? [text] : [`${begun.get(pid) ?? ''}${resumed}`];
  });
}

/** In the words of the recorder; undefined for what failed or concerns other files. */
function stepOf(line: string, world: string): string | undefined {
  const [, call = '', parameters = '', result = ''] = /^(\w+)\((.*)\)\s+= (-?\d+)/.exec(line) ?? [];
  if (call === '' || result.startsWith('-')) return undefined;
  const files = [...parameters.matchAll(/"([^"]*)"|\d+<([^>]*)>/g)]
    .map((match) => match[1] ?? match[2] ?? '')
    .filter((file) => file === world || file.startsWith(`${world}/`))
    .map((file) => path.relative(world, file) || '.');
  const [first, second] = files;
  if (first === undefined) return undefined;
  switch (call) {
    case 'write':
    case 'pwrite64':
      return `write ${result} ${first}`;
    case 'fsync':
    case 'fdatasync':
      return `flushed ${first}`;
    case 'rename':
    case 'link':
      return `${call} ${first} ${second}`;
    case 'unlink':
    case 'unlinkat':
    case 'rmdir':
      return `remove ${first}`;
    case 'mkdir':
      return `mkdir ${first}`;
    case 'fchmod':
      return `mode-set ${first}`;
    case 'ftruncate':
      return `resized ${first}`;
    default:
      return `${call} ${files.join(' ')}`;
  }
}

/** Temporary names are random: they are counted instead. */
function withoutRandomNames(steps: readonly string[]): string[] {
  const names: string[] = [];
  return steps.map((step) =>
    step.replace(/store\/tmp\/[\w-]+|\S*\.[0-9a-f]{16}\.tmp/g, (name) => {
      if (!names.includes(name)) names.push(name);
      return `temporary-${names.indexOf(name)}`;
    }),
  );
}
