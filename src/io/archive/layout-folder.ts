import { createReadStream } from 'node:fs';
import { lstat, open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import {
  blobName,
  encodeLayoutFile,
  encodeLayoutName,
  encodeReferrersIndex,
  INDEX_FILE,
  LAYOUT_FILE,
  LAYOUT_FILE_BYTES_MAX,
  type LayoutEntry,
  parseLayoutIndex,
  verifyLayoutFile,
} from '../../core/format/archive-layout.ts';
import {
  childrenOf,
  DOCUMENT_BYTES_MAX,
  parseArtifactDocument,
} from '../../core/format/artifact-documents.ts';
import type { ArtifactPlace, ManifestDocument } from '../../core/format/artifact-place.ts';
import { ANNOTATION, encodeJson, MEDIA_TYPE, type OciDescriptor } from '../../core/format/oci.ts';
import { fallbackTag, referrerDescriptor } from '../../core/format/referrer.ts';
import { withFileLock } from '../files/file-lock.ts';
import { makeFolder } from '../files/folder.ts';
import { isSystemError, systemRefusal } from '../files/system-refusal.ts';
import { onDisk } from './disk-access.ts';
import { replaceFile, writeBlobFile } from './layout-blob.ts';
import { type LayoutContent, layoutSource } from './layout-source.ts';

/** Changing `index.json` takes milliseconds; whoever waits this long waits for a process that hangs. */
const LOCK_TIMEOUT_MS = 30_000;

/** An OCI image layout in a folder, ours or another tool's. */
export interface LayoutFolder {
  readonly folder: string;
  index(): Promise<readonly LayoutEntry[]>;
  /** One repository of it; see `layoutSource`. What is written gets names of it: `NAME:TAG`, or only the tag for `''`. */
  place(repository?: string): ArtifactPlace;
}

/**
 * Opens an OCI image layout on disk.
 * @param mayCreate makes one where there is nothing yet, or an empty folder
 * @throws NOT_FOUND, ARCHIVE_INVALID when the folder is no layout, PERMISSION_DENIED, DISK_FULL
 */
export async function openLayoutFolder(
  folder: string,
  { mayCreate = false }: { readonly mayCreate?: boolean } = {},
): Promise<LayoutFolder> {
  const layout = new Layout(path.resolve(folder), `layout ${folder}`);
  await layout.open(mayCreate);
  return {
    folder: layout.folder,
    index: () => layout.index(),
    place: (repository) => layout.place(repository),
  };
}

class Layout implements LayoutContent {
  readonly folder: string;
  readonly label: string;

  constructor(folder: string, label: string) {
    this.folder = folder;
    this.label = label;
  }

  async open(mayCreate: boolean): Promise<void> {
    const found = await readSmall(this.#path(LAYOUT_FILE), LAYOUT_FILE_BYTES_MAX);
    if (found !== undefined) {
      verifyLayoutFile(found, this.label);
      await this.index();
      return;
    }
    if (!mayCreate) {
      throw new FreeholdError('NOT_FOUND', `${this.folder} is no OCI image layout: it has no ${LAYOUT_FILE}`);
    }
    await onDisk('write', this.folder, () => makeFolder(this.#path('blobs', 'sha256'), 0o755));
    if ((await readSmall(this.#path(INDEX_FILE), DOCUMENT_BYTES_MAX)) === undefined) {
      const index = encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [] });
      await replaceFile(this.#path(INDEX_FILE), index);
    }
    // Last: its presence means that the rest is there.
    await replaceFile(this.#path(LAYOUT_FILE), encodeLayoutFile());
  }

  async index(): Promise<readonly LayoutEntry[]> {
    return parseLayoutIndex(await this.#indexBytes(), this.label);
  }

  async #indexBytes(): Promise<Buffer> {
    const bytes = await readSmall(this.#path(INDEX_FILE), DOCUMENT_BYTES_MAX);
    if (bytes !== undefined) return bytes;
    throw new FreeholdError('ARCHIVE_INVALID', `${this.label}: ${INDEX_FILE} is missing`);
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    const file = this.#blobPath(digest);
    const found = await lstat(file).catch((error: unknown) => {
      if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw systemRefusal(error, 'read', file) ?? error;
    });
    if (found === undefined) return undefined;
    if (found.isFile()) return found.size;
    // A link would lead to somebody else's file, a pipe would wait for ever.
    throw new FreeholdError('ARCHIVE_INVALID', `${this.label}: ${blobName(digest)} is not a plain file`);
  }

  async *read(
    digest: Digest,
    startBytes: number,
    endBytes: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    if (endBytes <= startBytes) return;
    const file = this.#blobPath(digest);
    const stream = createReadStream(file, {
      start: startBytes,
      end: endBytes - 1,
      highWaterMark: 1 << 20,
      signal,
    });
    try {
      for await (const bytes of stream as AsyncIterable<Buffer>) yield bytes;
    } catch (error) {
      signal.throwIfAborted();
      throw systemRefusal(error, 'read', file) ?? error;
    }
  }

  absent(digest: Digest): FreeholdError {
    return new FreeholdError('NOT_FOUND', `${this.label} has no ${digest}`, { detail: { digest } });
  }

  place(repository: string | undefined): ArtifactPlace {
    return {
      ...layoutSource(this, repository),
      hasBlob: async ({ digest, sizeBytes }) => (await this.sizeOf(digest)) === sizeBytes,
      hasManifest: async (digest) => (await this.sizeOf(digest)) !== undefined,
      putBlob: (blob, open, options) =>
        writeBlobFile(
          { file: this.#blobPath(blob.digest), partials: this.#path('.partial'), blob, open },
          options,
        ),
      putManifest: (document, tag, signal) => this.#putManifest(document, repository ?? '', tag, signal),
    };
  }

  async #putManifest(
    document: ManifestDocument,
    repository: string,
    tag: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    if (Digest.of(document.bytes) !== document.digest) {
      throw new FreeholdError(
        'DIGEST_MISMATCH',
        `${this.label}: a document has not the digest ${document.digest}`,
      );
    }
    const parsed = parseArtifactDocument(document.bytes, document.digest);
    const { subject } = parsed;
    for (const part of childrenOf(parsed)) {
      if ((await this.sizeOf(part.digest)) === part.size) continue;
      throw new FreeholdError('MANIFEST_INVALID', `${this.label}: ${document.digest} needs ${part.digest}`);
    }
    await replaceFile(this.#blobPath(document.digest), document.bytes);
    const named = tag === undefined ? undefined : encodeLayoutName({ repository, tag });
    if (named === undefined && subject === undefined) return;
    // flock on a file that every layout has and that nobody replaces: two writers lose no entry of each other.
    await withFileLock(this.#path(LAYOUT_FILE), 'exclusive', LOCK_TIMEOUT_MS, async () => {
      const self = referrerDescriptor(document.bytes, document.digest);
      if (named !== undefined) await this.#setEntry(named, self);
      if (subject !== undefined) await this.#addReferrer(subject, self);
    });
  }

  /** The caller holds the lock. */
  async #addReferrer(subject: Digest, referrer: OciDescriptor): Promise<void> {
    const signal = new AbortController().signal;
    const known = await layoutSource(this, undefined).referrers(subject, signal);
    if (known.some(({ digest }) => digest === referrer.digest)) return;
    const bytes = encodeReferrersIndex([...known, referrer]);
    const digest = Digest.of(bytes);
    await replaceFile(this.#blobPath(digest), bytes);
    await this.#setEntry(fallbackTag(subject), {
      mediaType: MEDIA_TYPE.index,
      digest,
      size: bytes.byteLength,
    });
  }

  /** Replaces the entry of this name, and leaves what other tools wrote into `index.json` as it is. */
  async #setEntry(name: string, descriptor: OciDescriptor): Promise<void> {
    const bytes = await this.#indexBytes();
    parseLayoutIndex(bytes, this.label);
    const json = JSON.parse(bytes.toString('utf8')) as { manifests?: LooseEntry[] };
    const others = (json.manifests ?? []).filter((entry) => entry.annotations?.[ANNOTATION.refName] !== name);
    const entry = { ...descriptor, annotations: { ...descriptor.annotations, [ANNOTATION.refName]: name } };
    await replaceFile(this.#path(INDEX_FILE), encodeJson({ ...json, manifests: [...others, entry] }));
  }

  #path(...names: readonly string[]): string {
    return path.join(this.folder, ...names);
  }

  #blobPath(digest: Digest): string {
    return this.#path(...blobName(digest).split('/'));
  }
}

interface LooseEntry {
  readonly annotations?: Readonly<Record<string, string>>;
}

/** @returns undefined when there is no such file @throws ARCHIVE_INVALID for anything but a small plain file */
async function readSmall(file: string, bytesMax: number): Promise<Buffer | undefined> {
  const found = await lstat(file).catch((error: unknown) => {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw systemRefusal(error, 'read', file) ?? error;
  });
  if (found === undefined) return undefined;
  if (!found.isFile() || found.size > bytesMax) {
    throw new FreeholdError('ARCHIVE_INVALID', `${file} is not a plain file of at most ${bytesMax} bytes`);
  }
  const handle = await onDisk('read', file, () => open(file));
  try {
    return await readFile(handle);
  } finally {
    await handle.close();
  }
}
