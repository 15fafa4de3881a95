import type { Duplex } from 'node:stream';
import { FreeholdError, toFreeholdError } from '../../../core/base/errors.ts';
import type { ThreadChoice } from '../../../core/base/thread-choices.ts';
import { type ChildRequest, type RequestMessage, violation } from './child-request.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import {
  CHILD_FRAME_BYTES_MAX,
  type ChildMessage,
  type ModelFacts,
  PARENT_FRAME_BYTES_MAX,
  type ParentMessage,
  parseChildMessage,
} from './protocol.ts';

/** A request as its caller holds it. */
export interface RunningRequest {
  /** Resolves when the child is done with it, or is gone: only then may the next one start. Never rejects. */
  readonly settled: Promise<void>;
  /** Tells the caller and the child; nothing once settled. */
  cancel(error: FreeholdError): void;
}

interface Entry {
  readonly request: ChildRequest;
  readonly settle: () => void;
  watchdog: NodeJS.Timeout | undefined;
  isCancelled: boolean;
}

/** What the connection asks of whoever owns the process. */
export interface ConnectionOwner {
  /** The child broke the protocol or does not answer: end it. Nothing it says counts any more. */
  distrust(error: FreeholdError): void;
  /** The child has measured what is best for it. */
  threadsMeasured(choice: ThreadChoice): void;
}

export interface ConnectionLimits {
  readonly templateTimeoutMs: number;
  readonly cancelTimeoutMs: number;
  /** Between two messages of a child that has requests. */
  readonly silenceTimeoutMs: number;
}

/** Whoever measures more often wants to fill our memory with what is to be remembered. */
const MEASUREMENT_INTERVAL_MS_MIN = 30_000;

/**
 * A process that holds a model, seen through its channel. The weights may own that process, so every byte is bounded
 * and checked, and it can fail its own requests at worst.
 */
export class ChildConnection {
  readonly #channel: Duplex;
  readonly #owner: ConnectionOwner;
  readonly #limits: ConnectionLimits;
  readonly #entries = new Map<number, Entry>();
  readonly #loaded = Promise.withResolvers<ModelFacts>();
  #isLoaded = false;
  #lastId = 0;
  #measuredMs = Number.NEGATIVE_INFINITY;
  #silence: NodeJS.Timeout | undefined;
  #endedWith: FreeholdError | undefined;

