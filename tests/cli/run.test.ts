import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { openFreehold } from '../../src/surface/app/freehold.ts';
import {
  freehold,
  freeholdInProcess,
  outcomeOf,
  temporaryFolder,
  temporaryHome,
} from '../fixtures/freehold-home.ts';
import { llamaLibraryMissing } from '../fixtures/llama-library.ts';
import { startFreehold } from '../fixtures/running-freehold.ts';
import { skipUnlessCi } from '../fixtures/skip.ts';
import { installTinyPackage } from '../fixtures/tiny-package.ts';

interface RunEvent {
  readonly kind: string;
  readonly text?: string;
  readonly finish?: string;
  readonly usage?: { readonly promptTokens: number; readonly completionTokens: number };
}

describe('freehold run', { skip: skipUnlessCi(llamaLibraryMissing()) }, () => {
  let home = '';
  let folder = '';
  const cleanups: (() => Promise<void>)[] = [];
  const suite = { after: (cleanup: () => Promise<void>) => cleanups.push(cleanup) } as unknown as TestContext;

  before(async () => {
    home = await temporaryHome(suite);
    folder = await temporaryFolder(suite);
    await installTinyPackage(await openFreehold({ env: {}, home }), path.join(folder, 'tiny'));
  });
  after(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  const run = (args: readonly string[], input = '') => freehold(['run', 'tiny', ...args], { home, input });
  const SHORT = ['--max-tokens', '6', '--temperature', '0'];

  test('takes its prompt from words, standard input or files, all the same', async () => {
    const words = await run([...SHORT, 'Tell', 'me', 'more']);
    assert.equal(words.code, 0, words.stderr);
    assert.match(words.stderr, /^6 tokens, [\d.]+ tokens\/s, prompt \d+ tokens in [\d.]+ s$/m);
    assert.match(words.stdout, /\n$/);
    const piped = await run(SHORT, 'Tell me more\n');
    assert.equal(piped.stdout, words.stdout);
    await writeFile(path.join(folder, 'a.txt'), 'Tell me more');
    const fromFile = await run([...SHORT, '--file', path.join(folder, 'a.txt')]);
    assert.equal(fromFile.stdout, words.stdout);
    await writeFile(path.join(folder, 'b.txt'), 'Tell me');
    const both = JSON.parse(
      lastLine((await run([...SHORT, '--json', '--file', path.join(folder, 'b.txt'), 'more'])).stdout),
    ) as RunEvent;
    const together = JSON.parse(
      lastLine((await run([...SHORT, '--json', 'Tell me\n\nmore'])).stdout),
    ) as RunEvent;
    assert.equal(both.text, together.text, 'files stand before the words, with an empty line between');
  });

  test('--json gives one event per line, and the last one has it all', async () => {
    const { stdout, stderr, code } = await run([...SHORT, '--json', 'hello']);
    assert.equal(code, 0);
    assert.equal(stderr, '');
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as RunEvent);
    const texts = events.slice(0, -1);
    const last = events.at(-1);
    assert.ok(texts.every(({ kind }) => kind === 'text'));
    assert.equal(last?.kind, 'finished');
    assert.equal(last.finish, 'length');
    assert.equal(last.usage?.completionTokens, 6);
    assert.equal(last.text, texts.map(({ text }) => text).join(''));
    const refused = await freehold(['run', 'nobody', '--json', 'hello'], { home });
    assert.equal(refused.code, 3);
    assert.equal(JSON.parse(refused.stdout).error.code, 'MODEL_NOT_FOUND');
  });

  test('--seed repeats an answer, another seed gives another one', async () => {
    const answer = async (seed: string) =>
      (await run(['--max-tokens', '12', '--temperature', '1.5', '--seed', seed, 'hello'])).stdout;
    const first = await answer('7');
    assert.equal(await answer('7'), first);
    assert.notEqual(await answer('8'), first);
  });

  test('--stop ends the answer before the text', async () => {
    const whole = (await run(['--max-tokens', '12', '--temperature', '0', 'hello'])).stdout.trimEnd();
    const stop = whole.slice(3, 6);
    assert.equal(stop.length, 3, 'the tiny model has said enough');
    const stopped = await run([
      '--max-tokens',
      '12',
      '--temperature',
      '0',
      '--stop',
      stop,
      '--json',
      'hello',
    ]);
    const last = JSON.parse(lastLine(stopped.stdout)) as RunEvent;
    assert.equal(last.finish, 'stop');
    assert.equal(last.text, whole.slice(0, whole.indexOf(stop)));
  });

  test('wrong values, no prompt and absent files are refused before a model is loaded', async () => {
    const cases: [string, string[], string?][] = [
      ['USAGE', ['--temperature', '3', 'x']],
      ['USAGE', ['--temperature', 'NaN', 'x']],
      ['USAGE', ['--max-tokens', '0', 'x']],
      ['USAGE', ['--max-tokens', '1e3', 'x']],
      ['USAGE', ['--seed', '-1', 'x']],
      ['USAGE', ['--verify', 'never', 'x']],
      ['USAGE', ['--nonsense', 'x']],
      ['USAGE', SHORT],
      ['NOT_FOUND', ['--file', path.join(folder, 'absent.txt'), 'x']],
      ['CONTEXT_EXCEEDED', ['x '.repeat(2000)]],
    ];
    for (const [code, args] of cases) {
      const refused = await freeholdInProcess(['run', 'tiny', ...args], home);
      assert.equal(outcomeOf(refused), code, `${args.join(' ').slice(0, 60)}: ${refused.stderr}`);
      assert.equal(refused.stdout, '');
    }
  });

  test('a signal in the middle of an answer ends it with 130 and leaves no half character', async (context) => {
    const running = startFreehold(context, ['run', 'tiny', '--temperature', '1', '--json', 'hello'], {
      home,
    });
    await running.waitFor(/"kind":"text"/);
    assert.deepEqual(await running.stop('SIGINT'), { code: 130, signal: null });
    const last = JSON.parse(lastLine(running.stdout())) as RunEvent;
    assert.equal(last.finish, 'cancelled');
    assert.doesNotMatch(last.text ?? '', /[\ud800-\udbff](?![\udc00-\udfff])/);
  });

  test('a reader that goes away early is no error', async (context) => {
    const running = startFreehold(
      context,
      ['run', 'tiny', '--max-tokens', '400', '--temperature', '1', 'hello'],
      { home },
    );
    running.process.stdout?.once('data', () => running.process.stdout?.destroy());
    assert.deepEqual(await running.ended(), { code: 0, signal: null }, running.stderr());
  });
});

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? '';
}
