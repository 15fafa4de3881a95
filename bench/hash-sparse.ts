/**
 * How long and how much memory a store needs to verify a large file: `node bench/hash-sparse.ts [GIGABYTES] [FOLDER]`.
 * The file is sparse, so no disk of that size is needed and the disk does not limit the result. Prints one JSON object.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Digest } from '../src/core/base/digest.ts';
import { openStore, type Store } from '../src/io/store/store.ts';

const GIGABYTE = 1_000_000_000;
/** A record is kept only for a file whose change lies two seconds back. */
const SETTLED_MS = 2_100;

interface Measurement {
  readonly seconds: number;
  readonly gigabytesPerSecond: number;
  readonly eventLoopDelayMs: { readonly median: number; readonly p99: number; readonly max: number };
  readonly cpuSeconds: { readonly user: number; readonly system: number };
  readonly peakRssMiB: number;
}

async function measure(store: Store, digest: Digest, mode: 'full' | 'warm'): Promise<Measurement> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpuBefore = process.cpuUsage();
  const started = performance.now();
  const file = await store.openVerified(digest, { mode, name: 'sparse.gguf' });
  await file.requireUnchanged();
  const seconds = (performance.now() - started) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  delay.disable();
  await file.close();
  return {
    seconds: round(seconds, 4),
    gigabytesPerSecond: round(file.sizeBytes / GIGABYTE / seconds, 2),
    eventLoopDelayMs: {
      median: round(delay.percentile(50) / 1e6, 1),
      p99: round(delay.percentile(99) / 1e6, 1),
      max: round(delay.max / 1e6, 1),
    },
    cpuSeconds: { user: round(cpu.user / 1e6, 2), system: round(cpu.system / 1e6, 2) },
    peakRssMiB: round(process.resourceUsage().maxRSS / 1024, 0),
  };
}

/** The digest of that many zeros, and how fast this machine hashes without any file. */
function hashZeros(sizeBytes: number): { digest: Digest; gigabytesPerSecond: number } {
  const zeros = Buffer.alloc(1 << 20);
  const hash = createHash('sha256');
  const started = performance.now();
  for (let left = sizeBytes; left > 0; left -= zeros.byteLength) {
    hash.update(left < zeros.byteLength ? zeros.subarray(0, left) : zeros);
  }
  const digest = Digest.fromHex(hash.digest('hex'));
  return { digest, gigabytesPerSecond: round(sizeBytes / 1e6 / (performance.now() - started), 2) };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

async function main([gigabytes = '20', where = os.tmpdir()]: readonly string[]): Promise<void> {
  const sizeBytes = Number(gigabytes) * 2 ** 30;
  const folder = await mkdtemp(path.join(where, 'freehold-bench-'));
  try {
    const store = await openStore(path.join(folder, 'store'));
    const rssBeforeMiB = round(process.resourceUsage().maxRSS / 1024, 0);
    const inMemory = hashZeros(sizeBytes);
    const blob = await open(
      path.join(store.folder, 'blobs', 'sha256', Digest.hex(inMemory.digest)),
      'wx',
      0o444,
    );
    await blob.truncate(sizeBytes);
    await blob.close();
    await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    const full = await measure(store, inMemory.digest, 'full');
    const warm = await measure(store, inMemory.digest, 'warm');
    const machine = { cpu: os.cpus()[0]?.model ?? 'unknown', cores: os.cpus().length, node: process.version };
    const result = {
      sizeBytes,
      machine,
      rssBeforeMiB,
      inMemoryGigabytesPerSecond: inMemory.gigabytesPerSecond,
      full,
      warm,
    };
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await main(process.argv.slice(2));
