import type { ByteSource } from '../base/byte-source.ts';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import {
  ARCHIVE_ARTIFACT_TYPE,
  ARCHIVE_TAG,
  type ArchiveContents,
  CONTENTS_BYTES_MAX,
  CONTENTS_PATH,
  parseArchiveContents,
  RESTORE_SCRIPT_BYTES_MAX,
  RESTORE_SCRIPT_PATH,
} from './archive-contents.ts';
import { type ArchiveEntry, archiveInvalid, readArchiveEntries } from './archive-entries.ts';
import {
  INDEX_FILE,
  LAYOUT_FILE,
  LAYOUT_FILE_BYTES_MAX,
  type LayoutEntry,
  parseLayoutIndex,
  verifyLayoutFile,
} from './archive-layout.ts';
import {
  childrenOf,
  DOCUMENT_BYTES_MAX,
  DOCUMENT_TYPES,
  parseArtifactDocument,
} from './artifact-documents.ts';
import { layerPath, type OciDescriptor } from './oci.ts';

/** Entry → index → manifest is 2, a fallback tag with referrers of referrers a few more. */
const DEPTH_MAX = 8;
/** 20,000 entries refer to each other a few times; a document that lists millions is an attack on memory. */
const REFERENCES_MAX = 200_000;

/** A blob of which a document of the archive speaks. */
export interface ArchiveReference {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Path of the file inside its package, where the document says one. */
  readonly file: string | undefined;
}

/** An archive whose structure was checked; the bytes of its blobs were not. */
export interface ArchiveLayout {
  readonly label: string;
  /** Digest of `index.json`: it names, through digests, everything else. */
  readonly id: Digest;
  readonly index: readonly LayoutEntry[];
  /** In the order in which they lie there. */
  readonly entries: readonly ArchiveEntry[];
  readonly blobs: ReadonlyMap<Digest, ArchiveEntry>;
  /** Blobs that are spoken of and not there: an incremental archive leaves out what an earlier one holds. */
  readonly missing: readonly ArchiveReference[];
  /** Absent where another tool wrote the archive. */
  readonly contents: ArchiveContents | undefined;
  /** Files beside `archive.json`, by path: `trust.yaml`. */
  readonly attachments: ReadonlyMap<string, OciDescriptor>;
}

/**
 * Reads an archive: an OCI image layout in a tar. Every entry must be one that the layout refers to, under one size, once.
 * Documents are hashed; other blobs are hashed by whoever reads them.
 * @throws ARCHIVE_INVALID naming the entry and the reason
 */
export async function readArchive(
  source: ByteSource,
  label: string,
  signal?: AbortSignal,
): Promise<ArchiveLayout> {
  const entries = await readArchiveEntries(source, label, signal);
  const reader = new LayoutReader(source, label, entries);
  verifyLayoutFile(await reader.file(LAYOUT_FILE, LAYOUT_FILE_BYTES_MAX), label);
  const indexBytes = await reader.file(INDEX_FILE, DOCUMENT_BYTES_MAX);
  const index = asArchiveError(label, INDEX_FILE, () => parseLayoutIndex(indexBytes, label));
  for (const { descriptor } of index) await reader.follow(descriptor, 0, signal);
  await reader.requireAllReferenced();
  const attachments = await reader.attachments(index);
  const contents = attachments.get(CONTENTS_PATH);
  return {
    label,
    id: Digest.of(indexBytes),
    index,
    entries,
    blobs: reader.blobs,
    missing: reader.missing(),
    attachments,
    contents:
      contents === undefined
        ? undefined
        : parseArchiveContents(await reader.blob(contents.digest, CONTENTS_BYTES_MAX), label),
  };
}

class LayoutReader {
  readonly blobs = new Map<Digest, ArchiveEntry>();
  readonly #source: ByteSource;
  readonly #label: string;
  readonly #entries: ReadonlyMap<string, ArchiveEntry>;
  readonly #references = new Map<Digest, ArchiveReference>();
  readonly #followed = new Set<Digest>();

  constructor(source: ByteSource, label: string, entries: readonly ArchiveEntry[]) {
    this.#source = source;
    this.#label = label;
    this.#entries = new Map(entries.map((entry) => [entry.name, entry]));
    for (const entry of entries) {
      const [, hex] = /^blobs\/sha256\/([0-9a-f]{64})$/.exec(entry.name) ?? [];
      if (hex !== undefined) this.blobs.set(Digest.fromHex(hex), entry);
    }
  }

  async file(name: string, bytesMax: number): Promise<Uint8Array> {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw this.#refuse(name, 'is missing');
    return this.#read(entry, bytesMax);
  }

