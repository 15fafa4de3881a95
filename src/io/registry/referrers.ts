import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ManifestDocument } from '../../core/format/artifact-place.ts';
import { encodeJson, MEDIA_TYPE, type OciDescriptor, ociDescriptorSchema } from '../../core/format/oci.ts';
import { fallbackTag, referrerDescriptor } from '../../core/format/referrer.ts';
import { pauseBeforeRetry } from '../http/retry.ts';
import { parseLoosely } from './loose-json.ts';
import { readManifest, writeManifest } from './manifests.ts';
import { readPages } from './pages.ts';
import { REFERRERS_MAX } from './registry-limits.ts';
import type { RepositoryContext } from './repository-context.ts';

/** Answers by which registries without the API refuse: 404 by the specification, the others by habit. */
const NO_API = [400, 404, 405, 501];

/** Entries are read one by one: one that is odd must not hide the others. Fields that we never heard of stay. */
const listSchema = z.looseObject({ manifests: z.array(z.unknown()) });
/** Most manifests refer to nothing, and not all of those need be of a kind that we read. */
const referringSchema = z.object({ subject: z.object({}) });
const entrySchema = z.object(ociDescriptorSchema.shape);

/** Other machines are slower than this one, but not by much more. */
const SETTLE_FACTOR = 3;

/**
 * What refers to a document: by the registry's API, else by the fallback tag.
 * @throws NETWORK, AUTHENTICATION_FAILED
 */
export async function listReferrers(
  context: RepositoryContext,
  subject: Digest,
  signal: AbortSignal,
): Promise<OciDescriptor[]> {
  const { repository, label } = context;
  const isAbsent = ({ status }: { status: number }) => NO_API.includes(status);
  const pages = await readPages(context, `/v2/${repository}/referrers/${subject}`, isAbsent, signal);
  if (pages !== undefined) return pages.flatMap((page) => entriesOf(page, label)).slice(0, REFERRERS_MAX);
  const index = await readManifest(context, { tag: fallbackTag(subject) }, signal);
  return index === undefined ? [] : entriesOf(parseLoosely(index.bytes), label).slice(0, REFERRERS_MAX);
}

function entriesOf(page: unknown, label: string): OciDescriptor[] {
  const list = listSchema.safeParse(page).data;
  if (list === undefined) throw new FreeholdError('NETWORK', `${label}: the answer is no list of referrers`);
  return list.manifests.flatMap((entry) => entrySchema.safeParse(entry).data ?? []);
}

/**
 * Lists a manifest, if it has a subject, by the fallback tag of that, where the registry has no API. OCI distribution 1.1, "Pushing
 * Manifests with Subject". Registries have no comparison for writing a tag, so two writers can take turns: whoever finds
 * its entry gone afterwards writes it again.
 */
export async function addToFallbackTag(
  context: RepositoryContext,
  referrer: ManifestDocument,
  signal: AbortSignal,
): Promise<void> {
  const { connection, label } = context;
  if (!referringSchema.safeParse(parseLoosely(referrer.bytes)).success) return;
  const { subject } = parseArtifactDocument(referrer.bytes, label);
  if (subject === undefined) return;
  const tag = fallbackTag(subject);
  const entry = {
    ...referrerDescriptor(referrer.bytes, referrer.digest),
    mediaType: referrer.mediaType,
  };
  const lost = new FreeholdError('BUSY', `${label}: others write ${tag} at the same time, again and again`);
  for (let attempt = 1; attempt <= connection.limits.attemptsMax; attempt++) {
    const startMs = performance.now();
    const index = withEntry(await readManifest(context, { tag }, signal), entry, label);
    if (index === undefined) return;
    await writeManifest(context, index, tag, signal);
    // Whoever read before this was written writes within about the same time, and only then does a look tell.
    await settle(SETTLE_FACTOR * (performance.now() - startMs), signal);
    const after = await readManifest(context, { tag }, signal);
    if (withEntry(after, entry, label) === undefined) return;
    await pauseBeforeRetry(lost, attempt, connection.limits, signal);
  }
  throw lost;
}

/** @returns undefined when the entry is in the index already */
function withEntry(
  current: ManifestDocument | undefined,
  entry: OciDescriptor,
  label: string,
): ManifestDocument | undefined {
  const list = current === undefined ? undefined : listSchema.safeParse(parseLoosely(current.bytes)).data;
  if (current !== undefined && list === undefined) {
    throw new FreeholdError('MANIFEST_INVALID', `${label}: the tag of referrers holds no index`, {
      hint: 'somebody else uses tags of the form sha256-…: remove it from the repository',
    });
  }
  const manifests = list?.manifests ?? [];
  if (manifests.some((known) => entrySchema.safeParse(known).data?.digest === entry.digest)) return undefined;
  const bytes = encodeJson({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.index,
    ...list,
    manifests: [...manifests, entry],
  });
  return { bytes, digest: Digest.of(bytes), mediaType: MEDIA_TYPE.index };
}

async function settle(durationMs: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(durationMs, undefined, { signal });
  } catch {
    throw signal.reason;
  }
}
