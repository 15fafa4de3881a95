import type { OnReadOpts } from 'node:net';

/** What one read of the system can bring; a kernel has seldom more ready. */
const BLOCK_BYTES = 256 << 10;
/** A block with less room than this is left for the next one, since small reads cost as much as large ones. */
const ROOM_BYTES_MIN = 64 << 10;
/** While the reader is busy with one, so many may fill up. */
const WAITING_BLOCKS_MAX = 2;

/** From `takenBytes` up to `filledBytes` lies what is still to be read. */
interface Block {
  readonly buffer: Buffer;
  filledBytes: number;
  takenBytes: number;
}

/**
 * Receives what a socket reads into a few blocks that are used again and again. Buffers made anew for every read are what
 * a fast transfer otherwise spends most of its time and memory on.
 */
export class BlockReader {
  /** For `net.connect` and `tls.connect`. */
  readonly onread: OnReadOpts;
  readonly #resume: () => void;
  readonly #free: Block[] = [];
  /** In the order of their bytes; the last one is being filled. */
  readonly #blocks: Block[] = [];
  #isPaused = false;
  #wake: (() => void) | undefined;
  #end: { readonly error: unknown } | undefined;

  /** @param resume lets the socket read on after it was told to pause */
  constructor(resume: () => void) {
    this.#resume = resume;
    this.onread = { buffer: () => this.#room(), callback: (bytes) => this.#take(bytes) };
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
   * The bytes that come next, valid until the next call; undefined at the end.
   * @throws what ended it
   */
  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const block = this.#oldestWithBytes();
      if (block !== undefined) {
        const piece = block.buffer.subarray(block.takenBytes, block.filledBytes);
        block.takenBytes = block.filledBytes;
        return piece;
      }
      if (this.#end?.error !== undefined) throw this.#end.error;
      if (this.#end !== undefined) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Frees the blocks whose last piece is not needed any more. */
  #oldestWithBytes(): Block | undefined {
    for (let [oldest, next] = this.#blocks; oldest !== undefined; [oldest, next] = this.#blocks) {
      if (oldest.takenBytes < oldest.filledBytes) return oldest;
      if (next === undefined) return undefined;
      this.#blocks.shift();
      this.#free.push(oldest);
      if (this.#isPaused) {
        this.#isPaused = false;
        this.#resume();
      }
    }
    return undefined;
  }

  /**
   * Where the next bytes go. Also while it is paused there must be room: TLS hands out everything that it has decrypted.
   */
  #room(): Uint8Array {
    let block = this.#blocks.at(-1);
    if (block === undefined || BLOCK_BYTES - block.filledBytes < ROOM_BYTES_MIN) {
      block = this.#free.pop() ?? {
        buffer: Buffer.allocUnsafeSlow(BLOCK_BYTES),
        filledBytes: 0,
        takenBytes: 0,
      };
      block.filledBytes = 0;
      block.takenBytes = 0;
      this.#blocks.push(block);
    }
    return block.buffer.subarray(block.filledBytes);
  }

  /** @returns whether to read on */
  #take(bytes: number): boolean {
    const block = this.#blocks.at(-1);
    if (block !== undefined) block.filledBytes += bytes;
    // Who waits has taken them before there is more.
    this.#isPaused = this.#wake === undefined && this.#blocks.length > WAITING_BLOCKS_MAX;
    this.#wakeUp();
    return !this.#isPaused;
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
