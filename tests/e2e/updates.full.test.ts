import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type CliResult,
  cliEnvironment,
  FREEHOLD_BIN,
  freehold,
  outcomeOf,
  temporaryFolder,
} from '../fixtures/freehold-home.ts';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { registryMissing, startRegistryServer } from '../fixtures/registry-server.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { writeTinyProject } from '../fixtures/tiny-package.ts';

const NAME = 'acme/tiny';
/** Promised is one second, on a machine that does nothing else; starting Node takes half of it here. */
const ROLLBACK_MS_MAX = 5_000;

const missing = skipUnlessCi(
  registryMissing('docker-registry') ??
    (spawnSync('faketime', ['--version']).error === undefined ? undefined : 'needs the program faketime'),
);

interface Ground {
  readonly publisher: (...args: string[]) => Promise<CliResult>;
  readonly customer: (...args: string[]) => Promise<CliResult>;
  /** As the customer, with a clock that is so many days ahead. */
  readonly later: (days: number, ...args: string[]) => CliResult;
  readonly push: (version: string, seed: number) => Promise<void>;
  readonly repository: string;
  readonly folder: string;
}

/** Two homes with a real registry between them, and version 1.0.0 in use at the customer's. */
async function makeGround(context: TestContext): Promise<Ground> {
  const folder = await temporaryFolder(context, 'freehold-updates-');
  const { host } = await startRegistryServer(context, 'docker-registry');
  const repository = `oci://${host}/acme/tiny`;
  const runIn = (name: string) => {
    const home = path.join(folder, name);
    return (...args: string[]) => freehold(args, { home, cwd: folder, env: { HOME: folder } });
  };
  const [publisher, customer] = [runIn('publisher'), runIn('customer')];
  const push = async (version: string, seed: number) => {
    const project = await writeTinyProject(path.join(folder, version), {
      name: NAME,
      version,
      model: { seed },
    });
    fine(await publisher('build', project));
    fine(await publisher('sign', `${NAME}@${version}`, '--key', 'acme'));
    fine(await publisher('push', `${NAME}@${version}`, repository));
  };
  const later = (days: number, ...args: string[]): CliResult => {
    const home = path.join(folder, 'customer');
    const command = ['-f', `+${days}d`, process.execPath, FREEHOLD_BIN, ...args];
    const run = spawnSync('faketime', command, {
      cwd: folder,
      env: { ...cliEnvironment(home), HOME: folder },
    });
    return { code: run.status, stdout: run.stdout.toString(), stderr: run.stderr.toString() };
  };
  fine(await publisher('key', 'new', 'acme'));
  await push('1.0.0', 1);
  fine(await publisher('channel', 'create', NAME, repository, '--key', 'acme'));
  fine(await publisher('channel', 'promote', `${NAME}@1.0.0`, 'stable'));
  const pem = path.join(folder, 'acme.pub');
  await writeFile(pem, `${fine(await publisher('key', 'show', 'acme')).stdout}`);
  fine(await customer('trust', 'add', 'acme/*', pem));
  fine(await customer('update', 'follow', NAME, repository, 'stable'));
  fine(await customer('update', 'apply'));
  return { publisher, customer, later, push, repository, folder };
}

function fine(result: CliResult): CliResult {
  assert.equal(result.code, 0, result.stderr + result.stdout);
  return result;
}

async function inUse(customer: Ground['customer']): Promise<string> {
  const rows = JSON.parse(fine(await customer('--json', '--offline', 'update', 'check')).stdout) as {
    installed: string;
  }[];
  return rows[0]?.installed ?? 'nothing';
}

