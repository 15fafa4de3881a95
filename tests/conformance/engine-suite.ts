import assert from 'node:assert/strict';
import { after, type TestContext, test } from 'node:test';
import type {
  Engine,
  GenerateEvent,
  GenerateRequest,
  LoadedModel,
  VerifiedFile,
  WeightsFile,
} from '../../src/core/base/engine-port.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';
import { type Answers, answerFormSuite } from './answer-form-suite.ts';

export interface EngineFixture {
  readonly engine: Engine;
  readonly weights: readonly WeightsFile[];
  /** Set to a reason where the machine lacks something; the suite is skipped visibly then. */
  readonly skip?: string | false;
}

export interface EngineSuiteOptions {
  readonly purpose: 'generate' | 'embed';
  /** What can be expected of its answers; absent for an engine that gives none. */
  readonly answers?: Answers;
  readonly prepare: (context: TestContext) => Promise<EngineFixture>;
}

export interface Answer {
  readonly text: string;
  readonly pieces: readonly string[];
  readonly tokens: readonly Extract<GenerateEvent, { kind: 'text' }>['tokens'][number][];
  readonly finished: Extract<GenerateEvent, { kind: 'finished' }>;
  readonly promptTokens: number;
}

/** Reads one generation and checks what holds for every stream: `started`, then text, then one `finished`. */
export async function collectAnswer(
  model: LoadedModel,
  request: GenerateRequest,
  signal?: AbortSignal,
): Promise<Answer> {
  const events = await Array.fromAsync(model.generate(request, signal));
  const [started] = events;
  const finished = events.at(-1);
  assert.ok(
    started?.kind === 'started' && finished?.kind === 'finished',
    'begins with started, ends with finished',
  );
  const middle = events.slice(1, -1);
  const texts = middle.filter((event) => event.kind === 'text');
  assert.equal(texts.length, middle.length, 'only text between');
  for (const { text } of texts) assert.ok(text.isWellFormed());
  const { usage } = finished;
  assert.equal(usage.promptTokens, started.promptTokens);
  assert.ok(usage.cachedTokens >= 0 && usage.cachedTokens <= usage.promptTokens);
  assert.ok(usage.promptMs >= 0 && usage.completionMs >= 0);
  return {
    text: texts.map((event) => event.text).join(''),
    pieces: texts.map((event) => event.text),
    tokens: texts.flatMap((event) => event.tokens),
    finished,
    promptTokens: started.promptTokens,
  };
}

export function chat(content: string): GenerateRequest['prompt'] {
  return { kind: 'chat', messages: [{ role: 'user', content }] };
}

const GREEDY = { temperature: 0 } as const;
const hello: GenerateRequest = { prompt: chat('Say hello to the world.'), sampling: GREEDY, maxTokens: 24 };

/** What every `Engine` must do, whatever runs behind it. */
export function engineSuite(
  name: string,
  { purpose, answers = 'random', prepare }: EngineSuiteOptions,
): void {
  // One load for all: what a test leaves behind must not disturb the next one either.
  let shared: Promise<LoadedModel> | undefined;
  after(async () => (await shared?.catch(() => undefined))?.close());
  const check: Check = (title, body) => {
    test(`${name}: ${title}`, async (context) => {
      const fixture = await prepare(context);
      if (fixture.skip) return context.skip(fixture.skip);
      shared ??= load(fixture);
      await body(await shared, fixture);
    });
  };
  check('says what it is', async ({ info }) => {
    assert.equal(info.purpose, purpose);
    assert.ok(info.contextTokens > 0 && info.vocabularyTokens > 0 && info.embeddingLength > 0);
    assert.ok(info.architecture !== '' && info.isolation !== '');
    assert.ok(info.parallelRequests >= 1);
    assert.deepEqual(info.adapters, []);
  });
  loadSuite(name, prepare);
  if (purpose === 'generate') {
    generateSuite(check);
    answerFormSuite(check, answers);
  } else {
    embedSuite(check);
  }
}

const load = ({ engine, weights }: EngineFixture): Promise<LoadedModel> =>
  engine.load({ name: 'suite', weights });

type Check = (title: string, body: (model: LoadedModel, fixture: EngineFixture) => Promise<void>) => void;

