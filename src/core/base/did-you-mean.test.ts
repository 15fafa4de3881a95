import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nearestName, suggestion } from './did-you-mean.ts';

const KEYS = ['url', 'file', 'wheels', 'huggingface', 'sources', 'description'];

test('a misspelt word finds what was meant', () => {
  for (const [word, meant] of [
    ['ulr', 'url'],
    ['URL', 'url'],
    ['wheel', 'wheels'],
    ['hugingface', 'huggingface'],
    ['descrpition', 'description'],
    ['desc', 'description'],
  ] as const) {
    assert.equal(nearestName(word, KEYS), meant, word);
  }
});

test('a word unlike all others suggests nothing', () => {
  for (const word of ['', 'x', 'temperature', 'f', 'y'.repeat(10_000)]) {
    assert.equal(nearestName(word, KEYS), undefined, word.slice(0, 20));
  }
  assert.equal(suggestion('temperature', KEYS), '');
  assert.equal(suggestion('ulr', KEYS), '; did you mean "url"?');
});

test('a beginning wins over a misspelling', () => {
  const names = ['qwen2.5-coder-0.5b-instruct', 'qwen2.5-coder-1.5b-instruct'];
  assert.equal(nearestName('qwen2.5-coder-1.5b', names), names[1]);
});

test('one edit of a long word always finds it', () => {
  const edited = fc
    .tuple(fc.constantFrom('huggingface', 'description'), fc.nat(10), fc.constantFrom('', 'x'))
    .map(([word, at, put]) => ({ word, typed: word.slice(0, at) + put + word.slice(at + 1) }));
  fc.assert(fc.property(edited, ({ word, typed }) => nearestName(typed, KEYS) === word));
});