  /** A small blob, hashed. */
  async blob(digest: Digest, bytesMax: number): Promise<Uint8Array> {
    const entry = this.blobs.get(digest);
    if (entry === undefined) throw this.#refuse(digest, 'is missing');
    const bytes = await this.#read(entry, bytesMax);
    const actual = Digest.of(bytes);
    if (actual !== digest) throw this.#refuse(entry.name, `was altered: its bytes have ${actual}`);
    return bytes;
  }

  async #read(entry: ArchiveEntry, bytesMax: number): Promise<Uint8Array> {
    if (entry.sizeBytes > bytesMax) {
      throw this.#refuse(entry.name, `has ${entry.sizeBytes} bytes; at most ${bytesMax} are read`);
    }
    return this.#source.read(entry.offset, entry.sizeBytes);
  }

  /** Notes a blob that is spoken of, and all that it speaks of if it is a document. */
  async follow(child: OciDescriptor, depth: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#note(child);
    const entry = this.blobs.get(child.digest);
    const isDocument = DOCUMENT_TYPES.includes(child.mediaType);
    if (!isDocument || entry === undefined || this.#followed.has(child.digest)) return;
    this.#followed.add(child.digest);
    if (depth > DEPTH_MAX)
      throw this.#refuse(entry.name, `documents refer to each other more than ${DEPTH_MAX} deep`);
    const bytes = await this.blob(child.digest, DOCUMENT_BYTES_MAX);
    const document = asArchiveError(this.#label, entry.name, () =>
      parseArtifactDocument(bytes, child.digest),
    );
    for (const below of childrenOf(document)) {
      await this.follow(below, depth + 1, signal);
    }
  }

  #note(child: OciDescriptor): void {
    const entry = this.blobs.get(child.digest);
    if (entry !== undefined && entry.sizeBytes !== child.size) {
      throw this.#refuse(entry.name, `has ${entry.sizeBytes} bytes, and a document says ${child.size}`);
    }
    if (this.#references.has(child.digest)) return;
    if (this.#references.size >= REFERENCES_MAX) {
      throw this.#refuse(
        child.digest,
        `one more than the ${REFERENCES_MAX} blobs that documents may speak of`,
      );
    }
    const { digest, size: sizeBytes } = child;
    this.#references.set(digest, { digest, sizeBytes, file: layerPath(child) });
  }

  /** A file that no document names is covered by no digest, and nobody looks at it: a place to hide something. */
  async requireAllReferenced(): Promise<void> {
    const known = new Set([LAYOUT_FILE, INDEX_FILE]);
    for (const digest of this.#references.keys()) known.add(this.blobs.get(digest)?.name ?? '');
    for (const { name } of this.#entries.values()) {
      if (known.has(name) || (name === RESTORE_SCRIPT_PATH && (await this.#isRestoreScript()))) continue;
      throw this.#refuse(name, 'the layout does not refer to it');
    }
  }

  /** Somebody runs it before any Freehold is there to look: it must be the very file that a document names. */
  async #isRestoreScript(): Promise<boolean> {
    const digest = Digest.of(await this.file(RESTORE_SCRIPT_PATH, RESTORE_SCRIPT_BYTES_MAX));
    return this.#references.get(digest)?.file === RESTORE_SCRIPT_PATH;
  }

  missing(): ArchiveReference[] {
    return [...this.#references.values()].filter(({ digest }) => !this.blobs.has(digest));
  }

  /** The layers of the artifact with the contents, by path. */
  async attachments(index: readonly LayoutEntry[]): Promise<Map<string, OciDescriptor>> {
    const entry = index.find(({ name }) => name?.repository === '' && name.tag === ARCHIVE_TAG);
    if (entry === undefined) return new Map();
    const bytes = await this.blob(entry.descriptor.digest, DOCUMENT_BYTES_MAX);
    const document = parseArtifactDocument(bytes, ARCHIVE_TAG);
    if (document.artifactType !== ARCHIVE_ARTIFACT_TYPE) {
      throw this.#refuse(ARCHIVE_TAG, `is of the type ${document.artifactType ?? 'none'}`);
    }
    return new Map(document.layers.map((layer) => [layerPath(layer) ?? '', layer]));
  }

  #refuse(name: string, reason: string): FreeholdError {
    return archiveInvalid(this.#label, name, reason);
  }
}

/** A malformed document makes the archive malformed. */
function asArchiveError<T>(label: string, name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FreeholdError)) throw error;
    throw archiveInvalid(label, name, error.message);
  }
}
