import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createTestApp } from '../../../tests/fixtures/http-app.ts';
import { CHAT_FIELDS, COMPLETION_FIELDS, EMBEDDING_FIELDS } from '../../core/wire/openai-fields.ts';

/** Together with the mutated texts, 10,000 bodies. */
const BODIES_PER_ROUTE = 3000;
const MUTANTS = 1000;

const ROUTES = [
  ['/v1/chat/completions', CHAT_FIELDS, { model: 'scripted', messages: [{ role: 'user', content: 'hi' }] }],
  ['/v1/completions', COMPLETION_FIELDS, { model: 'base', prompt: 'hi' }],
  ['/v1/embeddings', EMBEDDING_FIELDS, { model: 'embedder', input: 'hi' }],
] as const;

/** Values that some field takes, so that what lies behind the first check is reached as well. */
const ALMOST: fc.Arbitrary<unknown> = fc.constantFrom<unknown>(
  1,
  2,
  16,
  true,
  'required',
  'none',
  'root ::= "a"',
  { type: 'json_object' },
  { type: 'json_schema', json_schema: { name: 'x', schema: {} } },
  { type: 'function', function: { name: 'f' } },
  [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }],
  [
    {
      role: 'assistant',
      tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
    },
    { role: 'tool', tool_call_id: 'c', content: 'x' },
  ],
);

for (const [path, table, minimal] of ROUTES) {
  test(`${path}: no body is a server error, and every refusal is well-formed`, async () => {
    const { post, records } = createTestApp();
    const anything = fc.oneof(fc.jsonValue({ maxDepth: 4 }), ALMOST);
    const fields = fc.dictionary(fc.oneof(fc.constantFrom(...Object.keys(table)), fc.string()), anything, {
      maxKeys: 5,
    });
    const body = fc.oneof(
      { arbitrary: fields.map((extra) => ({ ...minimal, ...extra })), weight: 6 },
      { arbitrary: fields, weight: 1 },
      { arbitrary: anything, weight: 1 },
    );
    const statuses = new Map<number, number>();
    await fc.assert(
      fc.asyncProperty(body, async (value) => {
        const response = await post(path, value);
        const text = await response.text();
        statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
        assert.ok([200, 400, 404].includes(response.status), `${response.status} ${text}`);
        if (response.status !== 200) assert.match(text, /^\{"error":\{"message":".+"code":"\w+"\}\}$/s);
      }),
      { numRuns: BODIES_PER_ROUTE },
    );
    assert.ok((statuses.get(200) ?? 0) > 20 && (statuses.get(400) ?? 0) > 20, 'both outcomes occur');
    assert.ok(!records.some((record) => record.event === 'request-crashed'));
  });
}

test('mutated texts of a good body are never a server error', async () => {
  const { post } = createTestApp();
  const good = JSON.stringify({
    model: 'scripted',
    messages: [{ role: 'user', content: [{ type: 'text', text: 'h\u00e9' }] }],
    logit_bias: { 1: 2 },
    stop: ['a'],
    stream: true,
    stream_options: { include_usage: true },
    n: 2,
    response_format: { type: 'json_schema', json_schema: { schema: { type: 'object' } } },
    tools: [{ type: 'function', function: { name: 'f', parameters: {} } }],
    tool_choice: 'none',
  });
  const mutant = fc
    .tuple(fc.nat(good.length - 1), fc.nat(3), fc.string({ unit: 'binary', maxLength: 3 }))
    .map(([at, removed, inserted]) => good.slice(0, at) + inserted + good.slice(at + removed));
  await fc.assert(
    fc.asyncProperty(mutant, async (text) => {
      const response = await post('/v1/chat/completions', text);
      const body = await response.text();
      assert.ok([200, 400, 404].includes(response.status), `${response.status} ${body}`);
    }),
    { numRuns: MUTANTS },
  );
});
