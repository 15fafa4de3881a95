import type { FileHandle } from 'node:fs/promises';

/** One write of the disk at most. */
const BUFFER_BYTES = 1 << 20;
/** One that is being written, the others full or being filled; with more, nothing gets faster and a kill loses more. */
const BUFFERS = 4;
/** The disk begins to make bytes durable while others still arrive, so that little is left to wait for at the end. */
const SYNC_EVERY_BYTES = 128 << 20;

/**
 * Writes a file from its beginning to its end in large pieces, while the caller gets the next bytes. The memory is fixed;
 * who is faster than the disk waits. The first failure is thrown by the next call.
 */
export class WriteBehind {
  readonly #file: FileHandle;
  readonly #free: Buffer[] = [];
  /** The write that was begun last. One after the other: a process that is killed must not leave a hole. */
  #last: Promise<void> = Promise.resolve();
  /** Those who wait for a buffer. */
  #onFree: (() => void) | undefined;
  #made = 0;
  #current: Buffer | undefined;
  #filled = 0;
  /** Where `#current` goes. */
  #position = 0;
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  /** Writes that have not ended. */
  #begun = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** @param position where the bytes go: behind those of the call before, or anywhere after `drain` and `discard` */
  async append(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      this.#throwFailure();
      if (this.#current === undefined) {
        this.#current = await this.#takeBuffer();
        this.#position = position + done;
      }
      const part = bytes.subarray(done, done + BUFFER_BYTES - this.#filled);
      this.#current.set(part, this.#filled);
      this.#filled += part.byteLength;
      done += part.byteLength;
      if (this.#filled === BUFFER_BYTES) this.#begin();
    }
    // What is not written yet is lost when the process is killed: it waits for company only while the disk is busy.
    if (this.#filled > 0 && this.#begun === 0) this.#begin();
  }

  /** Waits until everything is written. @throws the first failure */
  async drain(): Promise<void> {
    if (this.#filled > 0) this.#begin();
    await this.#last;
    await this.#syncing;
    this.#throwFailure();
  }

  /** Forgets what is not written yet, and failures. */
  async discard(): Promise<void> {
    if (this.#current !== undefined) this.#free.push(this.#current);
    this.#current = undefined;
    this.#filled = 0;
    await this.#last;
    await this.#syncing;
    this.#failure = undefined;
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #takeBuffer(): Promise<Buffer> {
    for (;;) {
      const free = this.#free.pop();
      if (free !== undefined) return free;
      if (this.#made < BUFFERS) {
        this.#made++;
        return Buffer.allocUnsafeSlow(BUFFER_BYTES);
      }
      await new Promise<void>((resolve) => {
        this.#onFree = resolve;
      });
    }
  }

  #begin(): void {
    const buffer = this.#current;
    if (buffer === undefined) return;
    const bytes = this.#filled;
    const position = this.#position;
    this.#begun++;
    this.#last = this.#last.then(async () => {
      try {
        if (this.#failure === undefined) await this.#write(buffer, bytes, position);
      } catch (error) {
        this.#failure ??= { error };
      }
      this.#begun--;
      this.#free.push(buffer);
      this.#onFree?.();
    });
    this.#current = undefined;
    this.#filled = 0;
  }

  /** A write may take fewer bytes than offered (a nearly full disk): goes on until all are taken or the system refuses. */
  async #write(buffer: Buffer, bytes: number, position: number): Promise<void> {
    for (let done = 0; done < bytes; ) {
      const { bytesWritten } = await this.#file.write(buffer, done, bytes - done, position + done);
      done += bytesWritten;
    }
    this.#unsyncedBytes += bytes;
    if (this.#unsyncedBytes < SYNC_EVERY_BYTES || this.#syncing !== undefined) return;
    this.#unsyncedBytes = 0;
    this.#syncing = this.#file
      .datasync()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#syncing = undefined;
      });
  }
}
