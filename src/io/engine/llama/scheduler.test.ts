import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { toFreeholdError } from '../../../core/base/errors.ts';
import { Generation } from './generation.ts';
import { type NativeContext, PIECE_TOKENS_MAX, type Row } from './native-context.ts';
import type { ChildMessage, GenerateMessage } from './protocol.ts';
import { SAMPLING_DEFAULTS } from './sampling.ts';
import { Scheduler } from './scheduler.ts';
import { GRID_TOKENS } from './sequence-memory.ts';

const VOCABULARY_TOKENS = 64;
const END_TOKEN = 0;
const CONTEXT_TOKENS = 700;

const facts = {
  contextTokens: CONTEXT_TOKENS,
  vocabularyTokens: VOCABULARY_TOKENS,
  embeddingLength: 1,
  parallelRequests: 3,
};
const vocabulary = {
  isEndOfGeneration: (token: number) => token === END_TOKEN,
  visibleBytes: (token: number) => Buffer.from(String.fromCharCode(48 + token)),
  spelledBytes: (token: number) => Buffer.from(String.fromCharCode(48 + token)),
};

/** What a model without rounding would answer: the next token is a function of all tokens before, and the adapter. */
function nextToken(tokens: readonly number[], adapter: number | undefined): number {
  let hash = adapter === undefined ? 17 : 1000 + adapter;
  for (const token of tokens) hash = (Math.imul(hash, 31) + token + 7) | 0;
  return Math.abs(hash >>> 7) % VOCABULARY_TOKENS;
}

function soloAnswer(prompt: readonly number[], adapter: number | undefined, maxTokens: number): string {
  const tokens = [...prompt];
  let text = '';
  for (let count = 0; count < maxTokens; count++) {
    const token = nextToken(tokens, adapter);
    if (token === END_TOKEN) break;
    text += String.fromCharCode(48 + token);
    tokens.push(token);
  }
  return text;
}

/** Remembers tokens instead of numbers, and refuses what llama.cpp would compute wrongly in silence. */
class TokenContext {
  readonly contextTokens = CONTEXT_TOKENS;
  readonly sequencesMax: number;
  readonly calls: (readonly Row[])[] = [];
  adapter: number | undefined;
  /** A token takes a millisecond. */
  nowMs = 0;
  readonly #cells: { token: number; adapter: number | undefined }[][];
  #wanted: number[] = [];
  #isAborted = false;
  /** Called while a call runs. */
  whileBusy: () => void = () => {};

  constructor(sequencesMax: number) {
    this.sequencesMax = sequencesMax;
    this.#cells = [[]];
  }

  get sequences(): number {
    return this.#cells.length;
  }

