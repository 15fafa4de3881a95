import type { ByteSource } from '../../core/base/byte-source.ts';
import type { BlobRange } from '../../core/format/artifact-place.ts';
import { chunkDigest, digestAt } from '../../core/format/chunk-map.ts';
import type { DeltaPlan, LocalChunk } from './delta-plan.ts';

/** Chunks that follow each other here are read together; more gains nothing beside hashing. */
const WINDOW_BYTES = 1 << 20;

export type OpenByteSource = ByteSource & { close(): Promise<void> };

/** What a delta is made of. */
export interface DeltaParts {
  readonly plan: DeltaPlan;
  /** Opens the blob of one of the maps in the plan's index. */
  readonly openLocal: (map: number) => Promise<OpenByteSource>;
  /** Bytes of the wanted blob from where it is pulled from: exactly the range, or an error. */
  readonly fetch: (range: Required<BlobRange>) => AsyncIterable<Uint8Array>;
  /** Told how the bytes came that were just yielded. */
  readonly onBytes: (how: 'fetched' | 'reused', bytes: number) => void;
}

/**
 * The wanted blob from an offset on, whole, put together of what is here and what is fetched. Each local chunk is hashed
 * before it is used: a local file may be damaged, or its map false; then the chunk is fetched. Whether the result is
 * the blob says its own digest alone, which the caller checks: the wanted map may be false as well.
 * @throws what `fetch` throws
 */
export async function* deltaBytes(parts: DeltaParts, startBytes: number): AsyncGenerator<Uint8Array> {
  const { plan, fetch, onBytes } = parts;
  const local = new LocalChunks(parts.openLocal);
  async function* fetched(start: number, end: number) {
    for await (const piece of fetch({ startBytes: start, endBytes: end })) {
      yield piece;
      onBytes('fetched', piece.length);
    }
  }
  try {
    let fetchFrom: number | undefined;
    let end = 0;
    for (const [chunk, length] of plan.wanted.lengths.entries()) {
      const start = end;
      end += length;
      if (end <= startBytes) continue;
      const place = plan.local[chunk];
      const bytes = place && (await local.read(place, length, digestAt(plan.wanted, chunk)));
      if (bytes === undefined) {
        fetchFrom ??= Math.max(start, startBytes);
        continue;
      }
      if (fetchFrom !== undefined) yield* fetched(fetchFrom, start);
      fetchFrom = undefined;
      const part = bytes.subarray(Math.max(0, startBytes - start));
      yield part;
      onBytes('reused', part.length);
    }
    if (fetchFrom !== undefined) yield* fetched(fetchFrom, end);
  } finally {
    await local.close();
  }
}

/** Local blobs, each opened once, read a window at a time. */
class LocalChunks {
  readonly #open: DeltaParts['openLocal'];
  readonly #sources = new Map<number, OpenByteSource | undefined>();
  #window: { readonly map: number; readonly offset: number; readonly bytes: Uint8Array } | undefined;

  constructor(open: DeltaParts['openLocal']) {
    this.#open = open;
  }

  /** @returns undefined when the bytes are not there, cannot be read, or are others */
  async read(place: LocalChunk, length: number, digest: Uint8Array): Promise<Uint8Array | undefined> {
    const bytes = await this.#bytes(place, length).catch(() => undefined);
    return bytes !== undefined && chunkDigest(bytes).equals(digest) ? bytes : undefined;
  }

  async close(): Promise<void> {
    for (const source of this.#sources.values()) await source?.close();
    this.#sources.clear();
  }

  async #bytes({ map, offset }: LocalChunk, length: number): Promise<Uint8Array | undefined> {
    const source = await this.#source(map);
    if (source === undefined || offset + length > source.sizeBytes) return undefined;
    const window = this.#window;
    const isInside =
      window?.map === map &&
      offset >= window.offset &&
      offset + length <= window.offset + window.bytes.length;
    if (window !== undefined && isInside) {
      return window.bytes.subarray(offset - window.offset, offset - window.offset + length);
    }
    const bytes = await source.read(
      offset,
      Math.min(Math.max(WINDOW_BYTES, length), source.sizeBytes - offset),
    );
    this.#window = { map, offset, bytes };
    return bytes.subarray(0, length);
  }

  async #source(map: number): Promise<OpenByteSource | undefined> {
    if (!this.#sources.has(map)) {
      this.#sources.set(map, await this.#open(map).catch(() => undefined));
    }
    return this.#sources.get(map);
  }
}
