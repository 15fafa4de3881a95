import { execFile } from 'node:child_process';
import { cp, symlink } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { cliEnvironment, temporaryFolder } from '../tests/fixtures/freehold-home.ts';
import { type Benchmark, median, quantity, type Row, repeat, type Sample, type Scope } from './benchmark.ts';
import { endedChildrenCpuSeconds } from './process-usage.ts';
import { homeWithStarter } from './servers.ts';

const runFile = promisify(execFile);
const ROOT = path.join(import.meta.dirname, '..');
/** A start takes a quarter of a second, so that many more cost nothing. */
const STARTS_PER_ROUND = 3;
const WANTED_MS = 150;

/** The shortest command that does something: what every start costs. */
export const listBenchmark: Benchmark = {
  name: 'list',
  title: '`freehold list`',
  how:
    `Median time of one start, with one model installed: from the checkout (types are stripped, once, and kept) and as ` +
    `published (JavaScript); below ${WANTED_MS} ms is wanted. Beside it Node itself with nothing to do.`,
  async run({ scope, rounds, say }) {
    const home = await homeWithStarter(scope);
    const published = await buildPublished(scope);
    say('list: starts');
    const list = (root: string) => [path.join(root, 'bin', 'freehold.js'), 'list'];
    const variants = [
      ['published', list(published), WANTED_MS],
      ['from the checkout', list(ROOT), WANTED_MS],
      ['`node -e 0`', ['-e', '0'], undefined],
    ] as const;
    // The first start fills the cache of compiled code.
    for (const [, args] of variants) await start(args, home);
    const samples = new Map<string, Sample[]>(variants.map(([what]) => [what, []]));
    await repeat(rounds * STARTS_PER_ROUND, async () => {
      for (const [what, args] of variants) samples.get(what)?.push(await start(args, home));
      return { value: 0, cpuSeconds: 0 };
    });
    return variants.map(([what, , wantedMs]) => row(what, samples.get(what) ?? [], wantedMs));
  },
};

function row(what: string, samples: readonly Sample[], wantedMs: number | undefined): Row {
  const milliseconds = median(samples.map(({ value }) => value));
  const isMissed = wantedMs !== undefined && milliseconds >= wantedMs;
  return {
    what: isMissed ? `${what}: **not below ${wantedMs} ms**` : what,
    ours: quantity(milliseconds, 'ms'),
    peer: '–',
    cpuSeconds: median(samples.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2),
  };
}

async function start(args: readonly string[], home: string): Promise<Sample> {
  const before = endedChildrenCpuSeconds();
  const startedMs = performance.now();
  await runFile(process.execPath, [...args], { env: cliEnvironment(home) });
  return { value: performance.now() - startedMs, cpuSeconds: endedChildrenCpuSeconds() - before };
}

/** The files of the npm package in a folder of their own, with the checkout's dependencies. */
async function buildPublished(scope: Scope): Promise<string> {
  const folder = await temporaryFolder(scope, 'freehold-published-');
  const compiler = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const target = ['--outDir', path.join(folder, 'dist')];
  await runFile(process.execPath, [compiler, '-p', path.join(ROOT, 'tsconfig.build.json'), ...target]);
  for (const name of ['bin', 'package.json', 'spec']) {
    await cp(path.join(ROOT, name), path.join(folder, name), { recursive: true });
  }
  await symlink(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'));
  return folder;
}
