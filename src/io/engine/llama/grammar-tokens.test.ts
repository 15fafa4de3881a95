import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type GrammarToken, GrammarTokens } from './grammar-tokens.ts';
import { CHARACTER_BORDER, INVALID, utf8After } from './utf8-state.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function isUtf8(bytes: Uint8Array): boolean {
  try {
    decoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

const likelyBytes = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        0x41,
        0x80,
        0x8f,
        0x90,
        0x9f,
        0xa0,
        0xbf,
        0xc1,
        0xc2,
        0xdf,
        0xe0,
        0xed,
        0xef,
        0xf0,
        0xf4,
        0xf5,
      ),
      fc.integer({ min: 0, max: 255 }),
    ),
    { maxLength: 9 },
  )
  .map((values) => Uint8Array.from(values));

test('bytes end at a border exactly when they are UTF-8, in whatever pieces they come', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 4 }).map((value) => new TextEncoder().encode(value));
  fc.assert(
    fc.property(fc.oneof(likelyBytes, text), fc.nat(9), (bytes, cut) => {
      const first = utf8After(bytes.subarray(0, cut), CHARACTER_BORDER);
      const state = first === INVALID ? INVALID : utf8After(bytes.subarray(cut), first);
      assert.equal(state === CHARACTER_BORDER, isUtf8(bytes));
    }),
    { numRuns: 3000 },
  );
});

test('a state is invalid as soon as nothing can make the bytes UTF-8 any more', () => {
  const endings = [
    [],
    [0x80],
    [0xbf],
    [0xa0],
    [0x90],
    [0x80, 0x80],
    [0xbf, 0xbf],
    [0x90, 0x80, 0x80],
    [0x80, 0x80, 0x80],
    [0xa0, 0x80],
  ];
  fc.assert(
    fc.property(likelyBytes, (bytes) => {
      const canEnd = endings.some((ending) => isUtf8(Uint8Array.from([...bytes, ...ending])));
      assert.equal(utf8After(bytes, CHARACTER_BORDER) !== INVALID, canEnd);
    }),
    { numRuns: 3000 },
  );
});

const text = (...bytes: number[]): GrammarToken => ({ kind: 'text', bytes: Uint8Array.from(bytes) });
const LIST: readonly GrammarToken[] = [
  { kind: 'end' },
  { kind: 'hidden' },
  text(0x61), // a
  text(0x61, 0x62), // ab
  text(0x63, 0x64), // cd; c is no token
  text(0xc3),
  text(0xa9, 0x21), // the end of é, !
  text(0xc3, 0xa9), // é
  text(0xc1, 0x81), // A, overlong
  text(),
  text(0x61, 0x00),
  { kind: 'end' },
];

test('tokens are told apart by what they can do in an answer', () => {
  const tokens = new GrammarTokens(LIST.length, (token) => LIST[token] as GrammarToken);
  assert.equal(tokens.endToken, 0);
  assert.deepEqual([tokens.isEnd(0), tokens.isEnd(11), tokens.isEnd(2)], [true, true, false]);
  assert.deepEqual([...tokens.byteTokens], [2, 5]);
  assert.deepEqual([...tokens.asciiTokens], [2]);
  // "cd" is not told by a token "c"; bytes beyond ASCII never are.
  assert.deepEqual([...tokens.otherTokens], [4, 5, 6, 7, 8]);
  const valid = (state: number) =>
    LIST.keys().filter((token) => !tokens.isEnd(token) && tokens.stateBehind(token, state) !== INVALID);
  assert.deepEqual([...valid(CHARACTER_BORDER)], [2, 3, 4, 5, 7]);
  const within = tokens.stateBehind(5, CHARACTER_BORDER);
  assert.deepEqual([...valid(within)], [6]);
  assert.equal(tokens.stateBehind(6, within), CHARACTER_BORDER);
  assert.equal(tokens.stateBehind(LIST.length, CHARACTER_BORDER), INVALID, 'beyond the vocabulary');
});

test('a first character that may not come excludes what begins with it, and nothing else', () => {
  const tokens = new GrammarTokens(LIST.length, (token) => LIST[token] as GrammarToken);
  const possible = (places: readonly number[]) => [...LIST.keys()].filter(tokens.possibleWith(places));
  assert.deepEqual(possible([]), [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]);
  assert.deepEqual(possible([0]), [...LIST.keys()]);
});
