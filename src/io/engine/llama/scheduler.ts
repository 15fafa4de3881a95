import { FreeholdError, toFreeholdError } from '../../../core/base/errors.ts';
import type { Generation } from './generation.ts';
import { type NativeContext, PIECE_TOKENS_MAX, type Row } from './native-context.ts';
import type { ChildMessage } from './protocol.ts';
import { type Seat, Seating } from './seating.ts';
import { GRID_TOKENS, type SequenceMemory } from './sequence-memory.ts';

/** How long one piece of a prompt may keep others waiting for their next token. */
const PIECE_MS_SHARED = 100;
/** … and a new request waiting for its turn, or a cancelled one for its end, while nobody writes. */
const PIECE_MS_ALONE = 250;
/** The first piece, before anything is known of the model's speed. */
const PIECE_TOKENS_FIRST = 64;
/**
 * Time for answers after each piece of a prompt, as a share of the piece's: those who wait for a first token come first,
 * since answers are written faster the more are written together.
 */
const GIVEN_BACK = 0.5;
/** Weight of the newest measurement in the speed of reading. */
const SPEED_WEIGHT = 0.3;

export interface SchedulerHost {
  readonly context: NativeContext;
  readonly vocabularyTokens: number;
  /** Resolves when there is room for more. */
  send(messages: readonly ChildMessage[]): Promise<void>;
  fail(id: number, thrown: unknown): Promise<void>;
  /** Makes an adapter (an index of the load message, undefined: none) that of the next calls. */
  useAdapter(adapter: number | undefined): void;
  monotonicMs(): number;
  /** Called after each step in which one answer alone was written. */
  onSoloToken(positions: number): void;
  /** Called after any other step. */
  onOther(): void;
  /** Nothing is left to do. */
  onIdle(): void;
  /** The context is lost. */
  giveUp(thrown: unknown): never;
}

interface Running {
  readonly generation: Generation;
  /** Its place in the context; none yet while it waits for one, or for a prompt that begins like its own. */
  seat: SequenceMemory | undefined;
  /** Steps of the scheduler when it was last part of one: who waited longest comes first. */
  servedAt: number;
  isCancelled: boolean;
}

/**
 * Works on several generations at once. Each step is one call of the model: either one token of every answer that is
 * being written (continuous batching), or one piece of one prompt. The two share the time, and prompts take turns,
 * so that a long prompt stalls nobody and is not stalled either.
 */
export class Scheduler {
  readonly #host: SchedulerHost;
  readonly #seating: Seating;
  #running: Running[] = [];
  /** Part of the call that runs now. */
  #inCall: readonly Running[] = [];
  #isLooping = false;
  #steps = 0;
  /** Time that prompts have taken from answers and not given back yet. */
  #owedMs = 0;
  #readMsPerToken: number | undefined;
  #adapter: number | 'unknown' | undefined;

  constructor(host: SchedulerHost) {
    this.#host = host;
    this.#seating = new Seating(host.context);
  }

  get isIdle(): boolean {
    return !this.#isLooping;
  }

  start(generation: Generation): void {
    this.#running.push({ generation, seat: undefined, servedAt: this.#steps, isCancelled: false });
    if (!this.#isLooping) void this.#loop();
  }

  /** @returns false when there is no such generation */
  cancel(id: number): boolean {
    const running = this.#running.find(({ generation }) => generation.id === id);
    if (running === undefined) return false;
    running.isCancelled = true;
    // A call is ended early only when nobody else loses by it.
    if (this.#inCall.length > 0 && this.#inCall.every(({ isCancelled }) => isCancelled)) {
      this.#host.context.abort();
    }
    return true;
  }

  /** What the sequences remember is gone: somebody else used the context. */
  forget(): void {
    this.#seating.forget();
  }

  async #loop(): Promise<void> {
    this.#isLooping = true;
    try {
      while (this.#running.length > 0) {
        await this.#dropCancelled();
        await this.#step();
      }
    } finally {
      this.#isLooping = false;
    }
    this.#host.onIdle();
  }

  async #step(): Promise<void> {
    const writing = this.#running.filter(({ generation }) => generation.next !== undefined);
    if (writing.length > 0 && this.#owedMs > 0) return this.#write(writing);
    const reader = this.#nextReader();
    if (reader !== undefined) return this.#read(reader.running, reader.seat, writing.length > 0);
    if (writing.length > 0) return this.#write(writing);
    this.#owedMs = 0;
  }

