import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import { freehold, temporaryFolder, temporaryHome } from '../fixtures/freehold-home.ts';
import { descendantsOf, isRunning, waitUntil } from '../fixtures/processes.ts';
import { KEY, pseudoTerminalMissing, startOnTerminal } from '../fixtures/pseudo-terminal.ts';
import { realModel } from '../fixtures/real-models.ts';
import type { RunningFreehold } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

const STARTER = 'smollm2-135m-instruct';
const WAIT_MS = 20_000;
/** `69 tokens, 41.5 tokens/s, prompt 43 tokens in 0.6 s`, below every answer. */
const REMARK = /(\d+) tokens, [\d.]+ tokens\/s, prompt (\d+) tokens/g;

describe('a chat on a terminal', { skip: skipUnlessCi(pseudoTerminalMissing()) }, () => {
  let home = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;

  before(async () => {
    await realModel(STARTER);
    home = await temporaryHome(suite);
    const installed = await freehold(['install', `catalog:${STARTER}`], { home });
    assert.equal(installed.code, 0, installed.stderr);
    await installTinyPackage(
      await openFreehold({ env: {}, home }),
      path.join(await temporaryFolder(suite), 'tiny'),
    );
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  test('answers with the conversation in mind; Ctrl-C stops the answer and not the program; /exit ends', async (context) => {
    const chat = startOnTerminal(context, ['run', STARTER, '--temperature', '0', '--max-tokens', '60'], {
      home,
    });
    await prompts(chat, 1);
    const family = descendantsOf(chat.pid);
    assert.ok(family.length >= 2, 'the program and its engine');

    chat.write(`My name is Lovelace. Say hello.${KEY.enter}`);
    await prompts(chat, 2);
    const [first] = remarks(chat);
    chat.write(`What is my name?${KEY.enter}`);
    await prompts(chat, 3);
    const [, second] = remarks(chat);
    assert.ok(first !== undefined && second !== undefined);
    assert.ok(second.prompt > first.prompt + first.answer, 'the second prompt holds the first answer');
    assert.match(afterLast(chat, 'What is my name?'), /Lovelace/);

    chat.write(`Write a very long story about a king and his seven castles.${KEY.enter}`);
    await waitUntil(() => afterLast(chat, 'seven castles.').length > 40, WAIT_MS, 'no answer');
    const pressedAtMs = performance.now();
    chat.write(KEY.ctrlC);
    await prompts(chat, 4);
    context.diagnostic(`Ctrl-C to prompt: ${Math.round(performance.now() - pressedAtMs)} ms`);
    assert.match(afterLast(chat, 'seven castles.'), /\r?\nstopped\r?\n/);
    assert.deepEqual(
      family.filter((pid) => !isRunning(pid)),
      [],
      'program and engine go on',
    );

    chat.write(`Write a long story about the sea.${KEY.enter}`);
    await waitUntil(() => afterLast(chat, 'about the sea.').length > 40, WAIT_MS, 'no answer');
    // Typed while the answer runs: it is the next line, not lost.
    chat.write(`/clear${KEY.enter}`);
    await waitUntil(
      () => chat.stdout().includes('forgotten'),
      WAIT_MS,
      'the line that was typed ahead is lost',
    );
    await prompts(chat, 5);
    chat.write(`Say yes.${KEY.enter}`);
    await prompts(chat, 6);
    const last = remarks(chat).at(-1);
    assert.ok(last !== undefined && last.prompt < second.prompt, 'the conversation was forgotten');

    chat.write(`/exit${KEY.enter}`);
    assert.deepEqual(await chat.ended(), { code: 0, signal: null }, chat.stdout());
    await waitUntil(() => !family.some(isRunning), WAIT_MS, 'a process is left');
    const names = await readdir(home, { recursive: true });
    assert.ok(!names.some((name) => /history|chat/.test(name)), 'nothing of the conversation is kept');
  });

  test('Ctrl-D ends, and so does Ctrl-C twice at the prompt', async (context) => {
    for (const keys of [[KEY.ctrlD], [KEY.ctrlC, KEY.ctrlC]]) {
      const chat = startOnTerminal(context, ['run', 'tiny'], { home });
      await prompts(chat, 1);
      for (const [index, key] of keys.entries()) {
        chat.write(key);
        if (index + 1 < keys.length) await chat.waitFor(/once more to leave/);
      }
      assert.deepEqual(await chat.ended(), { code: 0, signal: null }, chat.stdout());
    }
  });

  test('what a model sends to the terminal cannot steer it', async (context) => {
    // Random weights at a high temperature choose among all bytes, control characters included.
    const options = ['--temperature', '2', '--seed', '3', '--max-tokens', '120'];
    const raw = await freehold(['run', 'tiny', ...options, 'hello'], { home });
    assert.match(raw.stdout, CONTROL, 'without a terminal the bytes are passed on as they are');
    const shown = startOnTerminal(context, ['--quiet', 'run', 'tiny', ...options, 'hello'], { home });
    assert.deepEqual(await shown.ended(), { code: 0, signal: null });
    assert.ok(shown.stdout().length > 20);
    assert.doesNotMatch(shown.stdout().replaceAll('\r\n', '\n'), CONTROL);
  });

  test('an error on a terminal is coloured, and not with NO_COLOR', async (context) => {
    const plain = startOnTerminal(context, ['inspect', 'nobody'], { home });
    assert.equal((await plain.ended()).code, 3);
    assert.doesNotMatch(plain.stdout(), CONTROL_SEQUENCE);
    const coloured = startOnTerminal(context, ['inspect', 'nobody'], { home, env: { NO_COLOR: '' } });
    assert.equal((await coloured.ended()).code, 3);
    assert.match(coloured.stdout(), CONTROL_SEQUENCE);
  });
});

/** All but newline and tab. */
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;
const CONTROL_SEQUENCE = /\u001b\[/;

/** Waits until the program asks for input for the `count`-th time. */
async function prompts(chat: RunningFreehold, count: number): Promise<void> {
  // readline draws its prompt by clearing the line first.
  await waitUntil(
    () => chat.stdout().split('\u001b[0J> ').length > count || chat.process.exitCode !== null,
    WAIT_MS,
    () => `no prompt ${count}:\n${chat.stdout()}`,
  );
  assert.equal(chat.process.exitCode, null, chat.stdout());
}

function remarks(chat: RunningFreehold): { answer: number; prompt: number }[] {
  return [...chat.stdout().matchAll(REMARK)].map(([, answer, prompt]) => ({
    answer: Number(answer),
    prompt: Number(prompt),
  }));
}

function afterLast(chat: RunningFreehold, question: string): string {
  const [, ...after] = chat.stdout().split(question);
  return after.at(-1) ?? '';
}
