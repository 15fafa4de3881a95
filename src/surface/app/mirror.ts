import path from 'node:path';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseRepositoryName, parseTag, type RepositoryName } from '../../core/base/registry-reference.ts';
import { ARCHIVE_TAG, PROGRAM_TAG } from '../../core/format/archive-contents.ts';
import { isFallbackTag, type LayoutEntry, layoutRepositories } from '../../core/format/archive-layout.ts';
import type { ArtifactSink, ArtifactSource } from '../../core/format/artifact-place.ts';
import { type CopyReport, copyArtifact } from '../../features/transfer/copy-artifact.ts';
import {
  CHANNELS_TAG,
  channelVersions,
  openChannelArtifact,
} from '../../features/updates/channel-artifact.ts';
import { openArchive } from '../../io/archive/archive.ts';
import { ArchiveDraft } from '../../io/archive/archive-draft.ts';
import { writeArchive } from '../../io/archive/archive-writer.ts';
import { openLayoutFolder } from '../../io/archive/layout-folder.ts';
import type { Freehold } from './freehold.ts';
import { type MirrorPlace, parseMirrorPlace } from './mirror-place.ts';
import { type PlaceOptions, withRepository } from './registry-places.ts';

export interface MirrorOptions extends PlaceOptions {
  readonly signal: AbortSignal;
  /** Only these; absent: all, or the one that the source names. */
  readonly tags?: readonly string[];
  readonly isDryRun?: boolean;
  /** Of an archive that is written. */
  readonly partBytes?: number | undefined;
}

export interface MirroredTag {
  /** `acme/triage:1.4.0`, as the destination has it. */
  readonly name: string;
  readonly digest: string;
}

export interface MirrorReport extends CopyReport {
  readonly tags: readonly MirroredTag[];
  /** Of an archive that was written. */
  readonly files: readonly string[];
  /** Channels that were not copied, since the destination has newer ones. */
  readonly remarks: readonly string[];
}

/** One repository of the source. */
interface SourceRepository {
  /** `acme/triage`; empty for a layout whose names are tags only. */
  readonly name: string;
  readonly source: ArtifactSource;
}

/** What is written to. */
interface Destination {
  /** @param work with what the repository has already; undefined for an archive, which is new */
  withSink<T>(
    repository: string,
    work: (sink: ArtifactSink, shownName: string, present: ArtifactSource | undefined) => Promise<T>,
  ): Promise<T>;
  /** Ends the writing; gives the files of an archive. */
  finish(): Promise<readonly string[]>;
}

/**
 * Copies artifacts with their referrers between registries, layouts and archives. Digests stay what they are; only what
 * the destination lacks is sent.
 * @param from `oci://HOST/NAME[:TAG|@DIGEST]`, `layout:FOLDER[#NAME]`, `archive:FILE[#NAME]`
 * @param to the same, without tag; `oci://HOST/PREFIX/` for several repositories
 * @throws REFERENCE_INVALID, NOT_FOUND, ALREADY_EXISTS for an archive that is there, what the places throw
 */
export async function mirror(
  freehold: Freehold,
  from: string,
  to: string,
  options: MirrorOptions,
): Promise<MirrorReport> {
  const [source, target] = [parseMirrorPlace(from), parseMirrorPlace(to)];
  if (target.kind === 'registry' && target.selector.kind !== 'newest') {
    throw new FreeholdError('REFERENCE_INVALID', `${to}: tags stay what they are; leave the tag out`);
  }
  return withSourceRepositories(freehold, source, options, async (repositories) => {
    requireOneNameEach(repositories, target, to);
    const destination = await openDestination(freehold, target, options);
    const report = new MirrorCount();
    const remarks: string[] = [];
    for (const repository of repositories) {
      const wanted = await wantedTags(source, repository, options);
      await destination.withSink(repository.name, async (sink, shownName, present) => {
        const counted = options.isDryRun === true ? countingSink(sink) : sink;
        for (const tag of wanted) {
          const older = await olderChannels(repository.source, present, tag, options.signal);
          if (older !== undefined) {
            remarks.push(`${shownName}: ${older}`);
            continue;
          }
          report.add(await copyOne(freehold, repository.source, counted, tag, options), shownName, tag);
        }
      });
    }
    if (report.tags.length === 0 && remarks.length === 0)
      throw new FreeholdError('NOT_FOUND', `${from} has nothing to copy`);
    const files = await destination.finish();
    return { ...report.copied, tags: report.tags, files, remarks };
  });
}

/**
 * Customers refuse channels that are older than those they have seen, and a publisher could not go on: a copy must not
 * put them back. Nothing is verified here; the numbers only say which of two is later.
 * @returns why they are not copied
 */
