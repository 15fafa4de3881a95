import type { ErrorCode } from '../../core/base/error-table.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type Progress, silentProgress } from '../../core/base/progress.ts';
import type {
  ArtifactSource,
  ManifestDocument,
  ManifestReference,
} from '../../core/format/artifact-place.ts';

export interface FailoverOptions {
  readonly signal: AbortSignal;
  readonly progress?: Progress;
}

/** Failures of our own disk, of the user or of Freehold itself: another source would change nothing. */
const OWN_FAILURES: readonly ErrorCode[] = [
  'CANCELLED',
  'DISK_FULL',
  'PERMISSION_DENIED',
  'STORE_CORRUPT',
  'BUSY',
  'INTERNAL',
];

/** Sources that failed in what every further question would need as well: asked last, and named to the user once. */
const ailing = new WeakSet<ArtifactSource>();
const AILMENTS: readonly ErrorCode[] = [
  'NETWORK',
  'AUTHENTICATION_FAILED',
  'DIGEST_MISMATCH',
  'SIZE_MISMATCH',
];

/**
 * Asks one source after the other until one does. A source that fails, lies or lacks something costs the attempt only.
 * @param what is wanted, for messages
 * @throws the only source's error, SOURCES_EXHAUSTED naming every source and its reason, our own failures at once
 */
export async function fromAny<T>(
  sources: readonly ArtifactSource[],
  what: string,
  { signal, progress = silentProgress }: FailoverOptions,
  work: (source: ArtifactSource) => Promise<T>,
): Promise<T> {
  const failures: { source: string; error: FreeholdError }[] = [];
  const isAiling = (source: ArtifactSource) => Number(ailing.has(source));
  for (const source of sources.toSorted((left, right) => isAiling(left) - isAiling(right))) {
    try {
      return await work(source);
    } catch (error) {
      const isFinal = !(error instanceof FreeholdError) || OWN_FAILURES.includes(error.code);
      if (isFinal || signal.aborted || sources.length === 1) throw error;
      failures.push({ source: source.label, error });
      if (ailing.has(source)) continue;
      if (AILMENTS.includes(error.code)) ailing.add(source);
      progress({ kind: 'source-failed', label: what, source: source.label, reason: error.message });
    }
  }
  const list = failures.map(({ source, error }) => `${source} (${error.message})`).join('; ');
  const hint = failures.at(-1)?.error.hint;
  throw new FreeholdError('SOURCES_EXHAUSTED', `no source gave ${what}: ${list || 'there is none'}`, {
    cause: new AggregateError(failures.map(({ error }) => error)),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The document, from the first source that has it. @throws NOT_FOUND, and what `fromAny` throws */
export async function readDocument(
  sources: readonly ArtifactSource[],
  reference: ManifestReference,
  options: FailoverOptions,
): Promise<ManifestDocument> {
  const name = 'tag' in reference ? `the tag ${reference.tag}` : reference.digest;
  return fromAny(sources, name, options, async (source) => {
    const document = await source.manifest(reference, options.signal);
    if (document !== undefined) return document;
    throw new FreeholdError('NOT_FOUND', `${source.label} has not ${name}`);
  });
}
