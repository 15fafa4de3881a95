import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { apiPage } from '../scripts/api-page.ts';
import { REQUEST_STOP_STRINGS_MAX, STOP_STRING_CHARACTERS_MAX } from '../src/core/base/request-limits.ts';
import { MESSAGES_MAX } from '../src/core/wire/openai-chat-request.ts';
import { PROMPT_COUNT_MAX } from '../src/core/wire/openai-completion-request.ts';
import { EMBEDDING_INPUTS_MAX } from '../src/core/wire/openai-embedding.ts';
import { createTestApp } from './fixtures/http-app.ts';

const page = readFileSync(path.join(path.dirname(import.meta.dirname), 'docs', 'API.md'), 'utf8');

test('the field tables of docs/API.md are those of the code (npm run docs writes them)', () => {
  assert.equal(apiPage(page), page);
  assert.equal(page.match(/<!-- fields: \w+ -->\n\n\| field/g)?.length, 4);
});

test('the paths of docs/API.md are those of the server', () => {
  const { app } = createTestApp();
  const served = app.routes
    .filter((route) => route.method === 'GET' || route.method === 'POST')
    .map((route) => `${route.path.replace(':id{.+}', 'NAME')} ${route.method}`);
  const documented = [...page.matchAll(/^\| `(\/\S+)` \| (GET|POST) \|/gm)].map(
    (match) => `${match[1]} ${match[2]}`,
  );
  assert.deepEqual(documented.sort(), served.sort());
});

test('the limits of docs/API.md are those of the code', () => {
  for (const row of [
    `| messages | ${MESSAGES_MAX} |`,
    `| prompts in one completion request | ${PROMPT_COUNT_MAX} |`,
    `| inputs in one embedding request | ${EMBEDDING_INPUTS_MAX} |`,
    `| stop strings | ${REQUEST_STOP_STRINGS_MAX} of at most ${STOP_STRING_CHARACTERS_MAX} characters |`,
  ]) {
    assert.ok(page.includes(row), row);
  }
});
