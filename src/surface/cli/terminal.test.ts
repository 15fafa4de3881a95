import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { ProgressBar, progressText } from './progress-bar.ts';
import { formatBytes, formatDuration, harmless, Terminal, type TerminalStreams, table } from './terminal.ts';

/** Streams that keep what is written; `isTTY` as told. */
function capture(isTTY: boolean, env: Record<string, string> = {}) {
  const written = { stdout: '', stderr: '' };
  const stream = (name: 'stdout' | 'stderr') =>
    Object.assign(
      new Writable({
        write(chunk, _encoding, done) {
          written[name] += String(chunk);
          done();
        },
      }),
      { isTTY, columns: 80 },
    ) as unknown as NodeJS.WriteStream;
  const streams = {
    stdin: process.stdin,
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    env,
  } satisfies TerminalStreams;
  return { streams, written };
}

test('text from outside cannot steer a terminal', () => {
  assert.equal(
    harmless('a\u001b[2Jb\u001b]0;title\u0007c\u202ed\u0000e\nf\tg'),
    'abcde\nf\tg'.replace('c\u202ed', 'cd'),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.doesNotMatch(
        harmless(text),
        /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/,
      );
    }),
  );
});

test('colours only for people at a terminal, and never against NO_COLOR', () => {
  const painted = (isTTY: boolean, env: Record<string, string>) =>
    new Terminal(capture(isTTY, env).streams, { json: false, quiet: false }).paint('good', 'x');
  assert.equal(painted(true, {}), '\u001b[32mx\u001b[39m');
  assert.equal(painted(true, { NO_COLOR: '1' }), 'x');
  assert.equal(painted(true, { TERM: 'dumb' }), 'x');
  assert.equal(painted(false, {}), 'x');
});

test('--json puts one document on stdout and nothing for people anywhere', () => {
  const { streams, written } = capture(false);
  const terminal = new Terminal(streams, { json: true, quiet: false });
  terminal.result({ a: 1 }, 'for people');
  terminal.note('remark');
  assert.equal(written.stdout, '{"a":1}\n');
  assert.equal(written.stderr, '');
});

test('bytes and durations as people read them', () => {
  assert.deepEqual([0, 1023, 1024, 98362432, 1117320768].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '93.8 MiB',
    '1.0 GiB',
  ]);
  assert.deepEqual([0, 7000, 750_000, 3_723_000].map(formatDuration), ['0:00', '0:07', '12:30', '1:02:03']);
});

test('a table pads every column but the last, and no cell steers the terminal', () => {
  const terminal = new Terminal(capture(false).streams, { json: false, quiet: false });
  assert.equal(table(terminal, ['A'], [['x\u001b[2Jy']]), 'A\nxy');
  assert.equal(
    table(
      terminal,
      ['A', 'B'],
      [
        ['long', 'x'],
        ['s', 'yy'],
      ],
    ),
    'A     B\nlong  x\ns     yy',
  );
});

test('the bar shows share, rate, time left and where it resumed', () => {
  const text = progressText(
    { label: 'm', doneBytes: 50 * 2 ** 20, totalBytes: 100 * 2 ** 20, resumedBytes: 2 ** 20 },
    10 * 2 ** 20,
  );
  assert.equal(
    text,
    `m  ${'█'.repeat(12)}${'░'.repeat(12)}  50 %  50.0 MiB of 100 MiB  10.0 MiB/s  0:05 left  resumed at 1.0 MiB`,
  );
});

test('bytes that lay there before do not count as speed', () => {
  let nowMs = 0;
  const { streams, written } = capture(true);
  const bar = new ProgressBar(new Terminal(streams, { json: false, quiet: false }), () => nowMs);
  bar.listen({
    kind: 'bytes-moved',
    label: 'm',
    doneBytes: 90 * 2 ** 20,
    totalBytes: 100 * 2 ** 20,
    resumedBytes: 90 * 2 ** 20,
  });
  nowMs = 1000;
  bar.listen({
    kind: 'bytes-moved',
    label: 'm',
    doneBytes: 91 * 2 ** 20,
    totalBytes: 100 * 2 ** 20,
    resumedBytes: 90 * 2 ** 20,
  });
  assert.match(written.stderr, / 1\.0 MiB\/s {2}0:09 left/);
});

test('without a terminal a line now and then, with --json events, with --quiet nothing', () => {
  const run = (options: { json: boolean; quiet: boolean }) => {
    let nowMs = 0;
    const { streams, written } = capture(false);
    const bar = new ProgressBar(new Terminal(streams, options), () => nowMs);
    for (let step = 0; step <= 100; step++) {
      nowMs = step * 250;
      bar.listen({ kind: 'bytes-moved', label: 'm', doneBytes: step, totalBytes: 100 });
    }
    return written;
  };
  assert.ok(run({ json: false, quiet: false }).stderr.split('\n').length <= 6);
  assert.equal(run({ json: true, quiet: false }).stdout.trim().split('\n').length, 101);
  assert.deepEqual(run({ json: false, quiet: true }), { stdout: '', stderr: '' });
  assert.deepEqual(run({ json: true, quiet: true }), { stdout: '', stderr: '' });
});
