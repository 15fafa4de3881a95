import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { freehold, temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { realModel } from '../fixtures/real-models.ts';
import { startCommand } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';

const STARTER = 'smollm2-135m-instruct';
/** All that `restore.sh` uses beside the shell; there is no Node, no npm and no pip among them. */
const TOOLS = ['sh', 'tar', 'sha256sum', 'cat', 'mkdir', 'mv', 'rm', 'uname', 'readlink', 'dirname'];

function whyNot(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return 'the program in an archive is for Linux x64';
  return spawnSync('unshare', ['--net', 'true']).status === 0 ? undefined : 'needs a network namespace';
}

/** A machine that never had a network: its own namespace, a PATH with a few tools, an empty home. */
function bareMachine(folder: string) {
  const bin = path.join(folder, 'bin');
  mkdirSync(bin);
  for (const tool of TOOLS) {
    symlinkSync(
      execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim(),
      path.join(bin, tool),
    );
  }
  const unshare = execFileSync('sh', ['-c', 'command -v unshare'], { encoding: 'utf8' }).trim();
  return async (context: TestContext, ...command: string[]) => {
    const running = startCommand(context, [unshare, '--net', ...command], {
      cwd: folder,
      env: { PATH: bin, HOME: folder },
    });
    const { code } = await running.ended();
    return { code, stdout: running.stdout(), stderr: running.stderr() };
  };
}

test('an archive in parts restores on a machine with a shell, tar and nothing else, and the model answers', {
  skip: skipUnlessCi(whyNot()),
  timeout: 170_000,
}, async (context) => {
  await realModel(STARTER);
  const home = await temporaryHome(context);
  assert.equal((await freehold(['install', `catalog:${STARTER}`], { home })).code, 0);
  const stick = await temporaryFolder(context, 'freehold-stick-');
  const archive = path.join(stick, 'models.tar');
  const saved = await freehold(['archive', 'save', archive, '--part-size', '100MiB'], { home });
  assert.equal(saved.code, 0, saved.stderr);
  assert.deepEqual(
    readdirSync(stick),
    ['001', '002', '003', 'parts.json'].map((end) => `models.tar.${end}`),
  );

  const folder = await temporaryFolder(context, 'freehold-bare-');
  const onMachine = bareMachine(folder);
  const noNode = await onMachine(
    context,
    path.join(folder, 'bin', 'sh'),
    '-c',
    'command -v node npm pip curl',
  );
  assert.deepEqual([noNode.code === 0, noNode.stdout], [false, '']);
  const sh = path.join(folder, 'bin', 'sh');
  const unpack = await onMachine(context, sh, '-c', `cat ${archive}.0* | tar xf - restore.sh`);
  assert.equal(unpack.code, 0, unpack.stderr);
  const restored = await onMachine(context, sh, 'restore.sh', archive);
  assert.equal(restored.code, 0, restored.stderr);
  assert.match(
    restored.stdout,
    /^installed catalog\/smollm2-135m-instruct@1\.0\.0#q4_1 \(signed with this home's key\)$/m,
  );

  const program = path.join(folder, 'freehold', 'freehold');
  const question = 'The access code is 7261. What is the access code?';
  const run = await onMachine(
    context,
    program,
    'run',
    STARTER,
    '--temperature',
    '0',
    '--max-tokens',
    '30',
    question,
  );
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stdout, /7261/);

  const again = await onMachine(context, sh, 'restore.sh', archive);
  assert.match(again.stdout, /already installed/);
  assert.ok(!again.stderr.includes('unpacking'), again.stderr);

  await saveFromRestored(context, onMachine, folder, program);
});

/** What was unpacked is a whole Freehold: the next archive comes from it. */
async function saveFromRestored(
  context: TestContext,
  onMachine: ReturnType<typeof bareMachine>,
  folder: string,
  program: string,
): Promise<void> {
  const counted = await onMachine(
    context,
    program,
    'archive',
    'save',
    path.join(folder, 'b.tar'),
    '--dry-run',
  );
  assert.equal(counted.code, 0, counted.stderr);
  assert.match(counted.stdout, /Freehold itself, with Node/);
}

test('a script that meets a damaged archive, another program in its place, or nothing, says so and leaves nothing', {
  skip: skipUnlessCi(whyNot()),
  timeout: 100_000,
}, async (context) => {
  const home = await temporaryHome(context);
  await realModel(STARTER);
  assert.equal((await freehold(['install', `catalog:${STARTER}`], { home })).code, 0);
  const folder = await temporaryFolder(context, 'freehold-bare-');
  const archive = path.join(folder, 'a.tar');
  assert.equal((await freehold(['archive', 'save', archive], { home })).code, 0);
  const onMachine = bareMachine(folder);
  const sh = path.join(folder, 'bin', 'sh');
  const script = (...args: string[]) => onMachine(context, sh, 'restore.sh', ...args);
  assert.equal((await onMachine(context, sh, '-c', 'tar xf a.tar restore.sh')).code, 0);
  assert.match((await script('absent.tar')).stderr, /absent.tar does not exist/);
  execFileSync('dd', [
    'if=/dev/zero',
    `of=${archive}`,
    'bs=1M',
    'seek=140',
    'count=1',
    'conv=notrunc',
    'status=none',
  ]);
  const damaged = await script('a.tar');
  assert.deepEqual(
    [damaged.code, /is damaged: copy the archive again/.test(damaged.stderr)],
    [4, true],
    damaged.stderr,
  );
  assert.deepEqual(readdirSync(folder).sort(), ['a.tar', 'bin', 'restore.sh']);
  mkdirSync(path.join(folder, 'freehold'));
  const taken = await script('a.tar');
  assert.deepEqual([taken.code, /exists and is another one/.test(taken.stderr)], [2, true], taken.stderr);
});
