/**
 * Builds llama.cpp's own `llama-bench` and `llama-server`, of the release that our pinned libraries were built from, so
 * that benchmarks compare programs and not versions: `node bench/build-peers.ts [JOBS]` (default 2, always at the
 * lowest priority). The sources are the git bundle inside npm `node-llama-cpp`; nothing else is fetched. Can be run
 * again at any time: what is built stays, what was cut short goes on.
 *
 * The compiler may use everything that this processor has (`GGML_NATIVE`), as somebody who builds for their own
 * machine would have it; our prebuilt libraries choose among fourteen variants at load. OpenMP is used where the
 * compiler has it, which is llama.cpp's default; our libraries have ggml's own threads.
 */
import { execFile, spawn } from 'node:child_process';
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { findPeers, libraryVersion, type PeerBuild, peersFolder, SOURCE_PACKAGE } from './peers.ts';

const TARGETS = ['llama-bench', 'llama-server'] as const;
const OPTIONS = [
  '-DCMAKE_BUILD_TYPE=Release',
  '-DGGML_NATIVE=ON',
  '-DBUILD_SHARED_LIBS=OFF',
  // The web page would be fetched while building.
  '-DLLAMA_USE_PREBUILT_UI=OFF',
  '-DLLAMA_BUILD_UI=OFF',
  // Only for fetching models, which no benchmark does.
  '-DLLAMA_OPENSSL=OFF',
  '-DLLAMA_BUILD_TESTS=OFF',
  '-DLLAMA_BUILD_EXAMPLES=OFF',
] as const;
const LOWEST_PRIORITY = '19';

const runFile = promisify(execFile);
function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** The same, with its output on ours. */
async function runLoudly(file: string, args: readonly string[]): Promise<void> {
  say(`$ ${[file, ...args].join(' ')}`);
  const child = spawn(file, args, { stdio: 'inherit' });
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.on('error', reject);
  child.on('close', resolve);
  const code = await promise;
  if (code !== 0) throw new Error(`${file} ended with ${code}`);
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

/** Clones the bundle of the npm package into `source`; whole or absent. */
async function fetchSource(version: string, folder: string): Promise<void> {
  const source = path.join(folder, 'source');
  if (await exists(source)) return say(`sources are there: ${source}`);
  const temporary = await mkdtemp(path.join(os.tmpdir(), 'freehold-peers-'));
  try {
    const spec = `${SOURCE_PACKAGE}@${version}`;
    say(`fetching ${spec} with npm`);
    await runFile('npm', ['pack', spec, '--silent', '--pack-destination', temporary], { cwd: temporary });
    const archive = path.join(temporary, `${SOURCE_PACKAGE}-${version}.tgz`);
    await runFile('tar', ['-xzf', archive, '-C', temporary, 'package/llama']);
    const llama = path.join(temporary, 'package', 'llama');
    const partial = `${source}.partial`;
    await rm(partial, { recursive: true, force: true });
    await runFile('git', ['clone', '--quiet', path.join(llama, 'gitRelease.bundle'), partial]);
    const info = await readFile(path.join(llama, 'llama.cpp.info.json'), 'utf8');
    await writeFile(path.join(folder, 'info.json'), info);
    await rename(partial, source);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function describeBuild(folder: string): Promise<PeerBuild> {
  const info = JSON.parse(await readFile(path.join(folder, 'info.json'), 'utf8')) as { tag: string };
  const commit = await runFile('git', ['-C', path.join(folder, 'source'), 'rev-parse', 'HEAD']);
  const cache = await readFile(path.join(folder, 'build', 'CMakeCache.txt'), 'utf8');
  const compilerPath = /^CMAKE_CXX_COMPILER:\w+=(.*)$/m.exec(cache)?.[1] ?? 'c++';
  const compiler = await runFile(compilerPath, ['--version']);
  return {
    release: info.tag,
    commit: commit.stdout.trim(),
    compiler: compiler.stdout.split('\n')[0] ?? '',
    options: OPTIONS,
  };
}

async function main([jobs = '2']: readonly string[]): Promise<void> {
  const folder = await peersFolder();
  const before = await findPeers();
  if (before !== undefined) return say(`already built: ${before.llamaBench}, ${before.llamaServer}`);
  await mkdir(folder, { recursive: true });
  await fetchSource(await libraryVersion(), folder);
  const build = path.join(folder, 'build');
  const nice = (args: readonly string[]) => runLoudly('nice', ['-n', LOWEST_PRIORITY, ...args]);
  await nice(['cmake', '-S', path.join(folder, 'source'), '-B', build, '-G', 'Ninja', ...OPTIONS]);
  await nice(['ninja', '-C', build, '-j', jobs, ...TARGETS]);
  await writeFile(
    path.join(folder, 'build.json'),
    `${JSON.stringify(await describeBuild(folder), null, 2)}\n`,
  );
  say(`built: ${TARGETS.map((name) => path.join(build, 'bin', name)).join(', ')}`);
}

await main(process.argv.slice(2));
