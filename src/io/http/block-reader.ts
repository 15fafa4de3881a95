import type { OnReadOpts } from 'node:net';

/** One piece at most; a kernel has seldom more ready. */
const BLOCK_BYTES = 256 << 10;
/**
 * With less room left, reading pauses; TLS still hands out what it has decrypted by then, in records of 16 KiB.
 */
const ROOM_BYTES_MIN = 64 << 10;

/**
 * Receives what a socket reads into blocks that are used again and again: one is with the reader while others are filled.
 * Buffers made anew for every read are what a fast transfer spends most of its time and memory on.
 */
export class BlockReader {
  /** For `net.connect` and `tls.connect`. */
  readonly onread: OnReadOpts;
  readonly #resume: () => void;
  readonly #free: Buffer[] = [];
  #filling = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  #filledBytes = 0;
  /** Filled while the reader was busy; `filledBytes` of each are used. */
  readonly #full: { readonly block: Buffer; readonly filledBytes: number }[] = [];
  /** With the reader until it asks for the next piece. */
  #lent: Buffer | undefined;
  #wake: (() => void) | undefined;
  #isPaused = false;
  #end: { readonly error: unknown } | undefined;

  /** @param resume lets the socket read on after it was told to pause */
  constructor(resume: () => void) {
    this.#resume = resume;
    this.onread = {
      buffer: () => this.#room(),
      callback: (bytes) => {
        this.#filledBytes += bytes;
        // Who waits takes the block before more is read.
        this.#isPaused = this.#wake === undefined && BLOCK_BYTES - this.#filledBytes < ROOM_BYTES_MIN;
        this.#wakeUp();
        return !this.#isPaused;
      },
    };
  }

  /** Whether it is the other side that is slow. */
  get isWaiting(): boolean {
    return this.#wake !== undefined;
  }

  /** No more bytes come; those that came can still be read. @param error thrown after them */
  end(error?: unknown): void {
    this.#end ??= { error };
    this.#wakeUp();
  }

  /**
   * @returns the bytes that come next, valid until the next call; undefined at the end
   * @throws what ended it
   */
  async read(): Promise<Uint8Array | undefined> {
    if (this.#lent !== undefined) this.#free.push(this.#lent);
    this.#lent = undefined;
    for (;;) {
      if (this.#filledBytes > 0) this.#turn();
      const next = this.#full.shift();
      if (next !== undefined) {
        this.#lent = next.block;
        if (this.#isPaused) this.#goOn();
        return next.block.subarray(0, next.filledBytes);
      }
      if (this.#end?.error !== undefined) throw this.#end.error;
      if (this.#end !== undefined) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
