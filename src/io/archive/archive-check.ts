import type { Hash } from 'node:crypto';
import { Digest } from '../../core/base/digest.ts';
import { archiveInvalid } from '../../core/format/archive-entries.ts';
import type { ArchiveLayout } from '../../core/format/archive-reader.ts';
import { type ArchiveBytes, alteredPart } from './archive-file.ts';

/** One read, and one uninterrupted piece of hashing. */
const CHUNK_BYTES = 1 << 20;

export interface CheckArchiveOptions {
  readonly signal: AbortSignal;
  readonly onBytes?: (doneBytes: number, totalBytes: number) => void;
}

/** A stretch of the archive with a digest that it must have. */
interface Stretch {
  readonly start: number;
  readonly end: number;
  readonly expected: Digest;
  fail(actual: Digest): Error;
}

/**
 * Reads an archive once, from its first byte to its last, and hashes each part and each blob on the way.
 * @throws ARCHIVE_INVALID naming the part or the entry that was altered
 */
export async function checkArchiveBytes(
  bytes: ArchiveBytes,
  layout: ArchiveLayout,
  { signal, onBytes }: CheckArchiveOptions,
): Promise<void> {
  const [parts, blobs] = [new Running(partStretches(bytes)), new Running(blobStretches(layout))];
  for (let offset = 0; offset < bytes.sizeBytes; ) {
    signal.throwIfAborted();
    const end = Math.min(
      offset + CHUNK_BYTES,
      bytes.sizeBytes,
      parts.boundary(offset),
      blobs.boundary(offset),
    );
    const chunk = await bytes.read(offset, end - offset);
    // Parts first: "part 002 was altered" says what to copy again.
    parts.update(offset, chunk);
    blobs.update(offset, chunk);
    offset = end;
    onBytes?.(offset, bytes.sizeBytes);
  }
}

function partStretches({ parts = [], label }: ArchiveBytes): Stretch[] {
  let start = 0;
  return parts.map((part, index) => {
    const stretch = { start, end: start + part.size, expected: part.digest };
    start = stretch.end;
    return { ...stretch, fail: (actual) => alteredPart(label, index, actual, part) };
  });
}

function blobStretches({ blobs, label }: ArchiveLayout): Stretch[] {
  const stretches = [...blobs].map(([expected, { name, offset, sizeBytes }]) => ({
    start: offset,
    end: offset + sizeBytes,
    expected,
    fail: (actual: Digest) => archiveInvalid(label, name, `was altered: its bytes have ${actual}`),
  }));
  return stretches.sort((left, right) => left.start - right.start);
}

/** Stretches that follow one another, hashed as the bytes come. */
class Running {
  readonly #stretches: readonly Stretch[];
  #current = 0;
  #hash: Hash = Digest.begin();

  constructor(stretches: readonly Stretch[]) {
    this.#stretches = stretches;
  }

  /** The next byte after `offset` at which a stretch begins or ends. */
  boundary(offset: number): number {
    const stretch = this.#stretches[this.#current];
    if (stretch === undefined) return Number.POSITIVE_INFINITY;
    return offset < stretch.start ? stretch.start : stretch.end;
  }

  /** The chunk must not reach over a boundary. */
  update(offset: number, chunk: Uint8Array): void {
    const stretch = this.#stretches[this.#current];
    if (stretch === undefined || offset < stretch.start) return;
    this.#hash.update(chunk);
    if (offset + chunk.byteLength < stretch.end) return;
    const actual = Digest.finish(this.#hash);
    if (actual !== stretch.expected) throw stretch.fail(actual);
    this.#hash = Digest.begin();
    this.#current++;
  }
}
