import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { cliEnvironment, FREEHOLD_BIN, temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { realModel } from '../fixtures/real-models.ts';
import { type Ending, servedUrl, startFreehold } from '../fixtures/running-freehold.ts';
import { writeTinyProject } from '../fixtures/tiny-package.ts';

const REPOSITORY = path.dirname(path.dirname(FREEHOLD_BIN));
const STARTER = 'smollm2-135m-instruct';

/** What `npm pack` makes, unpacked into a project that has only the declared dependencies. */
describe('the published package', { timeout: 300_000 }, () => {
  let project = '';
  let bin = '';
  let home = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;

  before(async () => {
    const folder = await temporaryFolder(suite);
    const copy = path.join(folder, 'checkout');
    project = path.join(folder, 'project');
    home = await temporaryHome(suite);
    mkdirSync(copy);
    for (const name of [
      'package.json',
      'tsconfig.json',
      'tsconfig.build.json',
      'bin',
      'src',
      'spec',
      'docs',
      'LICENSE',
    ]) {
      cpSync(path.join(REPOSITORY, name), path.join(copy, name), { recursive: true });
    }
    symlinkSync(path.join(REPOSITORY, 'node_modules'), path.join(copy, 'node_modules'));
    // `prepack` builds.
    run('npm', ['pack', '--silent', '--pack-destination', folder], copy);
    const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? assert.fail('no tarball');
    const modules = path.join(project, 'node_modules');
    mkdirSync(modules, { recursive: true });
    linkProductionModules(modules);
    run('tar', ['-xzf', path.join(folder, tarball), '-C', modules], folder);
    run('mv', ['package', 'freehold'], modules);
    writeFileSync(path.join(project, 'package.json'), '{ "type": "module", "private": true }');
    bin = path.join(modules, 'freehold', 'bin', 'freehold.js');
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  const freehold = (args: readonly string[]) => run(process.execPath, [bin, ...args], project, home);

  test('holds what runs and what documents it, and no tests or sources', () => {
    const names = readdirSync(path.join(project, 'node_modules', 'freehold'), { recursive: true }).map(
      String,
    );
    assert.deepEqual(
      names.filter((name) => /\.test\.|(^|\/)(tests|fixtures|src)\/|(?<!\.d)\.ts$|\.gguf$/.test(name)),
      [],
    );
    for (const wanted of [
      'LICENSE',
      'dist/index.js',
      'dist/index.d.ts',
      'spec/PACKAGE.md',
      'bin/freehold.js',
    ]) {
      assert.ok(names.includes(wanted), wanted);
    }
  });

  test('runs from the command line', () => {
    const { version } = JSON.parse(readFileSync(path.join(REPOSITORY, 'package.json'), 'utf8')) as {
      version: string;
    };
    assert.equal(freehold(['--version']).trim(), version);
    assert.match(freehold(['catalog', 'list']), new RegExp(STARTER));
    assert.match(freehold(['doctor']), /sandbox: files/);
  });

  test('can be imported by its three names, with types', () => {
    const program = `
      import { openHome, FreeholdError, FREEHOLD_VERSION } from 'freehold';
      import { verifyPackage, Digest } from 'freehold/verify';
      import { parseReference, readGguf, memoryByteSource } from 'freehold/format';
      const home: typeof openHome = openHome;
      console.log([typeof home, typeof verifyPackage, typeof readGguf, FREEHOLD_VERSION, Digest.of(Buffer.from('')).slice(0, 12)].join());
      console.log(parseReference('acme/tiny@1.0.0').kind);
      try { parseReference('../x'); } catch (error) { console.log(error instanceof FreeholdError && error.code); }
      await readGguf(memoryByteSource(Buffer.from('GGUF')), 'x').catch((error: unknown) => console.log((error as FreeholdError).code));
    `;
    const file = path.join(project, 'program.ts');
    writeFileSync(file, program);
    const [types, kind, refusal, gguf] = run(process.execPath, [file], project).split('\n');
    assert.match(types ?? '', /^function,function,function,\d+\.\d+\.\d+,sha256:e3b0c$/);
    assert.deepEqual([kind, refusal, gguf], ['installed', 'NAME_INVALID', 'GGUF_INVALID']);
    const compiler = path.join(REPOSITORY, 'node_modules', 'typescript', 'bin', 'tsc');
    const roots = ['--types', 'node', '--typeRoots', path.join(REPOSITORY, 'node_modules', '@types')];
    const options = [
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'esnext',
      '--skipLibCheck',
      'false',
      ...roots,
    ];
    run(process.execPath, [compiler, ...options, file], project);
    const inner = "await import('freehold/dist/index.js')";
    assert.throws(
      () => run(process.execPath, ['--input-type=module', '--eval', inner], project),
      /ERR_PACKAGE_PATH_NOT_EXPORTED/,
    );
  });

  test('fetches, answers and serves: its child processes are built as well', async (context) => {
    await realModel(STARTER);
    const up = startFreehold(context, ['up', '--listen', '127.0.0.1:0'], { home, bin, cwd: project });
    const url = await servedUrl(up);
    assert.match(up.stderr(), /loaded, in a sandbox/);
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
    assert.deepEqual(await up.stop(), { code: 0, signal: null } satisfies Ending);
  });

  test('quantizes', async () => {
    const folder = await writeTinyProject(path.join(project, 'tiny'), { yaml: ['variants: [q8_0]'] });
    assert.match(freehold(['build', folder]), /built acme\/tiny@1\.0\.0#q8_0/);
  });
});

/** Only what the package declares: a development tool that the code needs would be missing. */
function linkProductionModules(target: string): void {
  const lock = JSON.parse(readFileSync(path.join(REPOSITORY, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  for (const [folder, { dev }] of Object.entries(lock.packages)) {
    const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)$/.exec(folder)?.[1];
    const source = path.join(REPOSITORY, folder);
    if (name === undefined || dev === true || !existsSync(source)) continue;
    mkdirSync(path.dirname(path.join(target, name)), { recursive: true });
    symlinkSync(source, path.join(target, name));
  }
}

function run(command: string, args: readonly string[], cwd: string, home = cwd): string {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...cliEnvironment(home), npm_config_update_notifier: 'false' },
  });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}
