import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';

/** More runnable processes than this before we begin, and a measurement is not to be trusted. */
const QUIET_LOAD_MAX = 0.5;
/** Intel's and AMD's energy counter of the whole package, where the kernel shows it. */
const ENERGY_COUNTER = '/sys/class/powercap/intel-rapl:0/energy_uj';
const MICROJOULES_PER_JOULE = 1e6;

/** `2026-11-22, 2 × Intel Xeon, Node 24.21.0, load 0.2`, with a warning where others work on the machine. */
export function describeMoment(now: Date): string {
  const [load = 0] = loadavg();
  const model = cpus()[0]?.model ?? 'unknown processor';
  const busy = load > QUIET_LOAD_MAX ? ': **the machine was busy, do not rely on these numbers**' : '';
  return `${now.toISOString().slice(0, 10)}, ${availableParallelism()} × ${model}, Node ${process.versions.node}, load before ${load.toFixed(1)}${busy}`;
}

/** Thread counts worth trying: ggml's threads spin, so the best is one, half of the cores, or all of them. */
export function threadCounts(): readonly number[] {
  const cores = availableParallelism();
  return [...new Set([1, Math.max(1, Math.floor(cores / 2)), cores])];
}

/** Of the package since it was switched on; undefined where it cannot be read (virtual machines, other users). */
export function energyJoules(): number | undefined {
  try {
    return Number(readFileSync(ENERGY_COUNTER, 'utf8')) / MICROJOULES_PER_JOULE;
  } catch {
    return undefined;
  }
}
