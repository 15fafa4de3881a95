import { FreeholdError } from '../../core/base/errors.ts';
import { parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import { ANNOTATION } from '../../core/format/oci.ts';
import { possibleVersions } from '../../core/format/version-range.ts';
import { type FailoverOptions, fromAny, readDocument } from './failover.ts';

/** The tag of a variant (`1.4.0-q4_0`) reads like a prerelease version, so those are looked at: not more than so many. */
const TAGS_LOOKED_AT_MAX = 200;

/**
 * The versions of a package that any of the places has, the newest first: a mirror that lags must not hide one. A tag that
 * could be a variant's counts only when its document says that it is the version's.
 * @throws SOURCES_EXHAUSTED when no place answers, or the only source's error
 */
export async function listVersions(
  sources: readonly ArtifactSource[],
  options: FailoverOptions,
): Promise<string[]> {
  const tags: string[] = [];
  let failures = 0;
  for (const source of sources) {
    await fromAny([source], 'the list of tags', options, async () => {
      tags.push(...(await source.tags(options.signal)));
    }).catch((error: unknown) => {
      const isLast = ++failures === sources.length;
      if (isLast || options.signal.aborted || !(error instanceof FreeholdError)) throw error;
      options.progress?.({
        kind: 'source-failed',
        label: 'the list of tags',
        source: source.label,
        reason: error.message,
      });
    });
  }
  const candidates = possibleVersions([...new Set(tags)]);
  const versions: string[] = [];
  let looks = 0;
  for (const tag of candidates) {
    const isPlain = !tag.includes('-');
    if (!isPlain && looks++ >= TAGS_LOOKED_AT_MAX) continue;
    if (isPlain || (await isVersionDocument(sources, tag, options))) versions.push(tag);
  }
  return versions;
}

async function isVersionDocument(
  sources: readonly ArtifactSource[],
  tag: string,
  options: FailoverOptions,
): Promise<boolean> {
  try {
    return documentVersion(await readDocument(sources, { tag }, options)) === tag;
  } catch (error) {
    if (error instanceof FreeholdError && error.code === 'NOT_FOUND') return false;
    throw error;
  }
}

/**
 * The version that a document says it is of: a manifest's own, an index's from its entries, as it has none of its own
 * (copy tools keep the annotations of entries and nothing else). A hint; the signed descriptor decides.
 * @throws MANIFEST_INVALID
 */
export function documentVersion(document: ManifestDocument): string | undefined {
  const { manifests, annotations } = parseArtifactDocument(document.bytes, document.digest);
  const [first] = manifests;
  return (first?.annotations ?? annotations)[ANNOTATION.version];
}
