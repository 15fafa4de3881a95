import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { Digest } from '../src/core/base/digest.ts';
import { openStore } from '../src/io/store/store.ts';
import { freehold, temporaryFolder } from '../tests/fixtures/freehold-home.ts';
import { alternate, type Benchmark, comparedRow, type Sample } from './benchmark.ts';
import { STARTER, starterModel } from './models.ts';
import { endedChildrenCpuSeconds } from './process-usage.ts';
import { homeWithStarter } from './servers.ts';

const runFile = promisify(execFile);
const WANTED = { kind: 'at-most', value: 1.2 } as const;

/** Taking a model into the store: copied, hashed, on the disk for good. */
export const importBenchmark: Benchmark = {
  name: 'import',
  title: 'Importing a model of 98 MB',
  how:
    'The starter from the page cache into a new store, in turn with `cp`, `sync FILE` and `sha256sum` of the copy on the ' +
    'same disk. Once the import alone, as every install does it (`reflink-or-copy`, within a lease), once the whole ' +
    'command `freehold install file:FOLDER` into a home that trusts the publisher, start and signatures included.',
  async run({ scope, rounds, say }) {
    const { file } = await starterModel();
    const folder = await temporaryFolder(scope, 'freehold-bench-');
    const plain = () => copyPlainly(file, folder);
    say('import: the store');
    const store = await alternate(rounds, () => importIntoStore(file, folder), plain);
    say('import: freehold install');
    const home = await homeWithStarter(scope);
    const exported = path.join(folder, 'exported');
    await command(['export', STARTER, exported], home);
    const install = await alternate(rounds, () => installFolder(exported, home), plain);
    return [
      comparedRow('the store', store, 'ms', WANTED),
      comparedRow('`freehold install file:FOLDER`', install, 'ms'),
    ];
  },
};

/** What anybody would do by hand. */
async function copyPlainly(file: string, folder: string): Promise<Sample> {
  const copy = path.join(folder, randomUUID());
  const before = endedChildrenCpuSeconds();
  const startedMs = performance.now();
  await runFile('cp', [file, copy]);
  await runFile('sync', [copy]);
  await runFile('sha256sum', [copy]);
  const value = performance.now() - startedMs;
  const cpuSeconds = endedChildrenCpuSeconds() - before;
  await rm(copy);
  return { value, cpuSeconds };
}

async function importIntoStore(file: string, folder: string): Promise<Sample> {
  const where = path.join(folder, randomUUID());
  const store = await openStore(where);
  const before = process.cpuUsage();
  const startedMs = performance.now();
  const { digest } = await store.withLease(() =>
    store.importFile(file, { how: { kind: 'reflink-or-copy' } }),
  );
  const value = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(before);
  if (Digest.hex(digest) !== path.basename(file)) throw new Error(`imported ${digest}`);
  await rm(where, { recursive: true });
  return { value, cpuSeconds: (user + system) / 1e6 };
}

/** The home keeps its keys and trust; the package leaves it before. */
async function installFolder(exported: string, home: string): Promise<Sample> {
  await command(['remove', STARTER], home);
  await command(['gc'], home);
  const before = endedChildrenCpuSeconds();
  const startedMs = performance.now();
  await command(['install', `file:${exported}`], home);
  return { value: performance.now() - startedMs, cpuSeconds: endedChildrenCpuSeconds() - before };
}

async function command(args: readonly string[], home: string): Promise<void> {
  const { code, stderr } = await freehold([...args, '--quiet'], { home });
  if (code !== 0) throw new Error(`freehold ${args.join(' ')}: ${stderr}`);
}
