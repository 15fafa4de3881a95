import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runGgufMutants } from '../../../../tests/fixtures/gguf-mutation-run.ts';
import { contentBytes, everyKindContent, smallModelContent } from '../../../../tests/fixtures/small-gguf.ts';

const MUTANTS = 100_000;

test(`${MUTANTS} mutants: refused by code or read, fast, in little memory`, async () => {
  const contents = [everyKindContent(2), everyKindContent(3), smallModelContent(), smallModelContent()];
  for (const [index, content] of contents.entries()) {
    const run = await runGgufMutants(1000 + index, await contentBytes(content), MUTANTS / contents.length);
    assert.ok(run.slowestMs < 1000, `${run.slowestMs} ms`);
    assert.ok(run.mostBytesRead < 64 << 20, `${run.mostBytesRead} bytes`);
  }
});
