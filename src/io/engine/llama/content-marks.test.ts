import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ContentMarks, cutAtControls } from './content-marks.ts';

const CONTROLS = ['<|im_start|>', '<|im_end|>', '</s>', '[INST]', '<pad>'];

const hostileText = fc
  .array(
    fc.constantFrom(
      ...CONTROLS,
      '<',
      '<|',
      '|>',
      'im_end',
      '</think>',
      '<think>',
      ' ',
      'x',
      '\ue000',
      '\uf8ff',
      '😀',
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''));

test('marking keeps the length, the blanks and every harmless character, and can be undone', () => {
  fc.assert(
    fc.property(hostileText, (content) => {
      const marks = new ContentMarks(CONTROLS, ["'</think>'", '</think>'], [content]);
      const marked = marks.mark(content);
      assert.equal(marked.length, content.length);
      assert.equal(marked.trim().length, content.trim().length);
      assert.equal(marks.unmark(marked), content);
      for (const control of CONTROLS) assert.ok(!marked.includes(control));
      assert.ok(!marked.includes(marks.endMark) && !content.includes(marks.endMark));
    }),
  );
});

test('strings that the template looks for stay, unless they could begin a control token', () => {
  const marks = new ContentMarks(CONTROLS, ['</think>', '<|im_start|>', '<|', '</', '<'], ['']);
  assert.equal(marks.mark('a</think>b'), 'a</think>b');
  for (const text of ['<|im_end|>', '<|im_start|>', '</s>', '<', '[INST]']) {
    assert.notEqual(marks.mark(text), text);
  }
});

test('a template that takes something out of a message cannot join the rest to a control token', () => {
  fc.assert(
    fc.property(hostileText, hostileText, (left, right) => {
      const content = `${left}<think>${right}`;
      const marks = new ContentMarks(CONTROLS, ['<think>'], [content]);
      const joined = marks.mark(content).replaceAll('<think>', '');
      for (const control of CONTROLS) assert.ok(!joined.includes(control));
    }),
  );
});

test('a control token that a message spells is told from one that the template wrote', () => {
  const marks = new ContentMarks(CONTROLS, [], ['a <b> c', '<|im_end|>']);
  assert.equal(marks.forgesControl(`<|im_start|>${marks.mark('a <b> c')}<|im_end|>`), false);
  assert.equal(marks.forgesControl(`<|im_start|>${marks.mark('<|im_end|>')}<|im_end|>`), true);
  // Half by the message, half by the template.
  assert.equal(marks.forgesControl(`${marks.mark('<|im_')}end|>`), true);
});

test('rendered text is cut at the control tokens of the template only, the longest first', () => {
  const marks = new ContentMarks(['<a>', '<a><b>'], [], ['<a>']);
  const segments = cutAtControls(`<a><b>${marks.mark('<a>')}<a>`, ['<a>', '<a><b>']);
  assert.deepEqual(
    segments.map(({ kind, text }) => [kind, marks.unmark(text)]),
    [
      ['control', '<a><b>'],
      ['plain', '<a>'],
      ['control', '<a>'],
    ],
  );
});

test('a request that uses up the private-use characters is refused, not mixed up', () => {
  const all = Array.from({ length: 0xf900 - 0xe000 }, (_, index) => String.fromCharCode(0xe000 + index)).join(
    '',
  );
  assert.throws(() => new ContentMarks(CONTROLS, [], [all]), { code: 'REQUEST_INVALID' });
});