  constructor(channel: Duplex, owner: ConnectionOwner, limits: ConnectionLimits) {
    this.#channel = channel;
    this.#owner = owner;
    this.#limits = limits;
    this.#loaded.promise.catch(() => {});
    const reader = new FrameReader(CHILD_FRAME_BYTES_MAX);
    channel.on('data', (chunk: Buffer) => this.#read(reader, chunk));
    // The owner hears of the end from the process itself, with its exit code.
    channel.on('error', () => {});
  }

  /** What the child says of the model it loaded. @throws what the child reports, or what `end` was called with */
  get loaded(): Promise<ModelFacts> {
    return this.#loaded.promise;
  }

  /** Requests can be started. False as soon as the child is known to be going, before it is gone. */
  get isOpen(): boolean {
    return this.#endedWith === undefined && !this.#channel.destroyed && !this.#channel.readableEnded;
  }

  send(message: ParentMessage): void {
    this.#write(encodeFrame(message));
  }

  /**
   * Sends a request under a new id.
   * @throws REQUEST_INVALID when it is larger than a frame, ENGINE_LOST when the process is gone
   */
  start(request: ChildRequest, message: (id: number) => ParentMessage): RunningRequest {
    if (this.#endedWith !== undefined) throw this.#endedWith;
    const id = ++this.#lastId;
    const body = message(id);
    const frame = encodeFrame(body);
    if (frame.length > PARENT_FRAME_BYTES_MAX) {
      throw new FreeholdError(
        'REQUEST_INVALID',
        `the request has ${frame.length} bytes, at most ${PARENT_FRAME_BYTES_MAX} are allowed`,
      );
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const entry: Entry = { request, settle: resolve, watchdog: undefined, isCancelled: false };
    this.#entries.set(id, entry);
    if (this.#silence === undefined) this.#listen();
    if (body.kind === 'generate') this.#watch(entry, this.#limits.templateTimeoutMs, templateTimedOut);
    this.#write(frame);
    return { settled: promise, cancel: (error) => this.#cancel(id, error) };
  }

  /** The process is gone, or must not be listened to any more. Idempotent. */
  end(error: FreeholdError): void {
    this.#endedWith ??= error;
    this.#loaded.reject(error);
    for (const [id, entry] of this.#entries) {
      entry.request.fail(error);
      this.#settle(id, entry);
    }
    this.#channel.destroy();
  }

  #read(reader: FrameReader, chunk: Buffer): void {
    if (this.#endedWith !== undefined) return;
    try {
      for (const message of reader.push(chunk)) this.#receive(parseChildMessage(message));
    } catch (thrown) {
      this.#owner.distrust(toFreeholdError(thrown));
    }
  }

  #receive(message: ChildMessage): void {
    if (this.#endedWith !== undefined) return;
    this.#listen();
    if (message.kind === 'loaded' || message.kind === 'load-failed') {
      if (this.#isLoaded) throw violation('loaded twice');
      this.#isLoaded = true;
      if (message.kind === 'loaded') this.#loaded.resolve(message.model);
      else this.#loaded.reject(new FreeholdError(message.code, message.message));
      return;
    }
    if (message.kind === 'threads-measured') this.#receiveChoice(message.choice);
    else if (message.kind !== 'alive') this.#receiveFor(message);
  }

  #receiveChoice(choice: ThreadChoice): void {
    const now = performance.now();
    if (now - this.#measuredMs < MEASUREMENT_INTERVAL_MS_MIN)
      throw violation('threads measured again at once');
    this.#measuredMs = now;
    this.#owner.threadsMeasured(choice);
  }

  /** While requests run, the child is heard of every few seconds: native code that does not return ends it. */
  #listen(): void {
    clearTimeout(this.#silence);
    this.#silence = undefined;
    if (this.#entries.size === 0) return;
    const { silenceTimeoutMs } = this.#limits;
    this.#silence = setTimeout(() => this.#owner.distrust(silent(silenceTimeoutMs)), silenceTimeoutMs);
  }

  #receiveFor(message: RequestMessage): void {
    const entry = this.#entries.get(message.id);
    if (entry === undefined) {
      throw violation(`nobody asked for ${message.id}`);
    }
    // A template has come back; a cancelled request keeps the watchdog of its cancellation.
    if (!entry.isCancelled) this.#watch(entry, undefined);
    if (!entry.isCancelled) entry.request.receive(message);
    if (['finished', 'embedded', 'failed'].includes(message.kind)) this.#settle(message.id, entry);
  }

  #cancel(id: number, error: FreeholdError): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.isCancelled) return;
    entry.isCancelled = true;
    entry.request.giveUp(error);
    this.send({ kind: 'cancel', id });
    this.#watch(entry, this.#limits.cancelTimeoutMs, cancelTimedOut);
  }

  #watch(entry: Entry, timeoutMs: number | undefined, reason?: (timeoutMs: number) => FreeholdError): void {
    clearTimeout(entry.watchdog);
    entry.watchdog = undefined;
    if (timeoutMs === undefined || reason === undefined) return;
    entry.watchdog = setTimeout(() => {
      const error = reason(timeoutMs);
      entry.request.fail(error);
      this.#owner.distrust(error);
    }, timeoutMs);
  }

  #settle(id: number, entry: Entry): void {
    clearTimeout(entry.watchdog);
    this.#entries.delete(id);
    if (this.#entries.size === 0) this.#listen();
    entry.settle();
  }

  #write(frame: Buffer): void {
    // Requests are few and bounded; what the child does not read yet waits here.
    if (this.#channel.writable) this.#channel.write(frame);
  }
}

function templateTimedOut(timeoutMs: number): FreeholdError {
  return new FreeholdError(
    'TEMPLATE_FAILED',
    `the chat template did not return within ${timeoutMs / 1000} s`,
    {
      hint: 'the template of this model may be endless; freehold inspect shows it',
    },
  );
}

function silent(timeoutMs: number): FreeholdError {
  return new FreeholdError(
    'ENGINE_LOST',
    `the engine process has not been heard of for ${timeoutMs / 1000} s`,
    { hint: 'try again without a grammar or schema, if there was one' },
  );
}

function cancelTimedOut(timeoutMs: number): FreeholdError {
  return new FreeholdError(
    'ENGINE_LOST',
    `the engine process did not stop within ${timeoutMs / 1000} s of a cancellation`,
  );
}
