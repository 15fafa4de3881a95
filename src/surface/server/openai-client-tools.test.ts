import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { createTestApp, type TestApp } from '../../../tests/fixtures/http-app.ts';
import { type RunningServer, startServer } from './listen.ts';

const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [
  { role: 'user', content: 'Weather in Bern and Rome?' },
];
const Place = z.object({ city: z.string() });
const TOOLS: OpenAI.ChatCompletionFunctionTool[] = [
  {
    type: 'function',
    function: {
      name: 'weather',
      strict: true,
      parameters: {
        type: 'object',
        properties: { city: { type: 'string' } },
        required: ['city'],
        additionalProperties: false,
      },
    },
  },
];
const CALLS = [
  { name: 'weather', pieces: ['{"city"', ':"Bern"}'] },
  { name: 'weather', pieces: ['{"city":"Rome"}'] },
];

let tested: TestApp;
let server: RunningServer;
let client: OpenAI;

before(async () => {
  tested = createTestApp();
  server = await startServer({ app: tested.app, listen: '127.0.0.1:0' });
  client = new OpenAI({ apiKey: 'none', baseURL: `${server.url}/v1`, maxRetries: 0 });
});
after(() => server.close({ graceMs: 0 }));

test('several answers, whole and put together from a stream', async () => {
  tested.model.script = (_, order) => ({ pieces: [`answer `, String(order)] });
  const whole = await client.chat.completions.create({ model: 'scripted', messages: MESSAGES, n: 3 });
  assert.deepEqual(
    whole.choices.map((choice) => choice.message.content),
    ['answer 0', 'answer 1', 'answer 2'],
  );
  tested.model.script = (_, order) => ({ pieces: [`answer `, String(order)] });
  const streamed = await client.chat.completions
    .stream({ model: 'scripted', messages: MESSAGES, n: 3, stream_options: { include_usage: true } })
    .finalChatCompletion();
  assert.deepEqual(
    streamed.choices.map((choice) => [choice.index, choice.message.content, choice.finish_reason]),
    [0, 1, 2].map((index) => [index, `answer ${index}`, 'stop']),
  );
  assert.deepEqual(streamed.usage, whole.usage);
});

test('a form from zod, parsed by the client, whole and streamed', async () => {
  tested.model.script = { pieces: ['{"city":', '"Bern"', '}'] };
  const body = {
    model: 'scripted',
    messages: MESSAGES,
    response_format: zodResponseFormat(Place, 'place'),
  };
  const parsed = await client.chat.completions.parse(body);
  assert.deepEqual(parsed.choices[0]?.message.parsed, { city: 'Bern' });
  const constraint = tested.model.requests.at(-1)?.constraint;
  assert.ok(constraint?.kind === 'json-schema' && typeof constraint.schema === 'object');
  assert.deepEqual(constraint.schema.required, ['city']);
  const streamed = await client.chat.completions.stream(body).finalChatCompletion();
  assert.deepEqual(streamed.choices[0]?.message.parsed, { city: 'Bern' });
});

test('a form that was cut is an error of the client', async () => {
  tested.model.script = { pieces: ['{"city":'], reason: 'length' };
  const body = {
    model: 'scripted',
    messages: MESSAGES,
    response_format: zodResponseFormat(Place, 'place'),
  };
  await assert.rejects(client.chat.completions.parse(body), /length limit/);
  await assert.rejects(client.chat.completions.stream(body).finalChatCompletion(), /length limit/);
});

test('calls in a stream: the events of the client, and its parsed arguments', async () => {
  tested.model.script = { calls: CALLS };
  const stream = client.chat.completions.stream({
    model: 'scripted',
    messages: MESSAGES,
    tools: TOOLS,
    tool_choice: 'required',
  });
  const done: string[] = [];
  const deltas: string[] = [];
  stream.on('tool_calls.function.arguments.delta', (event) => deltas.push(event.arguments_delta));
  stream.on('tool_calls.function.arguments.done', (event) =>
    done.push(`${event.index} ${event.name} ${JSON.stringify(event.parsed_arguments)}`),
  );
  const { choices } = await stream.finalChatCompletion();
  assert.deepEqual(deltas, ['', '{"city"', ':"Bern"}', '', '{"city":"Rome"}']);
  assert.deepEqual(done, ['0 weather {"city":"Bern"}', '1 weather {"city":"Rome"}']);
  assert.deepEqual([choices[0]?.message.content, choices[0]?.finish_reason], [null, 'tool_calls']);
  assert.equal(choices[0]?.message.tool_calls?.length, 2);
});