test('two homes and a registry: promote, check, apply, roll back, yank, advise, expire', {
  skip: missing,
}, async (context) => {
  const { publisher, customer, later, push, repository, folder } = await makeGround(context);
  assert.equal(await inUse(customer), '1.0.0');
  assert.match(fine(await customer('update', 'check')).stdout, /acme\/tiny +1\.0\.0 .* up to date/);

  await push('1.1.0', 2);
  fine(await publisher('channel', 'promote', `${NAME}@1.1.0`, 'stable', '--rollout', '0'));
  assert.match(fine(await customer('update', 'check', '--exit-code')).stdout, /1\.1\.0 .*0 % have it so far/);
  assert.match(fine(await customer('update', 'apply')).stdout, /--now does not wait/);
  fine(await publisher('channel', 'promote', `${NAME}@1.1.0`, 'stable'));
  assert.equal((await customer('update', 'check', '--exit-code')).code, 1);
  assert.match(
    fine(await customer('update', 'apply', 'tiny')).stdout,
    /in use acme\/tiny@1\.1\.0, instead of 1\.0\.0/,
  );

  const begin = performance.now();
  assert.match(
    fine(await customer('--offline', 'update', 'rollback')).stdout,
    /in use acme\/tiny@1\.0\.0, instead of 1\.1\.0/,
  );
  const tookMs = performance.now() - begin;
  context.diagnostic(`rolled back in ${Math.round(tookMs)} ms`);
  assert.ok(tookMs < ROLLBACK_MS_MAX);
  assert.equal(await inUse(customer), '1.0.0');
  assert.match(fine(await customer('list')).stdout, /1\.1\.0 .*rolled-back/);
  assert.match(fine(await customer('update', 'apply')).stdout, /is not taken again/);

  const notice = [
    '--severity',
    'high',
    '--affected',
    '<1.2.0',
    '--title',
    'Talks too much',
    '--action',
    'Update',
  ];
  fine(await publisher('channel', 'advise', NAME, 'ACME-2026-001', ...notice, '--fixed-in', '1.2.0'));
  fine(await publisher('channel', 'yank', `${NAME}@1.1.0`, '--reason', 'talks far too much'));
  const checked = await customer('update', 'check', '--exit-code');
  assert.equal(checked.code, 1);
  assert.match(
    checked.stdout,
    /high ACME-2026-001 acme\/tiny@1\.0\.0: Talks too much\. Update \(fixed in 1\.2\.0\)/,
  );
  const listed = fine(await customer('--offline', 'list')).stdout;
  assert.match(listed, /withdrawn acme\/tiny@1\.1\.0#\S+: talks far too much/);
  assert.match(listed, /high ACME-2026-001/);

  const expired = later(31, 'update', 'check');
  assert.equal(expired.code, 4);
  assert.match(expired.stdout, /\[CHANNEL_EXPIRED\]\n {2}hint: check the clock/);
  assert.equal(later(31, 'update', 'apply').code, 4);
  fine(later(31, 'verify', NAME));
  assert.match(fine(later(31, 'list')).stdout, /1\.0\.0/);

  const root = fine(await publisher('channel', 'show', NAME, '--print-root')).stdout;
  await writeFile(path.join(folder, 'root.json'), root);
  const pinned = fine(await customer('channel', 'trust', NAME, '--root', path.join(folder, 'root.json')));
  assert.match(pinned.stdout, /root 1 of the channels of acme\/tiny is trusted/);
  assert.match(
    fine(await publisher('channel', 'show', NAME)).stdout,
    /root 1 {2}sha256:[0-9a-f]{64} {2}ends/,
  );
  assert.equal(
    outcomeOf(await publisher('channel', 'create', NAME, repository, '--key', 'acme')),
    'ALREADY_EXISTS',
  );
});

test('an update is tried with a suite by the models themselves', {
  skip: missing || skipUnlessCi(llamaLibraryMissing()),
}, async (context) => {
  const { publisher, customer, push, repository, folder } = await makeGround(context);
  const prompts = ['one', 'two', 'three'];
  const cases = [];
  for (const prompt of prompts) {
    const answered = fine(await customer('run', 'tiny', prompt, '--temperature', '0', '--max-tokens', '256'));
    cases.push({ prompt, expected: answered.stdout });
  }
  const suite = path.join(folder, 'suite.jsonl');
  await writeFile(suite, cases.map((each) => `${JSON.stringify(each)}\n`).join(''));
  await writeFile(
    path.join(folder, 'freehold.yaml'),
    `models:\n  tiny: { from: "${repository}:^1", suite: suite.jsonl }\n`,
  );
  await push('1.1.0', 2);
  fine(await publisher('channel', 'promote', `${NAME}@1.1.0`, 'stable'));
  const refused = await customer('update', 'apply');
  assert.equal(refused.code, 1, refused.stderr);
  assert.match(refused.stdout, /refused acme\/tiny@1\.1\.0: \d of 3 cases right, the version in use has 3/);
  assert.equal(await inUse(customer), '1.0.0');
  assert.match(fine(await customer('list')).stdout, /1\.1\.0 .*refused/);
  await push('1.2.0', 1);
  fine(await publisher('channel', 'promote', `${NAME}@1.2.0`, 'stable'));
  assert.match(
    fine(await customer('update', 'apply')).stdout,
    /in use acme\/tiny@1\.2\.0, .*3 of 3 cases right/,
  );
  assert.equal(await readFile(suite, 'utf8'), cases.map((each) => `${JSON.stringify(each)}\n`).join(''));
});