  grow(): void {
    const sequences = Math.min(this.sequencesMax, 2 * this.sequences);
    while (this.#cells.length < sequences) this.#cells.push([]);
  }

  abort(): void {
    this.#isAborted = true;
  }

  resume(): void {
    this.#isAborted = false;
  }

  async decode(rows: readonly Row[]): Promise<boolean> {
    this.calls.push(rows);
    this.nowMs += rows.length;
    assert.ok(rows.length > 0 && rows.length <= PIECE_TOKENS_MAX);
    await new Promise((resolve) => setImmediate(resolve));
    this.whileBusy();
    this.#wanted = [];
    for (const [index, row] of rows.entries()) {
      // An aborted call leaves some of its rows behind.
      if (this.#isAborted && index === rows.length >> 1) return false;
      const cells = this.#cellsOf(row.sequence);
      assert.equal(row.position, cells.length, 'goes on where the memory of the sequence ends');
      cells.push({ token: row.token, adapter: this.adapter });
      this.#wanted.push(row.wantsLogits ? row.sequence : -1);
    }
    return true;
  }

  logits(index: number): Float32Array {
    const sequence = this.#wanted[index] ?? -1;
    assert.notEqual(sequence, -1, 'logits were wanted');
    const cells = this.#cellsOf(sequence);
    assert.ok(
      cells.every(({ adapter }) => adapter === this.adapter),
      'all was read under one adapter',
    );
    const values = new Float32Array(VOCABULARY_TOKENS);
    values[
      nextToken(
        cells.map(({ token }) => token),
        this.adapter,
      )
    ] = 1;
    return values;
  }

  trim(sequence: number, position: number): number {
    const cells = this.#cellsOf(sequence);
    assert.ok(position <= cells.length, 'nothing is kept that was not there');
    cells.length = position;
    return position;
  }

  copy(from: number, to: number): void {
    this.#cells[to] = this.#cellsOf(from).map((cell) => ({ ...cell }));
  }

  #cellsOf(sequence: number): { token: number; adapter: number | undefined }[] {
    const cells = this.#cells[sequence];
    assert.ok(cells !== undefined);
    return cells;
  }
}

const message = { sampling: { ...SAMPLING_DEFAULTS, temperature: 0, logitBias: {}, seed: 1 } };

interface Outcome {
  text: string;
  cachedTokens?: number;
  end?: 'stop' | 'length' | 'cancelled';
}

function setUp(sequences: number) {
  const context = new TokenContext(sequences);
  const outcomes = new Map<number, Outcome>();
  let idle = Promise.withResolvers<void>();
  const receive = (message: ChildMessage): void => {
    assert.ok('id' in message);
    const outcome = outcomes.get(message.id);
    assert.ok(outcome !== undefined && outcome.end === undefined, 'nothing comes after the end');
    if (message.kind === 'text') outcome.text += message.text;
    if (message.kind === 'finished') {
      outcome.end = message.reason;
      outcome.cachedTokens = message.usage.cachedTokens;
    }
  };
  const scheduler = new Scheduler({
    context: context as unknown as NativeContext,
    vocabularyTokens: VOCABULARY_TOKENS,
    send: async (messages) => {
      for (const message of messages) receive(message);
    },
    fail: async (id, thrown) => {
      assert.equal(toFreeholdError(thrown).code, 'CANCELLED', String(thrown));
      const outcome = outcomes.get(id);
      assert.ok(outcome !== undefined && outcome.end === undefined);
      outcome.end = 'cancelled';
    },
    useAdapter: (adapter) => {
      context.adapter = adapter;
    },
    monotonicMs: () => context.nowMs,
    onSoloToken: () => {},
    onOther: () => {},
    giveUp: (thrown) => {
      throw thrown;
    },
    onIdle: () => idle.resolve(),
  });
  const start = (id: number, prompt: readonly number[], options: Partial<GenerateMessage> = {}): void => {
    outcomes.set(id, { text: '' });
    const message: GenerateMessage = {
      kind: 'generate',
      id,
      prompt: { kind: 'tokens', tokens: [...prompt] },
      sampling: { ...SAMPLING_DEFAULTS, temperature: 0, logitBias: {}, seed: 1 },
      isReproducible: false,
      maxTokens: 20,
      stop: [],
      ...options,
    };
    if (scheduler.isIdle) idle = Promise.withResolvers<void>();
    const model = { facts, vocabulary } as unknown as ConstructorParameters<typeof Generation>[0];
    scheduler.start(new Generation(model, message, prompt, undefined));
  };
  return { context, scheduler, outcomes, start, idle: () => idle.promise };
}

const numbers = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, index) => 1 + ((index * seed + seed) % (VOCABULARY_TOKENS - 1)));

const request = fc.record({
  /** Prompts share beginnings, as those of one conversation do. */
  family: fc.constantFrom(3, 5),
  shared: fc.nat(400),
  own: fc.integer({ min: 1, max: 200 }),
  adapter: fc.option(fc.nat(1), { nil: undefined }),
  isReproducible: fc.boolean(),
  maxTokens: fc.nat(40),
  /** Steps of the scheduler after which it comes. */
  arrival: fc.nat(60),
  cancelAfter: fc.option(fc.nat(30), { nil: undefined }),
});

test('any mixture of requests gets the answers that each would get alone', async () => {
  const property = fc.asyncProperty(
    fc.array(request, { minLength: 1, maxLength: 12 }),
    fc.integer({ min: 1, max: 4 }),
    async (requests, sequences) => {
      const { context, scheduler, outcomes, start, idle } = setUp(sequences);
      const prompts = requests.map(({ family, shared, own }, index) => [
        ...numbers(shared, family),
        ...numbers(own, 11 + index),
      ]);
      const arriving = requests.map((_, index) => index);
      const arrive = (step: number): void => {
        // Whoever sends requests keeps no more at work than there are sequences.
        for (const index of [...arriving]) {
          const open = [...outcomes.values()].filter(({ end }) => end === undefined).length;
          const wanted = requests[index];
          assert.ok(wanted !== undefined);
          if (open >= sequences || (wanted.arrival > step && open > 0)) continue;
          arriving.splice(arriving.indexOf(index), 1);
          const { adapter, isReproducible, maxTokens } = wanted;
          start(index, prompts[index] ?? [], {
            isReproducible,
            maxTokens,
            ...(adapter === undefined ? {} : { adapter }),
          });
        }
      };
      let step = 0;
      const begunAt = new Map<number, number>();
      context.whileBusy = () => {
        step++;
        arrive(step);
        for (const id of outcomes.keys()) {
          if (!begunAt.has(id)) begunAt.set(id, step);
          if (step - (begunAt.get(id) ?? 0) === requests[id]?.cancelAfter) scheduler.cancel(id);
        }
      };
      while (arriving.length > 0) {
        arrive(step);
        await idle();
      }
      await idle();
      for (const [id, outcome] of outcomes) {
        const wanted = requests[id];
        assert.ok(wanted !== undefined);
        const whole = soloAnswer(prompts[id] ?? [], wanted.adapter, wanted.maxTokens);
        assert.ok(outcome.end !== undefined, `${id} has ended`);
        if (outcome.end === 'cancelled') assert.ok(wanted.cancelAfter !== undefined);
        if (outcome.end === 'cancelled') assert.ok(whole.startsWith(outcome.text));
        else assert.equal(outcome.text, whole);
      }
      assert.equal(outcomes.size, requests.length);
    },
  );
  await fc.assert(property, { numRuns: 150, seed: 20261122 });
});

