import { FreeholdError } from '../../../core/base/errors.ts';

const HEADER_BYTES = 4;

/** One message on the channel: length as unsigned 32-bit big-endian, then that many bytes of JSON. */
export function encodeFrame(message: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(message), 'utf8');
  const frame = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  frame.writeUInt32BE(body.length, 0);
  body.copy(frame, HEADER_BYTES);
  return frame;
}

/** Cuts a byte stream into messages. Holds at most one frame of `frameBytesMax` at a time. */
export class FrameReader {
  readonly #frameBytesMax: number;
  #parts: Buffer[] = [];
  #heldBytes = 0;

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax;
  }

  /**
   * The messages that became complete, parsed but not validated.
   * @throws ENGINE_FAILED on a frame over the cap or one that is not JSON; the stream is unusable then
   */
  push(chunk: Buffer): unknown[] {
    this.#parts.push(chunk);
    this.#heldBytes += chunk.length;
    const messages: unknown[] = [];
    for (let body = this.#take(); body !== undefined; body = this.#take()) messages.push(parseBody(body));
    return messages;
  }

  #take(): Buffer | undefined {
    if (this.#heldBytes < HEADER_BYTES) return undefined;
    const bodyBytes = this.#peekLength();
    if (bodyBytes > this.#frameBytesMax) {
      throw new FreeholdError(
        'ENGINE_FAILED',
        `message of ${bodyBytes} bytes between server and engine process, at most ${this.#frameBytesMax} are allowed`,
      );
    }
    if (this.#heldBytes < HEADER_BYTES + bodyBytes) return undefined;
    // Joined once per frame, not once per chunk: a large frame in small chunks stays linear.
    const all = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
    const rest = all.subarray(HEADER_BYTES + bodyBytes);
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#heldBytes = rest.length;
    return all.subarray(HEADER_BYTES, HEADER_BYTES + bodyBytes);
  }

  #peekLength(): number {
    const first = this.#parts[0];
    if (first !== undefined && first.length >= HEADER_BYTES) return first.readUInt32BE(0);
    this.#parts = [Buffer.concat(this.#parts)];
    return (this.#parts[0] as Buffer).readUInt32BE(0);
  }
}

function parseBody(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new FreeholdError('ENGINE_FAILED', 'message between server and engine process is not JSON', {
      cause,
    });
  }
}
