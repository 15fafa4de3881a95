import { FreeholdError } from '../../core/base/errors.ts';
import { TransferError } from '../http/http-failures.ts';
import type { FileResponse } from '../http/http-request.ts';
import { pauseBeforeRetry, temporaryFault } from '../http/retry.ts';
import { BlobReader } from './blob-reader.ts';
import { registryFault } from './registry-fault.ts';
import { CHUNK_BYTES_CAP } from './registry-limits.ts';
import { writeScopes } from './repository-context.ts';
import {
  beginUpload,
  cancelUpload,
  commitUpload,
  isBlobThere,
  sendPieces,
  type UploadOrder,
  type UploadSession,
} from './upload-session.ts';

/** A kill must not cost more than a hundredth of what has arrived, also where a piece is kept whole or not at all. */
const CHUNK_SHARE = 1 / 128;
/**
 * How long a piece that is under way may still take after the caller has cancelled: distribution 2.x drops a whole
 * upload when a piece of it breaks off.
 */
const GRACE_MS = 2_000;

/** A piece of the blob in memory: it may have to be sent again. */
interface Chunk {
  readonly startBytes: number;
  readonly bytes: Uint8Array;
}

/** The registry does not know the upload any more. */
class LostUpload extends Error {}
/** The registry has other bytes than were sent to it. */
class SpoiltUpload extends Error {}
/** The registry does not take the blob in pieces. */
class ChunksRefused extends Error {}

/**
 * The upload of a large blob in pieces, one after the other (OCI distribution 1.1, "Pushing a blob in chunks"). After each
 * piece its location is recorded, so that another process can go on. What the registry says it has decides where; the
 * bytes up to there are read again, and count in the digest.
 */
export class ChunkedUpload {
  readonly #order: UploadOrder;
  #session: UploadSession | undefined;
  /** Bytes that the registry has. */
  #offsetBytes = 0;
  #reader: BlobReader;
  #chunk: Chunk | undefined;
  /** The piece after it, read while it is sent. */
  #next: Promise<Chunk> | undefined;
  /** In turns: one is sent while the other is filled. */
  #buffers: Buffer[] = [Buffer.alloc(0), Buffer.alloc(0)];
  #chunkBytesMax: number;
  /** The registry may have bytes that this call has not sent. */
  #hasForeignBytes = false;
  #losses = 0;

  constructor(order: UploadOrder, session: UploadSession | undefined) {
    this.#order = order;
    this.#session = session;
    this.#reader = new BlobReader(order.blob, order.open);
    this.#chunkBytesMax = order.connection.limits.chunkBytesMax;
  }