test('calls of several answers in one stream', async () => {
  tested.model.script = (_, order) => ({ calls: CALLS.slice(order) });
  const { choices } = await client.chat.completions
    .stream({ model: 'scripted', messages: MESSAGES, tools: TOOLS, tool_choice: 'required', n: 2 })
    .finalChatCompletion();
  assert.deepEqual(
    choices.map((choice) => choice.message.tool_calls?.map((call) => call.function.arguments)),
    [['{"city":"Bern"}', '{"city":"Rome"}'], ['{"city":"Rome"}']],
  );
});

for (const stream of [false, true]) {
  test(`the client runs tools by itself (${stream ? 'streamed' : 'whole'})`, async () => {
    // Calls, then words: the second request must hold the calls and their answers.
    tested.model.script = (request) => {
      const isAnswered = request.prompt.kind === 'chat' && request.prompt.messages.at(-1)?.role === 'tool';
      return isAnswered ? { pieces: ['Sunny in both.'] } : { calls: CALLS };
    };
    const asked: string[] = [];
    const tool = zodFunction({
      name: 'weather',
      description: 'The weather in a city.',
      parameters: Place,
      function: ({ city }) => {
        asked.push(city);
        return { city, sky: 'clear' };
      },
    });
    const body = { model: 'scripted', messages: MESSAGES, tools: [tool], tool_choice: 'required' as const };
    const runner = stream
      ? client.chat.completions.runTools({ ...body, stream: true })
      : client.chat.completions.runTools(body);
    assert.equal(await runner.finalContent(), 'Sunny in both.');
    assert.deepEqual(asked, ['Bern', 'Rome']);
    const prompt = tested.model.requests.at(-1)?.prompt;
    assert.ok(prompt?.kind === 'chat');
    assert.deepEqual(
      prompt.messages.map((message) => [message.role, message.content, message.toolCalls?.length]),
      [
        ['user', 'Weather in Bern and Rome?', undefined],
        ['assistant', '', 2],
        ['tool', '{"city":"Bern","sky":"clear"}', undefined],
        ['tool', '{"city":"Rome","sky":"clear"}', undefined],
      ],
    );
    const ids = prompt.messages[1]?.toolCalls?.map((call) => call.id);
    assert.deepEqual([prompt.messages[2]?.toolCallId, prompt.messages[3]?.toolCallId], ids);
  });
}

test('one function by its name: the client is content with one call', async () => {
  tested.model.script = { calls: CALLS.slice(0, 1) };
  const before = tested.model.requests.length;
  const runner = client.chat.completions.runTools({
    model: 'scripted',
    messages: MESSAGES,
    tools: [zodFunction({ name: 'weather', parameters: Place, function: ({ city }) => city })],
    tool_choice: { type: 'function', function: { name: 'weather' } },
  });
  assert.equal(await runner.finalFunctionToolCallResult(), 'Bern');
  assert.equal(tested.model.requests.length - before, 1);
  assert.deepEqual(tested.model.requests.at(-1)?.tools?.choice, { kind: 'named', name: 'weather' });
});

test('auto, which the client takes by itself, is refused by its name', async () => {
  await assert.rejects(
    client.chat.completions.create({ model: 'scripted', messages: MESSAGES, tools: TOOLS }),
    (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.deepEqual([error.code, error.param], ['unsupported_parameter', 'tool_choice']);
      return true;
    },
  );
});

test('a client that leaves cancels all of its answers', async () => {
  const gate = Promise.withResolvers<void>();
  tested.model.script = { gate: { at: 2, opened: gate.promise } };
  const stream = await client.chat.completions.create({
    model: 'scripted',
    messages: MESSAGES,
    n: 4,
    stream: true,
  });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content === 'Hello') break;
  const untilMs = performance.now() + 1000;
  while (tested.model.runningCount > 0) {
    assert.ok(performance.now() < untilMs, `${tested.model.runningCount} still run`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
});

test('fewer dimensions', async () => {
  const { data } = await client.embeddings.create({ model: 'embedder', input: ['a'], dimensions: 2 });
  const [vector] = data;
  assert.deepEqual(Array.from(vector?.embedding ?? []), Array.from(new Float32Array([0.6, -0.8])));
});
