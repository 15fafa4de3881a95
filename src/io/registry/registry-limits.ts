import { FETCH_LIMITS, type FetchLimits } from '../http/fetch-limits.ts';

/** Patience and caps of one repository. Tests shorten the times and sizes. */
export interface RegistryLimits extends FetchLimits {
  /** For the answer that ends an upload: a registry may read and move the whole blob first. */
  readonly commitTimeoutMs: number;
  /** A blob of up to this goes in one request. */
  readonly monolithicBytesMax: number;
  /** Of a piece of a larger blob; see `chunkBytesAt`. */
  readonly chunkBytesMin: number;
  readonly chunkBytesMax: number;
}

export const REGISTRY_LIMITS: RegistryLimits = {
  ...FETCH_LIMITS,
  headersTimeoutMs: 30_000,
  commitTimeoutMs: 15 * 60_000,
  monolithicBytesMax: 4 << 20,
  chunkBytesMin: 1 << 20,
  chunkBytesMax: 8 << 20,
};

/** A registry's account of an error; the first lines say it. */
export const ERROR_BYTES_MAX = 64 << 10;
/** A token has 1 to 10 kB, with many groups of users in it. */
export const TOKEN_BYTES_MAX = 256 << 10;
/** More tags than any repository that people look at; stops a list without end. */
export const TAGS_MAX = 200_000;
export const PAGES_MAX = 2_000;
/** Anybody who may write can add referrers. */
export const REFERRERS_MAX = 10_000;
/** Pieces in which a chunk goes to the socket: each one that is taken proves that the line lives. */
export const SEND_BYTES = 256 << 10;
/** Held in memory while it is sent; a registry that asks for larger chunks gets the blob in one request. */
export const CHUNK_BYTES_CAP = 64 << 20;
/** Each candidate costs a request, and seldom is the second one right when the first was not. */
export const MOUNTS_MAX = 3;