  /**
   * @param kept the recorded location of an earlier upload
   * @returns chunks-refused when the registry wants the blob in one request
   */
  async run(kept: string | undefined): Promise<'written' | 'chunks-refused'> {
    const { connection, signal, progress } = this.#order;
    if (kept !== undefined) await this.#takeUp(kept);
    progress.begin(this.#offsetBytes);
    let failures = 0;
    for (;;) {
      const beforeBytes = this.#offsetBytes;
      try {
        await this.#sendRest();
        return 'written';
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (this.#offsetBytes > beforeBytes) failures = 0;
        if (error instanceof ChunksRefused) {
          await this.#forget();
          return 'chunks-refused';
        }
        const fault = await this.#recover(error);
        const { attemptsMax } = connection.limits;
        if (++failures >= attemptsMax || this.#losses >= attemptsMax) throw fault;
        await pauseBeforeRetry(fault, failures, connection.limits, signal);
      }
    }
  }

  /** Lets go of the caller's stream. */
  async close(): Promise<void> {
    await this.#next?.catch(() => {});
    await this.#reader.close();
  }

  /** Goes on where an earlier process was, if the registry still knows. */
  async #takeUp(kept: string): Promise<void> {
    const { connection, record } = this.#order;
    try {
      const location = URL.parse(kept, connection.origin.href);
      if (location?.origin !== connection.origin.origin) throw new LostUpload();
      this.#session = { location, chunkBytesMin: 0 };
      this.#hasForeignBytes = true;
      await this.#ask();
    } catch (error) {
      if (!(error instanceof LostUpload)) throw error;
      await record.forget();
      this.#beginAnew();
    }
  }

  /** Pieces from where the registry is, then the end. */
  async #sendRest(): Promise<void> {
    const { blob, signal } = this.#order;
    this.#session ??= await beginUpload(this.#order);
    if (this.#session.chunkBytesMin > CHUNK_BYTES_CAP) throw new ChunksRefused();
    while (this.#offsetBytes < blob.sizeBytes) {
      signal.throwIfAborted();
      this.#session = await this.#sendChunk(this.#session, await this.#chunkAtOffset());
      this.#offsetBytes = this.#chunkEnd;
      await this.#order.record.write(this.#session.location.href);
    }
    await this.#commit(this.#session.location);
  }

  get #chunkEnd(): number {
    return this.#chunk === undefined ? 0 : this.#chunk.startBytes + this.#chunk.bytes.byteLength;
  }

  async #sendChunk({ location, chunkBytesMin }: UploadSession, chunk: Chunk): Promise<UploadSession> {
    const { connection, repository } = this.#order;
    const start = this.#offsetBytes;
    const bytes = chunk.bytes.subarray(start - chunk.startBytes);
    const grace = graceAfter(this.#order.signal);
    try {
      const response = await connection.send({
        method: 'PATCH',
        target: location,
        scopes: writeScopes(repository),
        headers: {
          'content-type': 'application/octet-stream',
          'content-length': String(bytes.byteLength),
          'content-range': `${start}-${start + bytes.byteLength - 1}`,
        },
        body: () => sendPieces(bytes, start, this.#order, grace.signal),
        signal: grace.signal,
        attemptsMax: 1,
      });
      // The status counts, not the Range header: some registries report an old one.
      if (response.status !== 202 && response.status !== 204)
        throw await this.#refusal(response, bytes.byteLength);
      response.abandon();
      const next = response.header('location') ?? location.href;
      return { location: connection.ownLocation(next, response.url), chunkBytesMin };
    } finally {
      grace.end();
    }
  }

  /** What an answer to a piece means. */
  async #refusal(response: FileResponse, chunkBytes: number): Promise<Error> {
    const { label, blob, connection } = this.#order;
    const { status } = response;
    const { chunkBytesMin } = connection.limits;
    // 416 is both: a piece too large for this registry, and one that it does not wait for. Where it is, it will tell.
    const isTooLarge = status === 413 || status === 416;
    if (isTooLarge && chunkBytes > chunkBytesMin) {
      this.#chunkBytesMax = Math.max(chunkBytesMin, Math.floor(chunkBytes / 2));
      response.abandon();
      return temporaryFault(response, `${label}: HTTP status ${status} for ${chunkBytes} bytes of a blob`);
    }
    if (this.#offsetBytes === 0 && (isTooLarge || [400, 404, 405, 411, 501].includes(status))) {
      response.abandon();
      return new ChunksRefused();
    }
    if (status === 404 || status === 416) {
      response.abandon();
      return new LostUpload();
    }
    return registryFault(response, label, `write the blob ${blob.digest}`);
  }

  async #commit(location: URL): Promise<void> {
    const { connection } = this.#order;
    try {
      await commitUpload(this.#order, location, undefined, 0);
    } catch (error) {
      // The answer may be lost of a request that was not.
      if (connection.mayRepeat(error) && (await isBlobThere(this.#order))) return;
      const isOther =
        error instanceof FreeholdError && ['DIGEST_MISMATCH', 'SIZE_MISMATCH'].includes(error.code);
      if (isOther && this.#hasForeignBytes) throw new SpoiltUpload(error.message, { cause: error });
      throw error;
    }
  }

  /**
   * Brings the upload to where it can go on.
   * @returns what to report when this was the last attempt
   * @throws what no further attempt can help
   */
  async #recover(error: unknown): Promise<FreeholdError> {
    const { connection, label, blob } = this.#order;
    let isLost = error instanceof LostUpload || error instanceof SpoiltUpload;
    if (!isLost) {
      const isOurs =
        error instanceof FreeholdError && ['DIGEST_MISMATCH', 'SIZE_MISMATCH'].includes(error.code);
      if (isOurs) await this.#forget();
      if (!connection.mayRepeat(error)) throw error;
      this.#hasForeignBytes = true;
      try {
        await this.#ask();
        return error;
      } catch (asked) {
        isLost = asked instanceof LostUpload;
        if (!isLost && !connection.mayRepeat(asked)) throw asked;
        if (!isLost) return error;
      }
    }
    await this.#forget();
    this.#beginAnew();
    this.#losses++;
    return new TransferError(`${label}: the registry lost the upload of ${blob.digest}`, {
      cause: error,
      hint: 'some registries drop an upload when its connection breaks: try again, over a steadier line',
    });
  }

  /** Where the registry is. OCI distribution 1.1, "Pushing a blob in chunks": GET of the location. @throws LostUpload */
  async #ask(): Promise<void> {
    const { connection, repository, blob, label, signal } = this.#order;
    if (this.#session === undefined) return;
    const { location, chunkBytesMin } = this.#session;
    const scopes = writeScopes(repository);
    const response = await connection.send({ method: 'GET', target: location, scopes, signal });
    if (response.status >= 400 && response.status !== 403) {
      response.abandon();
      throw new LostUpload();
    }
    if (response.status > 204) throw await registryFault(response, label, 'continue an upload');
    response.abandon();
    const end = /^(?:bytes=)?0-(\d{1,15})$/.exec(response.header('range') ?? '')?.[1];
    // "0-0" is said of one byte and of none.
    const offsetBytes = end === undefined || end === '0' ? 0 : Number(end) + 1;
    if (offsetBytes > blob.sizeBytes || offsetBytes === 0) throw new LostUpload();
    const next = response.header('location') ?? location.href;
    this.#session = { location: connection.ownLocation(next, response.url), chunkBytesMin };
    this.#offsetBytes = offsetBytes;
  }

  /** The piece in memory that has the byte at the offset; begins to read the one after it. */
  async #chunkAtOffset(): Promise<Chunk> {
    const { blob, open } = this.#order;
    const offset = this.#offsetBytes;
    while (this.#chunk === undefined || offset < this.#chunk.startBytes || offset >= this.#chunkEnd) {
      this.#chunk = undefined;
      if (this.#next !== undefined) {
        const next = this.#next;
        this.#next = undefined;
        this.#chunk = await next;
        continue;
      }
      if (this.#reader.positionBytes > offset) {
        await this.#reader.close();
        this.#reader = new BlobReader(blob, open);
      }
      await this.#reader.skip(offset - this.#reader.positionBytes);
      this.#chunk = await this.#readChunk();
    }
    if (this.#next === undefined && this.#reader.positionBytes < blob.sizeBytes) {
      this.#next = this.#readChunk();
      // Heard of when it is its turn.
      this.#next.catch(() => {});
    }
    return this.#chunk;
  }

  async #readChunk(): Promise<Chunk> {
    const startBytes = this.#reader.positionBytes;
    const sizeBytes = this.#chunkBytesAt(startBytes);
    const [free = Buffer.alloc(0), other = Buffer.alloc(0)] = this.#buffers;
    const buffer = free.byteLength >= sizeBytes ? free : Buffer.allocUnsafeSlow(this.#roomFor(sizeBytes));
    this.#buffers = [other, buffer];
    const bytes = buffer.subarray(0, sizeBytes);
    await this.#reader.fill(bytes);
    return { startBytes, bytes };
  }

  /** Small pieces first, so that a kill never costs more than a small share of what has arrived. */
  #chunkBytesAt(offsetBytes: number): number {
    const { blob, connection } = this.#order;
    const wanted = Math.max(connection.limits.chunkBytesMin, Math.floor(offsetBytes * CHUNK_SHARE));
    const bytes = Math.max(Math.min(wanted, this.#chunkBytesMax), this.#session?.chunkBytesMin ?? 0);
    return Math.min(bytes, blob.sizeBytes - offsetBytes);
  }

  /** Also for the largest piece: they grow by and by, and memory that nothing was written to takes none. */
  #roomFor(sizeBytes: number): number {
    return Math.max(sizeBytes, Math.min(this.#chunkBytesMax, this.#order.blob.sizeBytes));
  }

  /** The next piece is the first again. */
  #beginAnew(): void {
    this.#session = undefined;
    this.#offsetBytes = 0;
    this.#hasForeignBytes = false;
  }

  async #forget(): Promise<void> {
    if (this.#session !== undefined) await cancelUpload(this.#order, this.#session.location);
    await this.#order.record.forget();
  }
}

/** Aborts some time after another signal. */
function graceAfter(signal: AbortSignal): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => controller.abort(signal.reason), GRACE_MS);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  return {
    signal: controller.signal,
    end() {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    },
  };
}
