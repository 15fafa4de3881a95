import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { BlobReference } from '../../core/format/artifact-place.ts';

/** Gives the bytes of a blob from an offset on. */
export type OpenBlob = (startBytes: number) => AsyncIterable<Uint8Array>;

/** What the caller's own stream threw: passed on as it is, and no fault of the registry that another attempt could mend. */
export class StreamFailure extends Error {
  readonly error: unknown;
  constructor(error: unknown) {
    super('the stream failed');
    this.error = error;
  }
}

/** Reads a blob that is about to be sent, front to back, and hashes it on the way. */
export class BlobReader {
  /** Bytes that were read and hashed. */
  positionBytes = 0;
  readonly #blob: BlobReference;
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #hash = Digest.begin();
  /** What of the last piece was not wanted yet. */
  #rest: Uint8Array = new Uint8Array(0);

  constructor(blob: BlobReference, open: OpenBlob) {
    this.#blob = blob;
    this.#pieces = open(0)[Symbol.asyncIterator]();
  }

  /**
   * Fills the buffer with the bytes that come next; with the last byte of the blob, the whole is checked.
   * @throws SIZE_MISMATCH, DIGEST_MISMATCH, StreamFailure
   */
  async fill(buffer: Uint8Array): Promise<void> {
    let done = 0;
    await this.#take(buffer.byteLength, (bytes) => {
      // A copy: the stream may use its own buffer again.
      buffer.set(bytes, done);
      done += bytes.byteLength;
    });
  }

  /** Reads on without keeping anything: what is there already, and must count in the digest. */
  async skip(bytes: number): Promise<void> {
    await this.#take(bytes, () => {});
  }

  /** Lets go of the stream. */
  async close(): Promise<void> {
    // A stream that fails while it ends has nothing more to say.
    await this.#pieces.return?.().catch(() => {});
  }

  async #take(wantedBytes: number, onBytes: (bytes: Uint8Array) => void): Promise<void> {
    let leftBytes = wantedBytes;
    while (leftBytes > 0) {
      if (this.#rest.byteLength === 0) this.#rest = (await this.#next()) ?? this.#tooShort();
      const part = this.#rest.subarray(0, leftBytes);
      this.#rest = this.#rest.subarray(part.byteLength);
      this.#hash.update(part);
      onBytes(part);
      leftBytes -= part.byteLength;
      this.positionBytes += part.byteLength;
    }
    if (this.positionBytes === this.#blob.sizeBytes) await this.#finish();
  }

  async #next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { done, value } = await this.#pieces.next().catch((error: unknown) => {
        throw new StreamFailure(error);
      });
      if (done === true) return undefined;
      if (value.byteLength > 0) return value;
    }
  }

  async #finish(): Promise<void> {
    const { digest, sizeBytes } = this.#blob;
    if (this.#rest.byteLength > 0 || (await this.#next()) !== undefined) {
      throw mismatch('SIZE_MISMATCH', `${digest}: more than the expected ${sizeBytes} bytes`, this.#blob);
    }
    const actual = Digest.finish(this.#hash.copy());
    if (actual !== digest) {
      throw mismatch(
        'DIGEST_MISMATCH',
        `the bytes to send for ${digest} have the digest ${actual}`,
        this.#blob,
      );
    }
  }

  #tooShort(): never {
    const { digest, sizeBytes } = this.#blob;
    throw mismatch(
      'SIZE_MISMATCH',
      `${digest}: ${this.positionBytes} bytes instead of ${sizeBytes}`,
      this.#blob,
    );
  }
}

function mismatch(
  code: 'SIZE_MISMATCH' | 'DIGEST_MISMATCH',
  message: string,
  { digest, sizeBytes }: BlobReference,
) {
  return new FreeholdError(code, message, { detail: { digest, sizeBytes } });
}
