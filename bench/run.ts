/**
 * Runs the benchmarks, or those that are named, and writes their tables into `bench/RESULTS.md`:
 * `npm run bench -- [NAME…] [--rounds N] [--threads N,N] [--no-write]`. Meant for a quiet machine. The peers come from `bench/build-peers.ts`;
 * without them only our own side is measured.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  type Benchmark,
  type BenchmarkContext,
  cleanUpOnSignals,
  isMet,
  type Row,
  withScope,
} from './benchmark.ts';
import { coldStartBenchmark } from './cold-start.ts';
import { constrainedBenchmark } from './constrained.ts';
import { decodeBenchmark } from './decode.ts';
import { firstTokenBenchmark } from './first-token.ts';
import { importBenchmark } from './import.ts';
import { listBenchmark } from './list.ts';
import { describeMoment, threadCounts } from './machine.ts';
import { findPeers, HOW_TO_BUILD_PEERS, type Peers } from './peers.ts';
import { promptBenchmark } from './prompt.ts';
import { pullBenchmark } from './pull.ts';
import { type Section, spreadText, withSection } from './results-page.ts';
import { streamsBenchmark } from './streams.ts';

const BENCHMARKS: readonly Benchmark[] = [
  decodeBenchmark,
  promptBenchmark,
  streamsBenchmark,
  firstTokenBenchmark,
  coldStartBenchmark,
  constrainedBenchmark,
  importBenchmark,
  listBenchmark,
  pullBenchmark,
];
const RESULTS = path.join(import.meta.dirname, 'RESULTS.md');
/** Odd, so that the median is one of them. */
const ROUNDS = '7';

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: ROUNDS },
      threads: { type: 'string', default: threadCounts().join(',') },
      'no-write': { type: 'boolean', default: false },
    },
  });
  const chosen = positionals.length === 0 ? BENCHMARKS : positionals.map(find);
  const peers = await findPeers();
  say(peers === undefined ? HOW_TO_BUILD_PEERS : `peers: llama.cpp ${peers.build.release}`);
  const settings = {
    peers,
    rounds: wholeNumber(values.rounds),
    threadCounts: values.threads.split(',').map(wholeNumber),
    say: (text: string) => say(`  … ${text}`),
  };
  for (const benchmark of chosen) {
    const section = await measure(benchmark, settings);
    if (values['no-write']) continue;
    await writeFile(RESULTS, withSection(await readFile(RESULTS, 'utf8'), section));
  }
}

async function measure(benchmark: Benchmark, settings: Omit<BenchmarkContext, 'scope'>): Promise<Section> {
  const { name, title, how } = benchmark;
  const moment = `${describeMoment(new Date())}; ${settings.rounds} rounds; ${peersText(settings.peers)}`;
  say(`\n${title}`);
  const rows = await withScope((scope) => benchmark.run({ ...settings, scope }));
  for (const row of rows) say(`  ${rowText(row)}`);
  return { name, title, how, moment, rows };
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`not a number from 1 on: ${text}`);
  return value;
}

function peersText(peers: Peers | undefined): string {
  return peers === undefined
    ? 'peers not built (`node bench/build-peers.ts`)'
    : `peers: llama.cpp ${peers.build.release}, ${peers.build.compiler}, GGML_NATIVE`;
}

function rowText({ what, ours, peer, ratio, wanted, cpuSeconds = '–' }: Row): string {
  const verdict =
    ratio === undefined || wanted === undefined ? '' : isMet(ratio, wanted) ? ' ✔' : ' ✖ not met';
  const compared = ratio === undefined ? '' : `, ratio ${spreadText(ratio)}${verdict}`;
  return `${what}: ${ours} against ${peer}${compared}; CPU seconds ${cpuSeconds}`;
}

function find(name: string): Benchmark {
  const found = BENCHMARKS.find((benchmark) => benchmark.name === name);
  if (found !== undefined) return found;
  throw new Error(`no benchmark ${name}: ${BENCHMARKS.map((benchmark) => benchmark.name).join(', ')}`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

cleanUpOnSignals();
await main(process.argv.slice(2));
