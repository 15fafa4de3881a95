import { FreeholdError } from '../../core/base/errors.ts';
import { type ArchiveLayout, readArchive } from '../../core/format/archive-reader.ts';
import type { ArtifactSource } from '../../core/format/artifact-place.ts';
import { type CheckArchiveOptions, checkArchiveBytes } from './archive-check.ts';
import { type ArchiveBytes, openArchiveBytes } from './archive-file.ts';
import { type LayoutContent, layoutSource } from './layout-source.ts';

/** One read of the disk; more gains nothing beside hashing and writing. */
const READ_BYTES = 1 << 20;

/** An archive that is open for reading, its structure checked. */
export interface Archive {
  readonly layout: ArchiveLayout;
  readonly sizeBytes: number;
  /** One repository of it; see `layoutSource`. */
  source(repository?: string): ArtifactSource;
  /** Hashes everything. @throws ARCHIVE_INVALID naming what was altered */
  check(options: CheckArchiveOptions): Promise<void>;
  /**
   * What went wrong while this archive was read, said more plainly where a part of it was altered: then that is why.
   * Reads all parts.
   */
  explain(thrown: unknown): Promise<unknown>;
  close(): Promise<void>;
}

/**
 * Opens an archive and checks its structure: reads headers and documents, not the weights.
 * @throws ARCHIVE_INVALID naming entry or part and the reason, NOT_FOUND, PERMISSION_DENIED
 */
export async function openArchive(file: string, signal?: AbortSignal): Promise<Archive> {
  const bytes = await openArchiveBytes(file);
  try {
    return archiveOver(bytes, await readArchive(bytes, bytes.label, signal));
  } catch (error) {
    const explained = await explain(bytes, error);
    await bytes.close();
    throw explained;
  }
}

function archiveOver(bytes: ArchiveBytes, layout: ArchiveLayout): Archive {
  const content = contentOf(bytes, layout);
  return {
    layout,
    sizeBytes: bytes.sizeBytes,
    source: (repository) => layoutSource(content, repository),
    check: (options) => checkArchiveBytes(bytes, layout, options),
    explain: (thrown) => explain(bytes, thrown),
    close: () => bytes.close(),
  };
}

function contentOf(bytes: ArchiveBytes, layout: ArchiveLayout): LayoutContent {
  return {
    label: layout.label,
    async index() {
      return layout.index;
    },
    async sizeOf(digest) {
      return layout.blobs.get(digest)?.sizeBytes;
    },
    async *read(digest, startBytes, endBytes, signal) {
      const entry = layout.blobs.get(digest);
      if (entry === undefined) throw this.absent(digest);
      for (let offset = startBytes; offset < endBytes; offset += READ_BYTES) {
        signal.throwIfAborted();
        yield await bytes.read(entry.offset + offset, Math.min(READ_BYTES, endBytes - offset));
      }
    },
    absent(digest) {
      const left = layout.contents?.leftOut.find((blob) => blob.digest === digest);
      const what = left?.file ?? digest;
      return new FreeholdError('NOT_FOUND', `${layout.label} has no ${what}`, {
        ...(left === undefined
          ? {}
          : { hint: `the earlier archive ${left.archive.name} has it: restore that first` }),
        detail: { digest, archive: layout.label },
      });
    },
  };
}

/** An altered part shows in its bytes: as a broken header, a wrong digest, a size. */
async function explain(bytes: ArchiveBytes, thrown: unknown): Promise<unknown> {
  const isOfBytes =
    thrown instanceof FreeholdError &&
    ['ARCHIVE_INVALID', 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'MANIFEST_INVALID'].includes(thrown.code);
  if (!isOfBytes || bytes.parts === undefined) return thrown;
  try {
    await bytes.verifyParts();
    return thrown;
  } catch (altered) {
    return altered;
  }
}
