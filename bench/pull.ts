import { execFile, spawnSync } from 'node:child_process';
import { copyFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { openFreehold } from '../src/surface/app/freehold.ts';
import { addTrust, publicKeyOf } from '../src/surface/app/keys-and-trust.ts';
import { freehold, temporaryFolder } from '../tests/fixtures/freehold-home.ts';
import { realModel } from '../tests/fixtures/real-models.ts';
import { startRegistryServer } from '../tests/fixtures/registry-server.ts';
import { startFreehold } from '../tests/fixtures/running-freehold.ts';
import type { Benchmark, BenchmarkContext, Row, Sample, Scope, Wanted } from './benchmark.ts';
import { median, quantity, spread } from './benchmark.ts';
import { endedChildrenCpuSeconds, treePeakMebibytes } from './process-usage.ts';

const runFile = promisify(execFile);
const MODEL = 'qwen2.5-coder-1.5b-instruct';
const REPOSITORY = 'acme/large';
const MEBIBYTE = 1 << 20;
const WANTED: Wanted = { kind: 'at-least', value: 1 };
const WANTED_OF_DISK: Wanted = { kind: 'at-least', value: 0.95 };
const MEMORY_MEBIBYTES_MAX = 150;
const LOOK_INTERVAL_MS = 20;

/** One contender: puts the package into a folder and makes it durable. */
interface Contender {
  readonly name: string;
  pull(folder: string): Promise<void>;
}

/** A package of 1.1 GB out of a registry on this machine, onto the disk for good. */
export const pullBenchmark: Benchmark = {
  name: 'pull',
  title: 'Pulling a package of 1.1 GB',
  how:
    'From a registry (distribution v3.1.0) on loopback into an empty folder, in turn with other clients, each followed by ' +
    '`sync`. Freehold verifies signature and digests, installs and flushes; its start is part of it. The ratio is against ' +
    'the best of the others in the same round. `dd` writes the same bytes from the page cache with `conv=fsync`.',
  async run(context) {
    const shop = await makeShop(context.scope);
    const { samples, memory } = await measureAll(shop, context);
    return [...rowsOf(samples), ...memory];
  },
};

interface Shop {
  readonly folder: string;
  readonly host: string;
  readonly tag: string;
  readonly weights: string;
  readonly sizeBytes: number;
  readonly publisherHome: string;
  readonly trust: string;
}

async function makeShop(scope: Scope): Promise<Shop> {
  const weights = await realModel(MODEL);
  const folder = await temporaryFolder(scope, 'freehold-bench-pull-');
  const publisherHome = path.join(folder, 'publisher');
  const project = path.join(folder, 'project');
  const publisher = await openFreehold({ env: {}, home: publisherHome });
  await runFile('mkdir', ['-p', project]);
  await copyFile(weights, path.join(project, 'large.gguf'));
  const yaml = [`name: ${REPOSITORY}`, 'version: 1.0.0', 'license: Apache-2.0', 'weights: large.gguf'];
  await writeFile(path.join(project, 'model.yaml'), `${yaml.join('\n')}\n`);
  await command(['build', project], publisherHome);
  await rm(project, { recursive: true });
  await command(['key', 'new', 'acme'], publisherHome);
  await command(['sign', REPOSITORY, '--key', 'acme'], publisherHome);
  const { host, origin } = await startRegistryServer(scope, 'registry');
  await command(['push', REPOSITORY, `oci://${host}/${REPOSITORY}`], publisherHome);
  const listed = (await (await fetch(`${origin}/v2/${REPOSITORY}/tags/list`)).json()) as { tags: string[] };
  const tag = listed.tags.find((item) => item.startsWith('1.0.0-'));
  if (tag === undefined) throw new Error('nothing was pushed');
  const { size: sizeBytes } = await stat(weights);
  const trust = (await publicKeyOf(publisher, 'acme')).publicKeyPem;
  return { folder, host, tag, weights, sizeBytes, publisherHome, trust };
}

function contenders(shop: Shop): Contender[] {
  const { host, tag, weights, folder } = shop;
  const image = `${host}/${REPOSITORY}:${tag}`;
  const env = { PATH: process.env.PATH, HOME: folder };
  const tool = async (program: string, ...args: string[]) => {
    await runFile(program, args, { env, cwd: folder });
    await runFile('sync');
  };
  spawnSync('regctl', ['registry', 'set', '--tls', 'disabled', host], { env });
  const others: Contender[] = [
    { name: 'crane', pull: (to) => tool('crane', 'pull', '--format=oci', '--insecure', image, to) },
    {
      name: 'skopeo',
      pull: (to) => tool('skopeo', 'copy', '--src-tls-verify=false', `docker://${image}`, `oci:${to}:x`),
    },
    { name: 'regctl', pull: (to) => tool('regctl', 'image', 'copy', image, `ocidir://${to}`) },
  ];
  return [
    { name: 'freehold', pull: (home) => install(shop, home) },
    ...others.filter(({ name }) => spawnSync(name, ['--help']).error === undefined),
    { name: 'dd', pull: (to) => tool('dd', `if=${weights}`, `of=${to}`, 'bs=1M', 'conv=fsync') },
  ];
}

async function prepareHome(shop: Shop, home: string): Promise<void> {
  await addTrust(await openFreehold({ env: {}, home }), 'acme/*', shop.trust);
}

async function install(shop: Shop, home: string): Promise<void> {
  await command(['install', `oci://${shop.host}/${REPOSITORY}:${shop.tag}`], home);
  await runFile('sync');
}

async function measureAll(shop: Shop, { rounds, say }: BenchmarkContext) {
  const all = contenders(shop);
  const samples = new Map<string, Sample[]>(all.map(({ name }) => [name, []]));
  const target = path.join(shop.folder, 'target');
  for (let round = 0; round < rounds; round++) {
    for (const { name, pull } of all) {
      if (name === 'freehold') await prepareHome(shop, target);
      await runFile('sync');
      const before = endedChildrenCpuSeconds();
      const startedMs = performance.now();
      await pull(target);
      const seconds = (performance.now() - startedMs) / 1000;
      const value = shop.sizeBytes / MEBIBYTE / seconds;
      say(`${name}: ${value.toFixed(0)} MiB/s`);
      samples.get(name)?.push({ value, cpuSeconds: endedChildrenCpuSeconds() - before });
      await rm(target, { recursive: true });
    }
  }
  await prepareHome(shop, target);
  const pulled = await peakOf(['install', `oci://${shop.host}/${REPOSITORY}:${shop.tag}`], target);
  const elsewhere = `oci://${shop.host}/again/large`;
  const pushed = await peakOf(['push', REPOSITORY, elsewhere], shop.publisherHome);
  return { samples, memory: [memoryRow('pull', pulled), memoryRow('push', pushed)] };
}

/** Peak of resident memory of one command. */
async function peakOf(args: readonly string[], home: string): Promise<number> {
  let peak = 0;
  const cleanups: (() => unknown)[] = [];
  const running = startFreehold({ after: (cleanup) => void cleanups.push(cleanup as () => unknown) }, args, {
    home,
  });
  const timer = setInterval(() => {
    peak = Math.max(peak, treePeakMebibytes(running.pid));
  }, LOOK_INTERVAL_MS);
  const { code } = await running.ended();
  clearInterval(timer);
  for (const cleanup of cleanups) await cleanup();
  if (code !== 0) throw new Error(running.stderr());
  return peak;
}

function memoryRow(what: string, mebibytes: number): Row {
  return {
    what: `resident memory of a ${what}, at its peak`,
    ours: quantity(mebibytes, 'MiB'),
    peer: `at most ${MEMORY_MEBIBYTES_MAX} MiB are wanted`,
  };
}

function rowsOf(samples: ReadonlyMap<string, readonly Sample[]>): Row[] {
  const ours = samples.get('freehold') ?? [];
  const clients = [...samples.keys()].filter((name) => name !== 'freehold' && name !== 'dd');
  const valueIn = (name: string, round: number) => samples.get(name)?.[round]?.value ?? 0;
  const best = ours.map((_sample, round) => Math.max(...clients.map((name) => valueIn(name, round))));
  const ratio = (peers: readonly number[]) =>
    spread(ours.map(({ value }, round) => value / (peers[round] ?? 0)));
  const row = (what: string, peers: readonly number[], wanted?: Wanted): Row => ({
    what,
    ours: quantity(median(ours.map(({ value }) => value)), 'MiB/s'),
    peer: quantity(median(peers), 'MiB/s'),
    ratio: ratio(peers),
    ...(wanted === undefined ? {} : { wanted }),
  });
  return [
    ...(clients.length === 0 ? [] : [row('against the best of the others', best, WANTED)]),
    ...clients.map((name) => ({
      ...row(
        `against ${name}`,
        (samples.get(name) ?? []).map(({ value }) => value),
      ),
      cpuSeconds: `${cpuOf(ours)} / ${cpuOf(samples.get(name) ?? [])}`,
    })),
    row(
      'against `dd conv=fsync` of the same bytes',
      (samples.get('dd') ?? []).map(({ value }) => value),
      WANTED_OF_DISK,
    ),
  ];
}

const cpuOf = (samples: readonly Sample[]) => median(samples.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2);

async function command(args: readonly string[], home: string): Promise<void> {
  const { code, stderr } = await freehold([...args, '--quiet'], { home });
  if (code !== 0) throw new Error(`freehold ${args.join(' ')}: ${stderr}`);
}
