import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { apiPage } from '../scripts/api-page.ts';
import {
  REQUEST_STOP_STRINGS_MAX,
  STOP_STRING_CHARACTERS_MAX,
  TOOLS_MAX,
} from '../src/core/base/request-limits.ts';
import { PROMPT_COUNT_MAX } from '../src/core/wire/openai-completion-request.ts';
import { EMBEDDING_INPUTS_MAX } from '../src/core/wire/openai-embedding.ts';
import { GRAMMAR_CHARACTERS_MAX, SCHEMA_CHARACTERS_MAX } from '../src/core/wire/openai-format.ts';
import {
  CHOICES_MAX,
  CHOICES_PER_PROMPT_MAX,
  REQUESTER_CHARACTERS_MAX,
} from '../src/core/wire/openai-generation.ts';
import { MESSAGES_MAX, TOOL_CALLS_MAX } from '../src/core/wire/openai-messages.ts';
import { createTestApp } from './fixtures/http-app.ts';

const page = readFileSync(path.join(path.dirname(import.meta.dirname), 'docs', 'API.md'), 'utf8');

test('the field tables of docs/API.md are those of the code (npm run docs writes them)', () => {
  assert.equal(apiPage(page), page);
  assert.equal(page.match(/<!-- fields: \w+ -->\n\n\| field/g)?.length, 7);
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
    `| answers to one prompt (\`n\`) | ${CHOICES_PER_PROMPT_MAX} |`,
    `| answers in one request | ${CHOICES_MAX} |`,
    `| tools | ${TOOLS_MAX} |`,
    `| calls in one message | ${TOOL_CALLS_MAX} |`,
    `| a schema, or those of all tools together | ${SCHEMA_CHARACTERS_MAX} characters of JSON |`,
    `| a grammar | ${GRAMMAR_CHARACTERS_MAX} characters |`,
    `| \`user\`, \`safety_identifier\` | ${REQUESTER_CHARACTERS_MAX} characters |`,
    `| inputs in one embedding request | ${EMBEDDING_INPUTS_MAX} |`,
    `| stop strings | ${REQUEST_STOP_STRINGS_MAX} of at most ${STOP_STRING_CHARACTERS_MAX} characters |`,
  ]) {
    assert.ok(page.includes(row), row);
  }
});
