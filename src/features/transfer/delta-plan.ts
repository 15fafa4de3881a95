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
const PROBES_MAX = 32;

/**
 * Finds chunks by digest, in 16 bytes of memory for each: models have hundreds of thousands, and pulling must stay
 * within 150 MiB.
 */
export class ChunkIndex {
  readonly #maps: readonly ChunkMap[];
  /** Open addressing; the number of an entry plus one, 0: free. At most half of them are taken. */
  readonly #slots: Uint32Array;
  /** For each map the number of its first entry; for each entry where its chunk begins. */
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
        const slot = this.#slotOf(digestAt(map, chunk));
        if (slot !== undefined && this.#slots[slot] === 0) this.#slots[slot] = entry + 1;
        offset += length;
        entry++;
      }
    }
  }

  /** @param lengthBytes another length with this digest is a false map's */
  find(digest: Uint8Array, lengthBytes: number): LocalChunk | undefined {
    const slot = this.#slotOf(digest);
    const entry = slot === undefined ? -1 : (this.#slots[slot] ?? 0) - 1;
    if (entry < 0) return undefined;
    const map = this.#mapOf(entry);
    const length = this.#maps[map]?.lengths[entry - (this.#firsts[map] ?? 0)];
    return length === lengthBytes ? { map, offset: this.#offsets[entry] ?? 0 } : undefined;
  }

  /** The slot of the entry with this digest, else the free one where it would go; undefined after too many steps. */
  #slotOf(digest: Uint8Array): number | undefined {
    const mask = this.#slots.length - 1;
    const first = new DataView(digest.buffer, digest.byteOffset).getUint32(0, true);
    for (let step = 0; step < PROBES_MAX; step++) {
      const slot = (first + step) & mask;
      const entry = (this.#slots[slot] ?? 0) - 1;
      if (entry < 0 || this.#hasDigest(entry, digest)) return slot;
    }
    return undefined;
  }

  #hasDigest(entry: number, digest: Uint8Array): boolean {
    const map = this.#mapOf(entry);
    const digests = this.#maps[map]?.digests;
    const start = digest.length * (entry - (this.#firsts[map] ?? 0));
    if (digests === undefined) return false;
    for (let index = 0; index < digest.length; index++) {
      if (digest[index] !== digests[start + index]) return false;
    }
    return true;
  }

  #mapOf(entry: number): number {
    return this.#firsts.findLastIndex((first) => first <= entry);
  }
}

/** The least number of bytes for which putting a blob together is worth its requests. */
export const REUSE_BYTES_MIN = 4 * CHUNK_BYTES_MIN;