async function olderChannels(
  source: ArtifactSource,
  present: ArtifactSource | undefined,
  wanted: WantedDocument,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!('tag' in wanted) || wanted.tag !== CHANNELS_TAG || present === undefined) return undefined;
  const there = await channelNumbers(present, signal);
  if (there === undefined) return undefined;
  const here = await channelNumbers(source, signal);
  const shown = ([root, timestamp]: readonly [number, number]) => `root ${root}, timestamp ${timestamp}`;
  if (here === undefined)
    return `its ${CHANNELS_TAG} (${shown(there)}) stays: those of the source are damaged`;
  const isOlder = here[0] === there[0] ? here[1] < there[1] : here[0] < there[0];
  return isOlder
    ? `its ${CHANNELS_TAG} (${shown(there)}) stays: those of the source are older (${shown(here)})`
    : undefined;
}

/** @returns undefined where there are none that can be read */
async function channelNumbers(
  place: ArtifactSource,
  signal: AbortSignal,
): Promise<readonly [root: number, timestamp: number] | undefined> {
  try {
    const artifact = await openChannelArtifact(place, signal);
    return artifact && (await channelVersions(artifact));
  } catch (error) {
    if (error instanceof FreeholdError && error.code === 'CHANNEL_INVALID') return undefined;
    throw error;
  }
}

/** What one tag would bring, the next would find there. */
function countingSink(sink: ArtifactSink): ArtifactSink {
  const counted = new Set<Digest>();
  return {
    ...sink,
    async hasBlob(blob, signal) {
      if (counted.has(blob.digest)) return true;
      counted.add(blob.digest);
      return sink.hasBlob(blob, signal);
    },
  };
}

class MirrorCount {
  readonly tags: MirroredTag[] = [];
  copied: CopyReport = { writtenBytes: 0, presentBytes: 0, writtenBlobs: 0, presentBlobs: 0, documents: 0 };

  add(one: CopyReport & { readonly digest: string }, repository: string, wanted: WantedDocument): void {
    const tag = 'tag' in wanted ? `:${wanted.tag}` : `@${wanted.digest}`;
    this.tags.push({ name: repository === '' ? tag.slice(1) : `${repository}${tag}`, digest: one.digest });
    this.copied = {
      writtenBytes: this.copied.writtenBytes + one.writtenBytes,
      presentBytes: this.copied.presentBytes + one.presentBytes,
      writtenBlobs: this.copied.writtenBlobs + one.writtenBlobs,
      presentBlobs: this.copied.presentBlobs + one.presentBlobs,
      documents: this.copied.documents + one.documents,
    };
  }
}

type WantedDocument = Parameters<ArtifactSource['manifest']>[0];

async function copyOne(
  { progress }: Freehold,
  source: ArtifactSource,
  sink: ArtifactSink,
  wanted: WantedDocument,
  { signal, isDryRun = false }: MirrorOptions,
): Promise<CopyReport & { readonly digest: string }> {
  const document = await source.manifest(wanted, signal);
  const shown = 'tag' in wanted ? wanted.tag : wanted.digest;
  if (document === undefined) throw new FreeholdError('NOT_FOUND', `${source.label} has not ${shown}`);
  const tag = 'tag' in wanted ? wanted.tag : undefined;
  const copied = await copyArtifact([source], sink, document, { signal, progress, tag, isDryRun });
  return { ...copied, digest: document.digest };
}

async function wantedTags(
  place: MirrorPlace,
  { source, name }: SourceRepository,
  { tags, signal }: MirrorOptions,
): Promise<readonly WantedDocument[]> {
  if (tags !== undefined && tags.length > 0) return tags.map((tag) => ({ tag: parseTag(tag) }));
  if (place.kind === 'registry' && place.selector.kind === 'tag') return [{ tag: place.selector.tag }];
  if (place.kind === 'registry' && place.selector.kind === 'digest')
    return [{ digest: place.selector.digest }];
  // What an archive says of itself is of that archive; referrers are copied with what they refer to.
  const isOwn = (tag: string) => name === '' && (tag === ARCHIVE_TAG || tag === PROGRAM_TAG);
  const all = await source.tags(signal);
  return all.filter((tag) => !isFallbackTag(tag) && !isOwn(tag)).map((tag) => ({ tag }));
}

async function withSourceRepositories<T>(
  freehold: Freehold,
  place: MirrorPlace,
  options: MirrorOptions,
  work: (repositories: readonly SourceRepository[]) => Promise<T>,
): Promise<T> {
  switch (place.kind) {
    case 'registry':
      return withRepository(
        freehold,
        place.name,
        (source) => work([{ name: place.name.repository, source }]),
        options,
      );
    case 'registry-prefix':
      throw new FreeholdError('REFERENCE_INVALID', 'name one repository to copy from: oci://HOST/NAME');
    case 'layout': {
      const layout = await openLayoutFolder(place.path);
      const names = chosenRepositories(await layout.index(), place);
      return work(names.map((name) => ({ name, source: layout.place(name) })));
    }
    case 'archive': {
      const archive = await openArchive(place.path, options.signal);
      try {
        const names = chosenRepositories(archive.layout.index, place);
        return await work(names.map((name) => ({ name, source: archive.source(name) })));
      } catch (error) {
        throw await archive.explain(error);
      } finally {
        await archive.close();
      }
    }
    default:
      return place satisfies never;
  }
}