function generateSuite(check: Check): void {
  check('the greedy answer is the same twice, and each text is whole', async (model) => {
    const first = await collectAnswer(model, hello);
    const second = await collectAnswer(model, hello);
    assert.ok(first.text !== '');
    assert.equal(second.text, first.text);
    assert.deepEqual(first.tokens, [], 'no tokens unless asked for');
  });

  check('a seed gives the same answer again', async (model) => {
    const request = { ...hello, sampling: { temperature: 1, seed: 7 } };
    const first = await collectAnswer(model, request);
    await collectAnswer(model, { ...hello, prompt: { kind: 'text', text: 'Something else.' } });
    assert.equal((await collectAnswer(model, request)).text, first.text);
  });

  check('maxTokens ends the answer with length; zero gives no text', async (model) => {
    const three = await collectAnswer(model, { ...hello, maxTokens: 3 });
    assert.deepEqual([three.finished.reason, three.finished.usage.completionTokens], ['length', 3]);
    const none = await collectAnswer(model, { ...hello, maxTokens: 0 });
    assert.deepEqual(
      [none.text, none.finished.reason, none.finished.usage.completionTokens],
      ['', 'length', 0],
    );
  });

  check('a stop string ends the answer before itself', async (model) => {
    const { text } = await collectAnswer(model, hello);
    for (const [start, end] of [
      [0, 1],
      [1, 2],
      [2, 7],
      [Math.max(0, text.length - 4), text.length - 1],
    ] as const) {
      const stop = text.slice(start, end);
      if (stop === '' || !stop.isWellFormed()) continue;
      const answer = await collectAnswer(model, { ...hello, stop: [stop] });
      assert.equal(answer.text, text.slice(0, text.indexOf(stop)), JSON.stringify(stop));
      assert.deepEqual([answer.finished.reason, answer.finished.stop], ['stop', stop]);
    }
  });

  check(
    'log-probabilities: at most 1 together, the greedy token first, bytes spell the text',
    async (model) => {
      const answer = await collectAnswer(model, { ...hello, logprobs: { top: 5 } });
      assert.ok(answer.tokens.length > 0);
      for (const token of answer.tokens) {
        assert.ok(token.logprob <= 0);
        assert.ok(token.top.length <= 5);
        assert.equal(token.top[0]?.id, token.id, 'greedy');
        assert.equal(token.top[0]?.logprob, token.logprob);
        const mass = token.top.reduce((sum, entry) => sum + Math.exp(entry.logprob), 0);
        assert.ok(mass <= 1 + 1e-9, `${mass}`);
        const logprobs = token.top.map((entry) => entry.logprob);
        assert.deepEqual(
          logprobs,
          logprobs.toSorted((left, right) => right - left),
        );
      }
      assert.equal(Buffer.concat(answer.tokens.map((token) => token.bytes)).toString(), answer.text);
      const plain = await collectAnswer(model, { ...hello, logprobs: { top: 0 } });
      assert.ok(plain.tokens.every((token) => token.top.length === 0));
    },
  );

  check('text and token prompts', async (model) => {
    const text = await collectAnswer(model, { ...hello, prompt: { kind: 'text', text: 'Hello' } });
    assert.ok(text.promptTokens > 0);
    const tokens = await collectAnswer(model, { ...hello, prompt: { kind: 'tokens', tokens: [72, 73, 74] } });
    assert.equal(tokens.promptTokens, 3);
  });

  check('requests out of range are refused before anything runs', async (model) => {
    const wrong: readonly GenerateRequest[] = [
      { ...hello, sampling: { temperature: -1 } },
      { ...hello, logprobs: { top: 21 } },
      { ...hello, maxTokens: -1 },
      { ...hello, stop: [''] },
      { prompt: { kind: 'tokens', tokens: [] } },
      { prompt: { kind: 'tokens', tokens: [-1] } },
      { prompt: { kind: 'tokens', tokens: [model.info.vocabularyTokens] } },
      { prompt: { kind: 'chat', messages: [] } },
      { prompt: { kind: 'chat', messages: [{ role: 'user', content: 'x' }], continueLast: true } },
    ];
    for (const request of wrong)
      await assert.rejects(collectAnswer(model, request), { code: 'REQUEST_INVALID' });
  });

  check(
    'a prompt beyond the context is refused with both numbers, and one at the border answered',
    async (model) => {
      const { contextTokens } = model.info;
      const tokens = Array.from({ length: contextTokens }, () => 65);
      await assert.rejects(collectAnswer(model, { prompt: { kind: 'tokens', tokens } }), {
        code: 'CONTEXT_EXCEEDED',
        detail: { promptTokens: contextTokens, contextTokens },
      });
    },
  );

  check('cancelled before and during the answer, then it works again', async (model) => {
    await assert.rejects(collectAnswer(model, hello, AbortSignal.abort()), { code: 'CANCELLED' });
    const abort = new AbortController();
    await assert.rejects(
      async () => {
        for await (const event of model.generate({ prompt: hello.prompt, sampling: GREEDY }, abort.signal)) {
          if (event.kind === 'text') abort.abort();
        }
      },
      { code: 'CANCELLED' },
    );
    assert.ok((await collectAnswer(model, hello)).text !== '');
  });

  check('a reader who leaves early frees the model', async (model) => {
    for await (const event of model.generate({ prompt: hello.prompt, sampling: GREEDY })) {
      if (event.kind === 'text') break;
    }
    assert.ok((await collectAnswer(model, hello)).text !== '');
  });

  check('requests at the same time all get their own answer', async (model) => {
    const words = ['apples', 'bridges', 'clouds'];
    const ask = (word: string) =>
      collectAnswer(model, { ...hello, prompt: chat(`Tell me about ${word}.`), maxTokens: 8 });
    const alone: string[] = [];
    for (const word of words) alone.push((await ask(word)).text);
    const together = await Promise.all(words.map(ask));
    assert.deepEqual(
      together.map((answer) => answer.text),
      alone,
    );
  });

  check('closing fails what runs and what comes, twice is fine', async (_shared, fixture) => {
    const model = await load(fixture);
    const running = collectAnswer(model, { prompt: hello.prompt, sampling: GREEDY });
    const waiting = collectAnswer(model, hello);
    const outcomes = Promise.allSettled([running, waiting]);
    await Promise.all([model.close(), model.close()]);
    for (const outcome of await outcomes) {
      assert.ok(outcome.status === 'rejected' && (outcome.reason as FreeholdError).code === 'CANCELLED');
    }
    await assert.rejects(collectAnswer(model, hello), { code: 'CANCELLED' });
  });

  check('a generating model does not embed', async (model) => {
    await assert.rejects(model.embed({ inputs: ['x'] }), { code: 'NOT_SUPPORTED' });
  });
}