  /** Who waits longest for a piece of its prompt to be read, and has a seat or gets one now. */
  #nextReader(): { running: Running; seat: SequenceMemory } | undefined {
    const reading = this.#running
      .filter(({ generation }) => generation.next === undefined)
      .sort((left, right) => left.servedAt - right.servedAt);
    for (const running of reading) {
      const seat = running.seat ?? this.#seat(running, reading);
      if (seat !== undefined) return { running, seat };
    }
    return undefined;
  }

  #seat(running: Running, reading: readonly Running[]): SequenceMemory | undefined {
    const { generation } = running;
    const ahead = reading.flatMap((other) => (other.seat === undefined ? [] : [other.generation]));
    const taken = this.#running.flatMap(({ seat }) => (seat === undefined ? [] : [seat]));
    const seat = this.#findSeat(generation, taken, ahead);
    if (seat === undefined) return undefined;
    running.seat = seat.memory;
    generation.begin(seat.reused, this.#host.monotonicMs());
    return seat.memory;
  }

  #findSeat(
    generation: Generation,
    taken: readonly SequenceMemory[],
    ahead: readonly Generation[],
  ): Seat | undefined {
    try {
      return this.#seating.find(generation, taken, ahead, this.#steps);
    } catch (thrown) {
      // Without a context nothing can go on; the next process begins small again.
      return this.#host.giveUp(thrown);
    }
  }

  async #read(running: Running, seat: SequenceMemory, isShared: boolean): Promise<void> {
    const { prompt } = running.generation;
    const rows = seat.promptRows(prompt, this.#pieceTokens(isShared));
    const ms = await this.#call([running], rows);
    if (ms === undefined) return;
    seat.add(rows, true);
    this.#host.onOther();
    const perToken = ms / rows.length;
    this.#readMsPerToken =
      this.#readMsPerToken === undefined
        ? perToken
        : perToken * SPEED_WEIGHT + this.#readMsPerToken * (1 - SPEED_WEIGHT);
    if (isShared) this.#owedMs += ms * GIVEN_BACK;
    if (seat.tokenCount < prompt.length) return;
    running.generation.promptRead(this.#host.monotonicMs());
    await this.#take([running], [rows.length - 1]);
  }

  /** One token for each answer of one adapter: the one of whoever waits longest. */
  async #write(writing: readonly Running[]): Promise<void> {
    const first = writing.reduce((oldest, running) =>
      running.servedAt < oldest.servedAt ? running : oldest,
    );
    const group = writing.filter(({ generation }) => generation.adapter === first.generation.adapter);
    const rows = group.map(({ generation, seat }) => seatOf(seat).answerRow(generation.next as number));
    const ms = await this.#call(group, rows);
    if (ms === undefined) return;
    this.#owedMs = Math.max(0, this.#owedMs - ms);
    for (const [index, { seat }] of group.entries()) seatOf(seat).add([rows[index] as Row], false);
    if (this.#running.length === 1) this.#host.onSoloToken(seatOf(first.seat).tokenCount);
    else this.#host.onOther();
    await this.#take(group, group.keys());
  }

  /** Lets each generation choose from its row of logits, and tells what came of it. */
  async #take(group: readonly Running[], rowIndexes: Iterable<number>): Promise<void> {
    const { context, vocabularyTokens } = this.#host;
    const messages: ChildMessage[] = [];
    const failures: { running: Running; thrown: unknown }[] = [];
    let member = 0;
    for (const row of rowIndexes) {
      const running = group[member++] as Running;
      if (running.isCancelled) continue;
      try {
        const told = running.generation.take(context.logits(row, vocabularyTokens), this.#host.monotonicMs());
        messages.push(...told);
        if (told.at(-1)?.kind === 'finished') this.#end(running);
      } catch (thrown) {
        failures.push({ running, thrown });
      }
    }
    if (messages.length > 0) await this.#host.send(messages);
    for (const { running, thrown } of failures) await this.#fail(running, thrown);
  }

  /** @returns how long it took, or undefined when nothing of it counts */
  async #call(group: readonly Running[], rows: readonly Row[]): Promise<number | undefined> {
    const { context } = this.#host;
    const begunMs = this.#host.monotonicMs();
    this.#steps++;
    for (const running of group) running.servedAt = this.#steps;
    this.#inCall = group;
    try {
      this.#useAdapter(group[0]?.generation.adapter);
      if (await context.decode(rows)) return this.#host.monotonicMs() - begunMs;
      for (const { seat } of group) seat?.recover();
    } catch (thrown) {
      for (const running of group) {
        running.seat?.recover();
        await this.#fail(running, thrown);
      }
    } finally {
      this.#inCall = [];
      context.resume();
    }
    return undefined;
  }

  #useAdapter(adapter: number | undefined): void {
    if (adapter === this.#adapter) return;
    // Should it fail, nobody knows which one is in use.
    this.#adapter = 'unknown';
    this.#host.useAdapter(adapter);
    this.#adapter = adapter;
  }

  /** As many tokens as keep the next step short, on the grid. */
  #pieceTokens(isShared: boolean): number {
    const milliseconds = isShared ? PIECE_MS_SHARED : PIECE_MS_ALONE;
    const tokens =
      this.#readMsPerToken === undefined ? PIECE_TOKENS_FIRST : milliseconds / this.#readMsPerToken;
    const onGrid = Math.floor(tokens / GRID_TOKENS) * GRID_TOKENS;
    return Math.min(PIECE_TOKENS_MAX, Math.max(GRID_TOKENS, onGrid));
  }

  async #dropCancelled(): Promise<void> {
    for (const running of this.#running.filter(({ isCancelled }) => isCancelled)) {
      await this.#fail(running, new FreeholdError('CANCELLED', 'cancelled'));
    }
  }

  async #fail(running: Running, thrown: unknown): Promise<void> {
    this.#end(running);
    await this.#host.fail(running.generation.id, toFreeholdError(thrown));
  }

  /** Its place is free again, and remembers what was read and written. */
  #end(running: Running): void {
    running.generation.close();
    this.#running = this.#running.filter((other) => other !== running);
  }
}

function seatOf(seat: SequenceMemory | undefined): SequenceMemory {
  if (seat === undefined) throw new FreeholdError('INTERNAL', 'a generation writes without a sequence');
  return seat;
}
