import path from 'node:path';
import type { ModelHost } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import {
  judgeExactMatches,
  parseExactMatchSuite,
  scoreExactMatches,
} from '../../features/updates/exact-match.ts';
import { readAppFiles } from './app-folder.ts';
import { channelsFile } from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, type InstalledPackage } from './installed-packages.ts';
import { readTextFile } from './local-file.ts';
import type { LocalModelHost } from './model-host.ts';
import type { AcceptanceCheck } from './update-apply.ts';

/** Ten thousand cases of a few KiB. */
const SUITE_BYTES_MAX = 64 << 20;

export interface AcceptanceOptions {
  /** Of the application whose `freehold.yaml` may name suites. */
  readonly folder: string;
  /** A suite for every package, instead of those of `freehold.yaml`. */
  readonly suite?: string | undefined;
  readonly minScore?: number | undefined;
  readonly signal: AbortSignal;
  /** For tests. */
  readonly openHost?: () => LocalModelHost;
}

type ChecksByName = (name: string) => Promise<AcceptanceCheck | undefined>;

/**
 * Runs work with the checks of updates: exact matches over the suites that `freehold.yaml` names. Models are loaded when a
 * check needs them, and ended with the work.
 */
export async function withSuiteChecks<T>(
  freehold: Freehold,
  options: AcceptanceOptions,
  work: (checks: ChecksByName) => Promise<T>,
): Promise<T> {
  const suites = await suitesOf(freehold, options.folder);
  let host: LocalModelHost | undefined;
  const checks: ChecksByName = async (name) => {
    const file = options.suite ?? suites.get(name);
    if (file === undefined) return undefined;
    const text = await readTextFile(file, { bytesMax: SUITE_BYTES_MAX, signal: options.signal });
    const suite = parseExactMatchSuite(text, file);
    return async (candidate, current) => {
      host ??= await openHost(freehold, options);
      const used = host;
      const score = (item: InstalledPackage) => scoreOf(freehold, used, item, suite, options.signal);
      const now = current === undefined ? undefined : await score(current);
      return judgeExactMatches(await score(candidate), now, options.minScore ?? suite.minScore);
    };
  };
  try {
    return await work(checks);
  } finally {
    await host?.close();
  }
}

async function openHost(freehold: Freehold, options: AcceptanceOptions): Promise<LocalModelHost> {
  if (options.openHost !== undefined) return options.openHost();
  // Imported when a suite is there: the engine is the most of a start.
  const { createModelHost } = await import('./model-host.ts');
  return createModelHost(freehold, { keepAliveMs: 0 });
}

async function scoreOf(
  { progress }: Freehold,
  host: ModelHost,
  item: InstalledPackage,
  suite: ReturnType<typeof parseExactMatchSuite>,
  signal: AbortSignal,
) {
  const reference = fullReference(item);
  const model = await host.use(reference, signal);
  if (model.info.purpose !== 'generate') {
    throw new FreeholdError('NOT_SUPPORTED', `${reference} does not generate text, so no suite can try it`);
  }
  const label = `${suite.cases.length} cases with ${reference}`;
  progress({ kind: 'step-started', label });
  const score = await scoreExactMatches(model, suite, signal);
  progress({ kind: 'step-finished', label });
  return score;
}

/** Package name → suite: by the lock, which knows the name, or by the repository that both files name. */
async function suitesOf(freehold: Freehold, folder: string): Promise<ReadonlyMap<string, string>> {
  const files = await readAppFiles(folder);
  const suites = new Map<string, string>();
  if (files === undefined) return suites;
  const channels = await channelsFile(freehold).load();
  for (const { key, reference, suite } of files.plan.models) {
    if (suite === undefined) continue;
    const names = [...channels].filter(
      ([, { from }]) =>
        reference.kind === 'registry' &&
        from.host === reference.host &&
        from.repository === reference.repository,
    );
    const locked = files.lock?.get(key)?.name;
    for (const name of [...names.map(([each]) => each), ...(locked === undefined ? [] : [locked])]) {
      suites.set(name, path.resolve(folder, suite));
    }
  }
  return suites;
}