function chosenRepositories(
  index: readonly LayoutEntry[],
  { repository, path: file }: Extract<MirrorPlace, { kind: 'layout' | 'archive' }>,
): readonly string[] {
  const isContent = ({ name }: LayoutEntry) =>
    name !== undefined &&
    !isFallbackTag(name.tag) &&
    !(name.repository === '' && (name.tag === ARCHIVE_TAG || name.tag === PROGRAM_TAG));
  const names = layoutRepositories(index.filter(isContent));
  if (repository === undefined) return names;
  if (names.includes(repository)) return [repository];
  throw new FreeholdError('NOT_FOUND', `${file} has no repository ${repository}`, {
    hint: `it has ${names.map((name) => name || 'tags without a name').join(', ')}`,
  });
}

/** Two repositories may have the same tags: under one name the second would replace the first. */
function requireOneNameEach(
  repositories: readonly SourceRepository[],
  target: MirrorPlace,
  to: string,
): void {
  const isOneName =
    target.kind === 'registry' || (target.kind !== 'registry-prefix' && target.repository !== undefined);
  if (!isOneName || repositories.length <= 1) return;
  const names = repositories.map(({ name }) => name || '(no name)').join(', ');
  throw new FreeholdError('REFERENCE_INVALID', `${to} is one repository, and the source has ${names}`, {
    hint: 'choose one (archive:FILE#NAME), or copy all below a prefix: oci://HOST/PREFIX/',
  });
}

async function openDestination(
  freehold: Freehold,
  place: MirrorPlace,
  options: MirrorOptions,
): Promise<Destination> {
  switch (place.kind) {
    case 'registry':
      return registryDestination(freehold, () => place.name, options);
    case 'registry-prefix':
      return registryDestination(
        freehold,
        (name) => parseRepositoryName(`${place.host}/${place.prefix}${name}`),
        options,
      );
    case 'layout': {
      if (options.isDryRun === true) return dryLayout(place);
      const layout = await openLayoutFolder(place.path, { mayCreate: true });
      const nameOf = (repository: string) => place.repository ?? repository;
      return {
        withSink(repository, work) {
          const place = layout.place(nameOf(repository));
          return work(place, nameOf(repository), place);
        },
        finish: async () => [],
      };
    }
    case 'archive':
      return archiveDestination(freehold, place, options);
    default:
      return place satisfies never;
  }
}

function registryDestination(
  freehold: Freehold,
  nameOf: (repository: string) => RepositoryName,
  options: MirrorOptions,
): Destination {
  return {
    withSink(repository, work) {
      const name = nameOf(repository);
      return withRepository(
        freehold,
        name,
        (place) => work(place, `${name.host}/${name.repository}`, place),
        options,
      );
    },
    finish: async () => [],
  };
}

/** A layout that may not exist yet, and is not to be made. */
function dryLayout(place: Extract<MirrorPlace, { kind: 'layout' | 'archive' }>): Destination {
  const draft = new ArchiveDraft();
  return {
    async withSink(repository, work) {
      const name = place.repository ?? repository;
      const layout = await openLayoutFolder(place.path).catch((error: unknown) => {
        if (error instanceof FreeholdError && error.code === 'NOT_FOUND') return undefined;
        throw error;
      });
      const present = layout?.place(name);
      return work(present ?? draft.sink(name), name, present);
    },
    finish: async () => [],
  };
}

/** A tar cannot be added to: everything is noted first, and written at the end. */
function archiveDestination(
  { progress }: Freehold,
  { path: file, repository: only }: Extract<MirrorPlace, { kind: 'layout' | 'archive' }>,
  { signal, partBytes, isDryRun = false }: MirrorOptions,
): Destination {
  const draft = new ArchiveDraft();
  return {
    withSink: (repository, work) => work(draft.sink(only ?? repository), only ?? repository, undefined),
    async finish() {
      if (isDryRun) return [];
      const written = await writeArchive(
        file,
        draft.plan(() => false),
        {
          signal,
          ...(partBytes === undefined ? {} : { partBytes }),
          onBytes: (doneBytes, totalBytes) =>
            progress({ kind: 'bytes-moved', label: path.basename(file), doneBytes, totalBytes }),
        },
      );
      return written.files;
    },
  };
}
