import { type ChunkMap, digestAt } from '../../core/format/chunk-map.ts';
import { CHUNK_BYTES_MIN } from '../../core/format/chunker.ts';

/**
 * Bytes that are here but are fetched all the same when they lie between two ranges that are not: a further request
 * costs a round trip, in which a line of 50 Mbit/s and 30 ms carries this much.
 */
export const GAP_BYTES_MAX = 192 * 1024;

/** Where a chunk lies on this machine. */
export interface LocalChunk {
  /** Which of the maps that the index was made of. */
  readonly map: number;
  readonly offset: number;
}

/** What is to be done for each chunk of the wanted blob, in its order. */
export interface DeltaPlan {
  readonly wanted: ChunkMap;
  /** For each chunk where it is here, or undefined: to be fetched. */
  readonly local: readonly (LocalChunk | undefined)[];
  /** What will be fetched and what not, if every local chunk is sound. */
  readonly fetchBytes: number;
  readonly reuseBytes: number;
  /** Ranges to fetch. */
  readonly requests: number;
}

/** Plans how a blob is put together. */
export function planDelta(wanted: ChunkMap, index: ChunkIndex): DeltaPlan {
  const local = Array.from(wanted.lengths, (_, chunk) =>
    index.find(digestAt(wanted, chunk), wanted.lengths[chunk] ?? 0),
  );
  fillGaps(wanted, local);
  let fetchBytes = 0;
  let requests = 0;
  local.forEach((place, chunk) => {
    if (place !== undefined) return;
    fetchBytes += wanted.lengths[chunk] ?? 0;
    if (chunk === 0 || local[chunk - 1] !== undefined) requests++;
  });
  return { wanted, local, fetchBytes, reuseBytes: wanted.blob.sizeBytes - fetchBytes, requests };
}

/** Has short runs of local chunks fetched along with the missing ones on both sides of them. */
function fillGaps({ lengths }: ChunkMap, local: (LocalChunk | undefined)[]): void {
  let runStart: number | undefined;
  let runBytes = 0;
  for (const [chunk, length] of lengths.entries()) {
    if (local[chunk] !== undefined) {
      runBytes += length;
      continue;
    }
    if (runStart !== undefined && runBytes <= GAP_BYTES_MAX) local.fill(undefined, runStart, chunk);
    runStart = chunk + 1;
    runBytes = 0;
  }
}

/** Steps of one search at most: a map whose digests were made to collide must not make every search a walk. */
const PROBES_MAX = 64;

/**
 * Finds chunks by digest, in 8 bytes of memory for each: models have hundreds of thousands, and pulling must stay
 * within 150 MiB.
 */
export class ChunkIndex {
  readonly #maps: readonly ChunkMap[];
  /** Number of an entry plus one; 0: free. */
  readonly #slots: Uint32Array;
  /** For each map the number of its first entry, for each entry where its chunk begins. */
  readonly #firsts: number[] = [];
  readonly #offsets: Float64Array;

  constructor(maps: readonly ChunkMap[]) {
    this.#maps = maps;
    const count = maps.reduce((sum, { lengths }) => sum + lengths.length, 0);
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(2 * count + 2)));
    this.#offsets = new Float64Array(count);
    let entry = 0;
    for (const map of maps) {
      this.#firsts.push(entry);
      let offset = 0;
      for (const [chunk, length] of map.lengths.entries()) {
        this.#offsets[entry] = offset;
        this.#insert(digestAt(map, chunk), entry);
        offset += length;
        entry++;
      }
    }
  }

  /** @param lengthBytes another length with this digest is a false map's */
  find(digest: Uint8Array, lengthBytes: number): LocalChunk | undefined {
    for (const slot of this.#probes(digest)) {
      const entry = (this.#slots[slot] ?? 0) - 1;
      if (entry < 0) return undefined;
      const { map, chunk } = this.#chunkOf(entry);
      if (Buffer.compare(digestAt(map, chunk), digest) !== 0) continue;
      if (map.lengths[chunk] !== lengthBytes) return undefined;
      return { map: this.#maps.indexOf(map), offset: this.#offsets[entry] ?? 0 };
    }
    return undefined;
  }

  #insert(digest: Uint8Array, entry: number): void {
    for (const slot of this.#probes(digest)) {
      const other = (this.#slots[slot] ?? 0) - 1;
      if (other < 0) {
        this.#slots[slot] = entry + 1;
        return;
      }
      const { map, chunk } = this.#chunkOf(other);
      if (Buffer.compare(digestAt(map, chunk), digest) === 0) return;
    }
  }

  *#probes(digest: Uint8Array): Generator<number> {
    const mask = this.#slots.length - 1;
    const first = new DataView(digest.buffer, digest.byteOffset).getUint32(0, true);
    for (let step = 0; step < PROBES_MAX; step++) yield (first + step) & mask;
  }

  #chunkOf(entry: number): { readonly map: ChunkMap; readonly chunk: number } {
    const number = this.#firsts.findLastIndex((first) => first <= entry);
    // An entry comes from one of the maps.
    return { map: this.#maps[number] as ChunkMap, chunk: entry - (this.#firsts[number] ?? 0) };
  }
}

/** The least number of bytes for which putting a blob together is worth its requests. */
export const REUSE_BYTES_MIN = 4 * CHUNK_BYTES_MIN;
