import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import { parseCompletionRequest } from './openai-completion-request.ts';

const parse = (fields: object) => parseCompletionRequest({ model: 'm', ...fields });

test('choices go by prompt, and each prompt has the seeds that it would have alone', () => {
  const { generations, choicesPerPrompt } = parse({ prompt: ['a', 'b'], n: 2, seed: 7 });
  assert.equal(choicesPerPrompt, 2);
  assert.deepEqual(
    generations.map(({ prompt, sampling }) => [prompt.kind === 'text' && prompt.text, sampling?.seed]),
    [
      ['a', 7],
      ['a', 8],
      ['b', 7],
      ['b', 8],
    ],
  );
});

test('128 choices in all', () => {
  assert.equal(parse({ prompt: Array(64).fill('a'), n: 2 }).generations.length, 128);
  assert.equal(parse({ prompt: Array(8).fill('a'), n: 16 }).generations.length, 128);
  for (const [count, n] of [
    [64, 3],
    [9, 16],
  ]) {
    assert.throws(
      () => parse({ prompt: Array(count).fill('a'), n }),
      (error) =>
        error instanceof FreeholdError && error.code === 'REQUEST_INVALID' && error.detail.param === 'n',
    );
  }
});

test('a grammar and a requester', () => {
  const [generation] = parse({ prompt: 'a', grammar: 'root ::= "x"', user: 'ann' }).generations;
  assert.deepEqual(generation?.constraint, { kind: 'gbnf', grammar: 'root ::= "x"' });
  assert.equal(generation?.requester, 'ann');
});
