import type { Peers } from './peers.ts';

/** What every benchmark gets. */
export interface BenchmarkContext {
  /** Undefined where nobody has built them: then only our own side is measured. */
  readonly peers: Peers | undefined;
  /** How often A and B are measured in turn. */
  readonly rounds: number;
  /** Tried on each side; the best is kept. */
  readonly threadCounts: readonly number[];
  /** A line for the terminal while it goes on. */
  readonly say: (text: string) => void;
  readonly scope: Scope;
}

export interface Benchmark {
  /** As in `npm run bench -- NAME` and in the markers of the results page. */
  readonly name: string;
  readonly title: string;
  /** One paragraph: what is compared with what, and how. */
  readonly how: string;
  run(context: BenchmarkContext): Promise<readonly Row[]>;
}

/** One line of a table. */
export interface Row {
  readonly what: string;
  readonly ours: string;
  readonly peer: string;
  readonly ratio?: Spread;
  /** `≥ 0.98` */
  readonly wanted?: Wanted;
  /** Ours and the peer's, or a remark. */
  readonly cpuSeconds?: string;
}

export interface Wanted {
  readonly kind: 'at-least' | 'at-most';
  readonly value: number;
}

export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** Where clean-up is registered; as far as the tests' fixtures ask, it is a test context. */
export interface Scope {
  after(cleanup: () => unknown): void;
}

type CleanUps = (() => unknown)[];
const openScopes = new Set<CleanUps>();

/** Runs work and then, whatever happened, every registered clean-up, last first. */
export async function withScope<T>(work: (scope: Scope) => Promise<T>): Promise<T> {
  const cleanups: CleanUps = [];
  openScopes.add(cleanups);
  try {
    return await work({ after: (cleanup) => void cleanups.push(cleanup) });
  } finally {
    openScopes.delete(cleanups);
    await runAll(cleanups);
  }
}

async function runAll(cleanups: CleanUps): Promise<void> {
  for (const cleanup of cleanups.toReversed()) await cleanup();
}

/** Without this, Ctrl-C would leave servers behind that take the processor from the next measurement. */
export function cleanUpOnSignals(): void {
  const end = async () => {
    for (const cleanups of [...openScopes].toReversed()) await runAll(cleanups);
    process.exit(130);
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => void end());
}

/** One measurement of one side. */
export interface Sample {
  /** Whatever is measured: tokens per second, milliseconds. */
  readonly value: number;
  readonly cpuSeconds: number;
}

export interface Comparison {
  readonly ours: readonly Sample[];
  readonly peer: readonly Sample[];
  /** Ours divided by the peer's, of the medians of each round: both ran within seconds of each other. */
  readonly ratio: Spread;
}

/** Measures A B A B …, so that a machine whose speed drifts is as fast for the one as for the other. */
export async function alternate(
  rounds: number,
  ours: () => Promise<Sample>,
  peer: () => Promise<Sample>,
): Promise<Comparison> {
  const results = { ours: [] as Sample[], peer: [] as Sample[] };
  for (let round = 0; round < rounds; round++) {
    results.ours.push(await ours());
    results.peer.push(await peer());
  }
  const ratios = results.ours.map(({ value }, index) => value / (results.peer[index]?.value ?? Number.NaN));
  return { ...results, ratio: spread(ratios) };
}

/** One side alone, where there is no peer. */
export async function repeat(rounds: number, measure: () => Promise<Sample>): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  for (let round = 0; round < rounds; round++) samples.push(await measure());
  return samples;
}

/** The best of several settings, by one short measurement each; where there is one only, it is not measured. */
export async function bestOf<T>(
  settings: readonly T[],
  better: 'higher' | 'lower',
  measure: (setting: T) => Promise<number>,
): Promise<T> {
  const [only] = settings;
  if (only !== undefined && settings.length === 1) return only;
  let best: { setting: T; value: number } | undefined;
  for (const setting of settings) {
    const value = await measure(setting);
    const isBetter = best === undefined || (better === 'higher' ? value > best.value : value < best.value);
    if (isBetter) best = { setting, value };
  }
  if (best === undefined) throw new Error('no setting to choose from');
  return best.setting;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

/** Of a row with both sides. */
export function comparedRow(
  what: string,
  { ours, peer, ratio }: Comparison,
  unit: string,
  wanted?: Wanted,
): Row {
  return {
    what,
    ours: quantity(median(ours.map(({ value }) => value)), unit),
    peer: quantity(median(peer.map(({ value }) => value)), unit),
    ratio,
    ...(wanted === undefined ? {} : { wanted }),
    cpuSeconds: `${cpuOf(ours)} / ${cpuOf(peer)}`,
  };
}

/** Of a row without a peer. */
export function aloneRow(what: string, ours: readonly Sample[], unit: string, peer = 'not built'): Row {
  return {
    what,
    ours: quantity(median(ours.map(({ value }) => value)), unit),
    peer,
    cpuSeconds: cpuOf(ours),
  };
}

function cpuOf(samples: readonly Sample[]): string {
  return median(samples.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2);
}

/** `45.7 tokens/s`, `812 ms`: three digits say all that such measurements know. */
export function quantity(value: number, unit: string): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit}`;
}

export function isMet({ median: value }: Spread, wanted: Wanted): boolean {
  return wanted.kind === 'at-least' ? value >= wanted.value : value <= wanted.value;
}
