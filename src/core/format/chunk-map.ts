import { createHash, type Hash, hash } from 'node:crypto';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import type { BlobReference } from './artifact-place.ts';
import { CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, ChunkBoundaries } from './chunker.ts';

/** Of the referrer that carries maps, and of each map in it. The number belongs to the chunker as well. */
export const CHUNK_MAP_TYPE = 'application/vnd.freehold.chunk-map.v1';
/** A smaller blob is fetched sooner than its map is looked up. */
export const MAPPED_BLOB_BYTES_MIN = 1 << 20;
/** Held in memory, unsigned: enough for blobs of 110 GiB. Files of weights are split far below that. */
export const CHUNK_MAP_BYTES_MAX = 64 << 20;

const MAGIC = Buffer.from('FHCHUNK1', 'latin1');
const HEADER_BYTES = 52;
const DIGEST_BYTES = 32;
const ENTRY_BYTES = 4 + DIGEST_BYTES;

/** The chunks of one blob in their order; where a chunk begins is the sum of the lengths before it. */
export interface ChunkMap {
  readonly blob: BlobReference;
  readonly lengths: Uint32Array;
  /** 32 bytes of SHA-256 for each chunk. */
  readonly digests: Uint8Array;
}

/** SHA-256 of one chunk, as maps have it. */
export function chunkDigest(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

/** @returns the digest of a chunk in a map, without a copy */
export function digestAt({ digests }: ChunkMap, index: number): Uint8Array {
  return digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
}

/**
 * Cuts a blob into chunks and hashes each. The blob as a whole is not hashed: a map is a hint.
 * @throws SIZE_MISMATCH when the stream is not as long as the blob; whatever the stream throws
 */
export async function chunkBlob(blob: BlobReference, bytes: AsyncIterable<Uint8Array>): Promise<ChunkMap> {
  const writer = new ChunkMapWriter(blob);
  for await (const piece of bytes) writer.push(piece);
  return writer.finish();
}

class ChunkMapWriter {
  readonly #blob: BlobReference;
  readonly #boundaries = new ChunkBoundaries();
  readonly #lengths: Uint32Array;
  readonly #digests: Uint8Array;
  #count = 0;
  #sizeBytes = 0;
  /** Of the open chunk, as far as it came in pieces before. */
  #openBytes = 0;
  #openHash: Hash | undefined;

  constructor(blob: BlobReference) {
    this.#blob = blob;
    const countMax = Math.ceil(blob.sizeBytes / CHUNK_BYTES_MIN);
    this.#lengths = new Uint32Array(countMax);
    this.#digests = new Uint8Array(countMax * DIGEST_BYTES);
  }

  push(piece: Uint8Array): void {
    this.#sizeBytes += piece.length;
    if (this.#sizeBytes > this.#blob.sizeBytes) throw this.#wrongSize();
    let start = 0;
    while (start < piece.length) {
      const end = this.#boundaries.next(piece, start);
      const part = piece.subarray(start, end < 0 ? piece.length : end);
      if (end < 0) this.#keep(part);
      else this.#add(part);
      start += part.length;
    }
  }

  finish(): ChunkMap {
    if (this.#openBytes > 0) this.#add(new Uint8Array());
    if (this.#sizeBytes !== this.#blob.sizeBytes) throw this.#wrongSize();
    return {
      blob: this.#blob,
      lengths: this.#lengths.slice(0, this.#count),
      digests: this.#digests.slice(0, this.#count * DIGEST_BYTES),
    };
  }

  #keep(part: Uint8Array): void {
    this.#openHash ??= createHash('sha256');
    this.#openHash.update(part);
    this.#openBytes += part.length;
  }

  /** Ends the open chunk with these bytes. */
  #add(part: Uint8Array): void {
    const digest = this.#openHash === undefined ? chunkDigest(part) : this.#openHash.update(part).digest();
    this.#lengths[this.#count] = this.#openBytes + part.length;
    this.#digests.set(digest, this.#count * DIGEST_BYTES);
    this.#count++;
    this.#openBytes = 0;
    this.#openHash = undefined;
  }

  #wrongSize(): FreeholdError {
    const { digest, sizeBytes } = this.#blob;
    return new FreeholdError(
      'SIZE_MISMATCH',
      `${digest} has ${this.#sizeBytes > sizeBytes ? 'more than' : `${this.#sizeBytes} instead of`} ${sizeBytes} bytes`,
    );
  }
}

/**
 * The bytes of a map, little-endian: `FHCHUNK1`; SHA-256 of the blob; its size (8 bytes); the number of chunks (4); the
 * length of each (4); the SHA-256 of each.
 * @throws SIZE_MISMATCH when the map would be larger than readers take
 */
export function encodeChunkMap({ blob, lengths, digests }: ChunkMap): Buffer {
  const bytes = HEADER_BYTES + lengths.length * ENTRY_BYTES;
  if (bytes > CHUNK_MAP_BYTES_MAX) {
    throw new FreeholdError(
      'SIZE_MISMATCH',
      `the chunk map of ${blob.digest} would have ${bytes} bytes, at most ${CHUNK_MAP_BYTES_MAX} are read`,
    );
  }
  const out = Buffer.alloc(bytes);
  MAGIC.copy(out, 0);
  Digest.raw(blob.digest).copy(out, 8);
  out.writeBigUInt64LE(BigInt(blob.sizeBytes), 40);
  out.writeUInt32LE(lengths.length, 48);
  lengths.forEach((length, index) => {
    out.writeUInt32LE(length, HEADER_BYTES + 4 * index);
  });
  out.set(digests, HEADER_BYTES + 4 * lengths.length);
  return out;
}

/**
 * Reads a map that anybody may have written. It must be of this blob, its chunks within the bounds of the chunker, and
 * their lengths must add up to the blob: so nothing overlaps, nothing is left out, and the number of requests that a
 * map can cause is bounded by the size of the blob.
 * @param blob from a verified document
 * @throws CHUNK_MAP_INVALID
 */
export function parseChunkMap(bytes: Uint8Array, blob: BlobReference): ChunkMap {
  const refuse = (what: string) =>
    new FreeholdError('CHUNK_MAP_INVALID', `the chunk map of ${blob.digest} ${what}`);
  if (bytes.length > CHUNK_MAP_BYTES_MAX) {
    throw refuse(`has ${bytes.length} bytes, at most ${CHUNK_MAP_BYTES_MAX} are read`);
  }
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < HEADER_BYTES || !view.subarray(0, 8).equals(MAGIC)) throw refuse('is none of version 1');
  if (!view.subarray(8, 40).equals(Digest.raw(blob.digest))) throw refuse('is of another blob');
  const sizeBytes = view.readBigUInt64LE(40);
  if (sizeBytes !== BigInt(blob.sizeBytes))
    throw refuse(`is of ${sizeBytes} instead of ${blob.sizeBytes} bytes`);
  const count = view.readUInt32LE(48);
  if (view.length !== HEADER_BYTES + count * ENTRY_BYTES) {
    throw refuse(`says ${count} chunks, which is not what ${view.length} bytes hold`);
  }
  const lengths = new Uint32Array(count);
  let sum = 0;
  for (let index = 0; index < count; index++) {
    const length = view.readUInt32LE(HEADER_BYTES + 4 * index);
    const isLast = index === count - 1;
    if (length > CHUNK_BYTES_MAX || length < (isLast ? 1 : CHUNK_BYTES_MIN)) {
      throw refuse(`has a chunk of ${length} bytes`);
    }
    lengths[index] = length;
    sum += length;
  }
  if (sum !== blob.sizeBytes) throw refuse(`adds up to ${sum} instead of ${blob.sizeBytes} bytes`);
  return { blob, lengths, digests: new Uint8Array(view.subarray(HEADER_BYTES + 4 * count)) };
}