function embedSuite(check: Check): void {
  check('one vector of length 1 for each input, the same again, in any company', async (model) => {
    const inputs = ['The cat sits on the mat.', 'Stock prices fell.', ''];
    const { vectors, promptTokens } = await model.embed({ inputs: inputs.slice(0, 2) });
    assert.equal(vectors.length, 2);
    assert.ok(promptTokens > 0);
    for (const vector of vectors) {
      assert.equal(vector.length, model.info.embeddingLength);
      assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-5);
    }
    const swapped = await model.embed({ inputs: [inputs[1] as string, inputs[0] as string] });
    assert.deepEqual(swapped.vectors, [vectors[1], vectors[0]]);
    assert.notDeepEqual(vectors[0], vectors[1]);
  });

  check('no inputs, token inputs', async (model) => {
    assert.deepEqual(await model.embed({ inputs: [] }), { vectors: [], promptTokens: 0 });
    const { vectors, promptTokens } = await model.embed({ inputs: [[101, 102]] });
    assert.deepEqual([vectors.length, promptTokens], [1, 2]);
  });

  check('an input beyond the context is refused with both numbers', async (model) => {
    const { contextTokens } = model.info;
    const tokens = Array.from({ length: contextTokens + 1 }, () => 65);
    await assert.rejects(model.embed({ inputs: [[65], tokens] }), {
      code: 'CONTEXT_EXCEEDED',
      detail: { promptTokens: contextTokens + 1, contextTokens },
    });
    await assert.rejects(model.embed({ inputs: [[model.info.vocabularyTokens]] }), {
      code: 'REQUEST_INVALID',
    });
  });

  check('cancelled before it runs', async (model) => {
    await assert.rejects(model.embed({ inputs: ['x'] }, AbortSignal.abort()), { code: 'CANCELLED' });
    assert.equal((await model.embed({ inputs: ['x'] })).vectors.length, 1);
  });

  check('an embedding model does not generate', async (model) => {
    await assert.rejects(collectAnswer(model, hello), { code: 'NOT_SUPPORTED' });
  });
}

function loadSuite(name: string, prepare: EngineSuiteOptions['prepare']): void {
  const loading = (title: string, body: (fixture: EngineFixture) => Promise<void>): void => {
    test(`${name}: ${title}`, async (context) => {
      const fixture = await prepare(context);
      if (fixture.skip) return context.skip(fixture.skip);
      await body(fixture);
    });
  };

  loading('weights that cannot be opened or verified are not loaded', async ({ engine }) => {
    const failing: WeightsFile = {
      name: 'weights.gguf',
      open: () => Promise.reject(new FreeholdError('DIGEST_MISMATCH', 'weights.gguf is not what was signed')),
    };
    await assert.rejects(engine.load({ name: 'suite', weights: [failing] }), { code: 'DIGEST_MISMATCH' });
  });

  loading(
    'weights that were changed while they were loaded are not used, and every file is closed',
    async (fixture) => {
      let open = 0;
      const weights = fixture.weights.map(
        (file): WeightsFile => ({
          name: file.name,
          open: async (signal) => {
            const inner = await file.open(signal);
            open++;
            return watched(inner, () => open--);
          },
        }),
      );
      await assert.rejects(fixture.engine.load({ name: 'suite', weights }), { code: 'DIGEST_MISMATCH' });
      assert.equal(open, 0);
    },
  );

  loading('a cancelled load', async ({ engine, weights }) => {
    const abort = new AbortController();
    const slow = weights.map(
      (file): WeightsFile => ({
        name: file.name,
        open: async (signal) => {
          const inner = await file.open(signal);
          abort.abort();
          return inner;
        },
      }),
    );
    await assert.rejects(engine.load({ name: 'suite', weights: slow }, abort.signal), { code: 'CANCELLED' });
  });
}

function watched(file: VerifiedFile, onClose: () => void): VerifiedFile {
  let isClosed = false;
  return {
    fd: file.fd,
    digest: file.digest,
    sizeBytes: file.sizeBytes,
    requireUnchanged: () =>
      Promise.reject(new FreeholdError('DIGEST_MISMATCH', 'weights.gguf was written to')),
    close: async () => {
      if (!isClosed) onClose();
      isClosed = true;
      await file.close();
    },
  };
}