test('a long prompt does not stall an answer that is being written', async () => {
  const { context, start, idle, outcomes } = setUp(2);
  start(1, numbers(10, 3), { maxTokens: 650, sampling: { ...message.sampling, logitBias: { 0: -100 } } });
  await new Promise((resolve) => setTimeout(resolve, 5));
  start(2, numbers(600, 5), { maxTokens: 1 });
  await idle();
  assert.equal(outcomes.get(1)?.text.length, 650);
  const begin = context.calls.findIndex((rows) => rows.some(({ sequence }) => sequence === 1));
  const end = context.calls.findLastIndex((rows) => rows.some(({ sequence }) => sequence === 1));
  const between = context.calls.slice(begin, end + 1);
  const readTokens = between.filter((rows) => rows[0]?.sequence === 1).map((rows) => rows.length);
  assert.ok(between.length > readTokens.length, 'tokens were written between the pieces');
  // 100 ms at a millisecond for each token, after the first piece.
  assert.ok(Math.max(...readTokens) <= 112, `pieces of ${readTokens}`);
  let readInARow = 0;
  for (const rows of between) {
    readInARow = rows[0]?.sequence === 1 ? readInARow + 1 : 0;
    assert.ok(readInARow <= 1, 'never two pieces in a row');
  }
});

test('answers that are written at the same time share each call', async () => {
  const { context, start, idle } = setUp(3);
  for (const id of [1, 2, 3]) {
    start(id, numbers(5, id), { maxTokens: 30, sampling: { ...message.sampling, logitBias: { 0: -100 } } });
  }
  await idle();
  const together = context.calls.filter(
    (rows) => rows.length === 3 && new Set(rows.map((row) => row.sequence)).size === 3,
  );
  assert.ok(together.length >= 25, `${together.length} calls for three answers of 30 tokens`);
});

test('of one prompt that is asked for several times only the first is read', async () => {
  const { context, start, idle, outcomes } = setUp(3);
  const prompt = numbers(300, 3);
  for (const id of [1, 2, 3]) start(id, prompt, { maxTokens: 3, isReproducible: true });
  await idle();
  const evaluated = context.calls.flat().length;
  assert.ok(evaluated < 300 + 3 * (GRID_TOKENS + 3), `${evaluated} tokens were evaluated`);
  assert.equal(outcomes.get(2)?.text, outcomes.get(1)?.text);
  assert.equal(outcomes.get(3)?.cachedTokens, 288);
});

test('the next turn of a conversation finds what was read and written before', async () => {
  const { start, idle, outcomes } = setUp(2);
  const first = numbers(200, 3);
  start(1, first, { maxTokens: 5 });
  await idle();
  const written = Array.from(outcomes.get(1)?.text ?? '', (character) => character.charCodeAt(0) - 48);
  start(2, numbers(200, 7), { maxTokens: 5 });
  await idle();
  start(3, [...first, ...written, ...numbers(20, 9)], { maxTokens: 1 });
  await idle();
  // The last token of an answer is not evaluated.
  assert.equal(outcomes.get(3)?.cachedTokens, 200 + written.length - (written.length === 5 ? 1 : 0));
});

test('no prompt ends with a piece of a single row', async () => {
  for (const length of [17, 33, 65, 113, 129, 145, 257, 289]) {
    const { context, start, idle } = setUp(1);
    start(1, numbers(length, 3), { maxTokens: 0 });
    await idle();
    assert.ok(
      context.calls.every((rows) => rows.length > 1),
      `${length}: ${context.calls.map((rows) => rows.length)}`,
    );
  }
});
