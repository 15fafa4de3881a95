import {
  alternate,
  type Benchmark,
  type BenchmarkContext,
  comparedRow,
  type Row,
  type Sample,
} from './benchmark.ts';
import { freshText, NEVER_ENDING, STREAMED } from './client.ts';
import { startPair } from './server-pair.ts';
import type { BenchServer } from './servers.ts';

const TOKENS = 128;
const CONTEXT_TOKENS_PER_SLOT = 1024;
/** Free text until the length is reached, so that both sides write the same number of tokens. */
const FREE = {} as const;

/** Shapes whose answers cannot end before `TOKENS`, from nearly free to nearly fixed. */
const SCHEMAS = [
  {
    what: 'an array of strings',
    schema: {
      type: 'array',
      items: { type: 'string', minLength: 4, maxLength: 24 },
      minItems: 100,
      maxItems: 200,
    },
  },
  {
    what: 'an array of objects (string, integer, enum, boolean)',
    schema: {
      type: 'array',
      minItems: 60,
      maxItems: 100,
      items: {
        type: 'object',
        properties: {
          name: { type: 'string', maxLength: 32 },
          count: { type: 'integer' },
          colour: { enum: ['red', 'green', 'blue'] },
          sold: { type: 'boolean' },
        },
        required: ['name', 'count', 'colour', 'sold'],
        additionalProperties: false,
      },
    },
  },
] as const;

/** What a constraint costs: the same server, the same model, the same number of tokens. */
export const constrainedBenchmark: Benchmark = {
  name: 'constrained',
  title: 'JSON by a schema, against free text',
  how:
    `One chat answer of ${TOKENS} tokens at a time (starter model, streamed, temperature 0): with \`response_format\` ` +
    '`json_schema` in the column Freehold, as free text from the same server in the column peer; tokens per second from ' +
    'the first text to the last. The lines of llama-server are the same comparison within llama-server, for the reader.',
  async run(context) {
    const settings = { slots: 1, contextTokensPerSlot: CONTEXT_TOKENS_PER_SLOT };
    const pair = await startPair(
      context,
      settings,
      async (server) => 1000 / (await rate(server, FREE)).value,
    );
    const rows: Row[] = [];
    for (const { what, schema } of SCHEMAS) {
      for (const server of [pair.ours, pair.peer]) {
        if (server !== undefined) rows.push(await compareWithFree(context, server, what, schema));
      }
    }
    return rows;
  },
};

async function compareWithFree(
  context: BenchmarkContext,
  server: BenchServer,
  what: string,
  schema: object,
): Promise<Row> {
  const label = `${server.name}: ${what}`;
  context.say(label);
  const constraint = {
    response_format: { type: 'json_schema', json_schema: { name: 'bench', strict: true, schema } },
  };
  try {
    await rate(server, constraint);
    const result = await alternate(
      context.rounds,
      () => rate(server, constraint),
      () => rate(server, FREE),
    );
    const wanted = { kind: 'at-least', value: 0.8 } as const;
    return comparedRow(label, result, 'tokens/s', server.name === 'freehold' ? wanted : undefined);
  } catch (error) {
    return { what: label, ours: `failed: ${String(error).slice(0, 200)}`, peer: '–' };
  }
}

async function rate(server: BenchServer, constraint: object): Promise<Sample> {
  const messages = [{ role: 'user', content: `Write a long list of things about ${freshText(6)}.` }];
  const ending = 'response_format' in constraint ? {} : NEVER_ENDING;
  const result = await server.ask('/v1/chat/completions', [
    { messages, max_tokens: TOKENS, temperature: 0, ...constraint, ...ending, ...STREAMED },
  ]);
  const [stream] = result.streams;
  if (stream === undefined || stream.completionTokens < TOKENS) {
    throw new Error(
      `the answer ended after ${stream?.completionTokens} tokens: ${stream?.text.slice(0, 100)}`,
    );
  }
  // The first token marks the beginning.
  const seconds = (stream.lastMs - stream.firstMs) / 1000;
  return { value: (stream.completionTokens - 1) / seconds, cpuSeconds: result.cpuSeconds };
}
