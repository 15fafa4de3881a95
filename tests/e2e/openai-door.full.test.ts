import assert from 'node:assert/strict';
import { copyFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Ajv } from 'ajv';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { buildPackage } from '../../src/surface/app/build-package.ts';
import { type Freehold, openFreehold } from '../../src/surface/app/freehold.ts';
import { addTrust, createKey } from '../../src/surface/app/keys-and-trust.ts';
import { signPackages } from '../../src/surface/app/sign-package.ts';
import { freehold, temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { MINILM_EMBEDDING_LENGTH, minilmGguf } from '../fixtures/minilm.ts';
import { realModel } from '../fixtures/real-models.ts';
import { servedUrl, startFreehold } from '../fixtures/running-freehold.ts';

const STARTER = 'smollm2-135m-instruct';
const EMBEDDER = 'minilm';
const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [
  { role: 'user', content: 'Name a town in Europe and how many people live there.' },
];
const TOWN = {
  type: 'object',
  properties: {
    town: { type: 'string', minLength: 1, maxLength: 30 },
    people: { type: 'integer', minimum: 1, maximum: 20_000_000 },
    kind: { enum: ['village', 'town', 'city'] },
  },
  required: ['town', 'people', 'kind'],
  additionalProperties: false,
};
const TOOLS: OpenAI.ChatCompletionFunctionTool[] = [
  { type: 'function', function: { name: 'record_town', description: 'Stores a town.', parameters: TOWN } },
  {
    type: 'function',
    function: {
      name: 'look_up',
      description: 'Looks a name up.',
      parameters: {
        type: 'object',
        properties: { name: { type: 'string', maxLength: 30 } },
        required: ['name'],
      },
    },
  },
];
/** Enough for every form above; an answer without a form is cut. */
const LIMIT = { model: STARTER, messages: MESSAGES, max_tokens: 200 };

/** The real engine behind the real door, as programs of other people call it. */
describe('the OpenAI door over real models', { timeout: 300_000 }, () => {
  let client: OpenAI;
  const cleanups: (() => unknown)[] = [];
  const suite = { after: (cleanup: () => unknown) => cleanups.push(cleanup) } as unknown as TestContext;

  before(async () => {
    await realModel(STARTER);
    const home = await temporaryHome(suite);
    const installed = await freehold(['install', `catalog:${STARTER}`], { home });
    assert.equal(installed.code, 0, installed.stderr);
    await installEmbedder(await openFreehold({ env: {}, home }), await temporaryFolder(suite));
    const running = startFreehold(suite, ['serve', '--listen', '127.0.0.1:0'], { home });
    client = new OpenAI({ apiKey: 'none', baseURL: `${await servedUrl(running)}/v1`, maxRetries: 0 });
    // Loaded before anything is timed out by its client.
    await client.chat.completions.create({ ...LIMIT, max_tokens: 1 });
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  const isTown = new Ajv({ strict: false }).compile(TOWN);
  const requireTown = (json: string | null | undefined) => {
    const value: unknown = JSON.parse(json ?? '');
    assert.ok(isTown(value), `${json}: ${JSON.stringify(isTown.errors)}`);
  };

  test('several answers, whole and streamed', async () => {
    const body = { ...LIMIT, n: 3, seed: 11, temperature: 1, max_tokens: 24 };
    const whole = await client.chat.completions.create(body);
    assert.deepEqual(
      whole.choices.map((choice) => choice.index),
      [0, 1, 2],
    );
    assert.equal(new Set(whole.choices.map((choice) => choice.message.content)).size, 3, 'three seeds');
    const one = await client.chat.completions.create({ ...body, n: 1 });
    assert.equal(whole.usage?.prompt_tokens, one.usage?.prompt_tokens, 'the prompt counts once');
    const streamed = await client.chat.completions
      .stream({ ...body, stream_options: { include_usage: true } })
      .finalChatCompletion();
    assert.equal(streamed.choices.length, 3);
    assert.ok(streamed.choices.every((choice) => (choice.message.content ?? '').length > 0));
    assert.ok((streamed.usage?.completion_tokens ?? 0) > 3);
  });

  test('several prompts with several answers each', async () => {
    const { choices } = await client.completions.create({
      model: STARTER,
      prompt: ['The capital of France is', 'Two and two are'],
      n: 2,
      seed: 3,
      max_tokens: 5,
    });
    assert.deepEqual(
      choices.map((choice) => [choice.index, choice.text.length > 0]),
      [0, 1, 2, 3].map((index) => [index, true]),
    );
  });

  test('the same seed gives the same answer, another one another', async () => {
    const ask = async (seed: number) => {
      const body = { ...LIMIT, seed, temperature: 1, max_tokens: 24 };
      return (await client.chat.completions.create(body)).choices[0]?.message.content;
    };
    assert.equal(await ask(5), await ask(5));
    assert.notEqual(await ask(5), await ask(6));
  });

  test('log-probabilities of several answers add up', async () => {
    const { choices } = await client.chat.completions.create({
      ...LIMIT,
      n: 2,
      seed: 1,
      max_tokens: 8,
      logprobs: true,
      top_logprobs: 5,
    });
    for (const { logprobs, message } of choices) {
      const tokens = logprobs?.content ?? [];
      assert.equal(tokens.map((token) => token.token).join(''), message.content);
      for (const token of tokens) {
        const sum = token.top_logprobs.reduce((total, top) => total + Math.exp(top.logprob), 0);
        assert.ok(token.top_logprobs.length === 5 && sum > 0 && sum <= 1.0001, String(sum));
      }
    }
  });

  test('a schema holds, greedy and at any temperature, whole and streamed', async () => {
    const response_format = {
      type: 'json_schema' as const,
      json_schema: { name: 'town', strict: true, schema: TOWN },
    };
    const whole = await client.chat.completions.create({ ...LIMIT, response_format, temperature: 0 });
    assert.equal(whole.choices[0]?.finish_reason, 'stop');
    requireTown(whole.choices[0]?.message.content);
    const streamed = await client.chat.completions
      .stream({ ...LIMIT, response_format, temperature: 2, n: 4, seed: 1 })
      .finalChatCompletion();
    for (const choice of streamed.choices) {
      assert.equal(choice.finish_reason, 'stop');
      requireTown(choice.message.content);
    }
  });

  test("zod's own schema, parsed by the client", async () => {
    const Town = z.object({
      town: z.string().max(20),
      isOld: z.boolean(),
      tags: z.array(z.enum(['a', 'b'])).max(2),
    });
    const parsed = await client.chat.completions.parse({
      ...LIMIT,
      response_format: zodResponseFormat(Town, 'town'),
    });
    assert.equal(typeof parsed.choices[0]?.message.parsed?.isOld, 'boolean');
  });

  test('JSON of any form, and a grammar', async () => {
    const json = await client.chat.completions.create({
      ...LIMIT,
      response_format: { type: 'json_object' },
      temperature: 0,
    });
    const [choice] = json.choices;
    // A small model may go on for ever; what it has written is the beginning of an object all the same.
    if (choice?.finish_reason === 'stop')
      assert.equal(typeof JSON.parse(choice.message.content ?? ''), 'object');
    else assert.match(choice?.message.content ?? '', /^\{/);
    const grammar = 'root ::= "yes" | "no"';
    const body = { ...LIMIT, grammar, n: 4, temperature: 2 } as OpenAI.ChatCompletionCreateParamsNonStreaming;
    const { choices } = await client.chat.completions.create(body);
    assert.ok(choices.every((answer) => ['yes', 'no'].includes(answer.message.content ?? '')));
  });

  test('a call must come, of any tool, whole and streamed', async () => {
    const body = { ...LIMIT, tools: TOOLS, tool_choice: 'required' as const, parallel_tool_calls: false };
    const whole = await client.chat.completions.create({ ...body, temperature: 0 });
    const streamed = await client.chat.completions
      .stream({ ...body, n: 2, seed: 4, temperature: 1 })
      .finalChatCompletion();
    for (const choice of [...whole.choices, ...streamed.choices]) {
      assert.deepEqual([choice.message.content, choice.finish_reason], [null, 'tool_calls']);
      const [call, ...more] = choice.message.tool_calls ?? [];
      assert.ok(call?.type === 'function' && more.length === 0);
      if (call.function.name === 'record_town') requireTown(call.function.arguments);
      else assert.equal(typeof JSON.parse(call.function.arguments).name, 'string');
    }
  });

  test('one tool by its name, and the conversation goes on with its answer', async () => {
    const tool_choice = { type: 'function' as const, function: { name: 'record_town' } };
    const { choices } = await client.chat.completions.create({ ...LIMIT, tools: TOOLS, tool_choice });
    const [choice] = choices;
    assert.equal(choice?.finish_reason, 'stop');
    const [call] = choice?.message.tool_calls ?? [];
    assert.ok(choice !== undefined && call?.type === 'function');
    assert.equal(call.function.name, 'record_town');
    requireTown(call.function.arguments);
    const next = await client.chat.completions.create({
      ...LIMIT,
      max_tokens: 16,
      messages: [
        ...MESSAGES,
        choice.message,
        { role: 'tool', tool_call_id: call.id, content: '{"stored":true}' },
      ],
      tools: TOOLS,
      tool_choice: 'none',
    });
    assert.equal(next.choices[0]?.message.tool_calls, undefined);
    assert.ok((next.choices[0]?.message.content ?? '').length > 0);
  });

  test('what cannot be enforced is refused by its place', async () => {
    // No grammar repeats what a group has matched.
    const schema = { type: 'object', properties: { a: { type: 'string', pattern: '^(a|b)\\1$' } } };
    const refused = (param: RegExp) => (error: unknown) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.code, 'schema_not_supported');
      assert.match(error.param ?? '', param);
      return true;
    };
    const response_format = { type: 'json_schema' as const, json_schema: { name: 'x', schema } };
    await assert.rejects(
      client.chat.completions.create({ ...LIMIT, response_format, stream: true }),
      refused(/^response_format\.json_schema\.schema\.properties\.a/),
    );
    const tools = [...TOOLS, { type: 'function' as const, function: { name: 'bad', parameters: schema } }];
    await assert.rejects(
      client.chat.completions.create({ ...LIMIT, tools, tool_choice: 'required' }),
      refused(/^tools\[2\]\.function\.parameters\.properties\.a/),
    );
    const body = { ...LIMIT, grammar: 'root ::= other' } as OpenAI.ChatCompletionCreateParamsNonStreaming;
    await assert.rejects(client.chat.completions.create(body), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.deepEqual([error.code, error.param], ['grammar_invalid', 'grammar']);
      return true;
    });
  });

  test('fewer dimensions are the first ones at length 1', async () => {
    const input = ['a town by a river', 'ein Dorf'];
    const whole = await client.embeddings.create({ model: EMBEDDER, input });
    const short = await client.embeddings.create({ model: EMBEDDER, input, dimensions: 64 });
    for (const [index, { embedding }] of short.data.entries()) {
      const first = (whole.data[index]?.embedding ?? []).slice(0, 64);
      const length = Math.hypot(...first);
      assert.equal(embedding.length, 64);
      assert.ok(embedding.every((value, at) => Math.abs(value - (first[at] ?? 0) / length) < 1e-6));
    }
    const tooMany = { model: EMBEDDER, input, dimensions: MINILM_EMBEDDING_LENGTH + 1 };
    await assert.rejects(client.embeddings.create(tooMany), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, 'dimensions');
      return true;
    });
  });
});

/** MiniLM as a package of its own, signed and trusted. */
async function installEmbedder(home: Freehold, folder: string): Promise<void> {
  const { signal } = new AbortController();
  await copyFile(await minilmGguf(), path.join(folder, 'minilm.gguf'));
  await writeFile(path.join(folder, 'LICENSE'), 'Apache-2.0\n');
  const lines = [
    `name: acme/${EMBEDDER}`,
    'version: 1.0.0',
    'license: Apache-2.0',
    'description: Sentence vectors.',
    'weights: minilm.gguf',
    'files: [LICENSE]',
  ];
  await writeFile(path.join(folder, 'model.yaml'), `${lines.join('\n')}\n`);
  const built = await buildPackage(home, folder, { mayReplace: false, signal });
  const { publicKeyPem } = await createKey(home, 'acme');
  await addTrust(home, 'acme/*', publicKeyPem);
  await signPackages(home, `${built.name}@${built.version}`, 'acme', signal);
}
