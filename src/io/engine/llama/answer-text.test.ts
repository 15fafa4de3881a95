import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AnswerText } from './answer-text.ts';
import { StopMatcher } from './stop-strings.ts';
import { Utf8Stream } from './utf8-stream.ts';

/** Random cuts of a byte string. */
const cutBytes = (bytes: fc.Arbitrary<Uint8Array>) =>
  fc.tuple(bytes, fc.array(fc.nat(6), { minLength: 1, maxLength: 20 })).map(([whole, lengths]) => {
    const parts: Uint8Array[] = [];
    for (let at = 0, turn = 0; at < whole.length; turn++) {
      const length = lengths[turn % lengths.length] as number;
      parts.push(whole.subarray(at, at + length));
      at += length;
      if (length === 0 && turn % lengths.length === 0 && lengths.every((value) => value === 0)) {
        parts.push(whole.subarray(at));
        break;
      }
    }
    return parts;
  });

const text = fc.string({
  unit: fc.constantFrom('a', 'b', 'c', ' ', 'é', '中', '😀', '👩‍👩‍👧', '\n'),
  maxLength: 60,
});

test('UTF-8 in any pieces gives the same text, and valid text never a replacement character', () => {
  fc.assert(
    fc.property(cutBytes(text.map((value) => Buffer.from(value))), (parts) => {
      const stream = new Utf8Stream();
      const pieces = parts.map((part) => stream.push(part));
      assert.ok(!stream.isHolding);
      assert.equal(pieces.join('') + stream.finish(), Buffer.concat(parts).toString());
      for (const piece of pieces) assert.ok(piece.isWellFormed() && !piece.includes('\ufffd'));
    }),
  );
});

test('any bytes in any pieces decode as they do in one piece; `isHolding` says whether the end would add something', () => {
  const bytes = fc
    .uint8Array({ maxLength: 40 })
    .map((value) => value.map((byte) => (byte < 128 ? byte | 0x80 : byte)));
  fc.assert(
    fc.property(cutBytes(fc.oneof(bytes, fc.uint8Array({ maxLength: 40 }))), (parts) => {
      const stream = new Utf8Stream();
      const soFar = parts.map((part) => stream.push(part)).join('');
      const wasHolding = stream.isHolding;
      const rest = stream.finish();
      assert.equal(soFar + rest, Buffer.concat(parts).toString());
      assert.equal(wasHolding, rest !== '');
    }),
  );
});

test('half a character at the end becomes one replacement character', () => {
  const stream = new Utf8Stream();
  assert.equal(stream.push(Uint8Array.from([0xf0, 0x9f, 0x98])), '');
  assert.ok(stream.isHolding);
  assert.equal(stream.finish(), '\ufffd');
});

const smallText = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 40 });
const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 5 }), {
  maxLength: 4,
});

/** The definition, character by character: the stop that is complete first wins, the longest at the same character. */
function cutAtStop(whole: string, given: readonly string[]): { text: string; stop?: string } {
  for (let end = 1; end <= whole.length; end++) {
    const complete = given.filter((stop) => whole.slice(0, end).endsWith(stop));
    const longest = complete.sort((left, right) => right.length - left.length)[0];
    if (longest !== undefined) return { text: whole.slice(0, end - longest.length), stop: longest };
  }
  return { text: whole };
}

test('stop strings: the outcome does not depend on how the text was cut, and nothing of a stop leaks', () => {
  fc.assert(
    fc.property(
      smallText,
      stops,
      fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1 }),
      (whole, given, lengths) => {
        const matcher = new StopMatcher(given);
        const expected = cutAtStop(whole, given);
        let shown = '';
        let stop: string | undefined;
        for (let at = 0, turn = 0; at < whole.length && stop === undefined; turn++) {
          const length = lengths[turn % lengths.length] as number;
          const outcome = matcher.push(whole.slice(at, at + length));
          shown += outcome.text;
          // Whatever was shown must stay right, whatever comes.
          assert.ok(expected.text.startsWith(shown));
          if (outcome.kind === 'stopped') stop = outcome.stop;
          at += length;
        }
        if (stop === undefined) shown += matcher.finish();
        assert.deepEqual({ text: shown, ...(stop === undefined ? {} : { stop }) }, expected);
      },
    ),
    { numRuns: 500 },
  );
});

test('tokens come with the text in which their last byte shows, each once, none of a stop string', () => {
  const answer = new AnswerText<string>(['STOP']);
  const smile = Buffer.from('😀');
  assert.deepEqual(answer.push(Buffer.from('Hi '), 'A'), { text: 'Hi ', tokens: ['A'] });
  assert.deepEqual(answer.push(smile.subarray(0, 2), 'B'), { text: '', tokens: [] });
  assert.deepEqual(answer.push(smile.subarray(2), 'C'), { text: '😀', tokens: ['B', 'C'] });
  assert.deepEqual(answer.push(Buffer.from('xST'), 'D'), { text: 'x', tokens: [] });
  assert.deepEqual(answer.push(Buffer.from('ART '), 'E'), { text: 'START ', tokens: ['D', 'E'] });
  assert.deepEqual(answer.push(Buffer.from('y ST'), 'F'), { text: 'y ', tokens: [] });
  assert.deepEqual(answer.push(Buffer.from('OP now'), 'G'), { text: '', tokens: [], stop: 'STOP' });
});

test('the end hands out everything that was held back', () => {
  const answer = new AnswerText<string>(['STOP']);
  answer.push(Buffer.from('ST'), 'A');
  answer.push(Uint8Array.from([0xe4, 0xb8]), 'B');
  answer.push(Uint8Array.from([]), 'control');
  assert.deepEqual(answer.finish(), { text: 'ST\ufffd', tokens: ['A', 'B', 'control'] });
});

test('text and tokens are complete for any bytes and cuts', () => {
  fc.assert(
    fc.property(
      cutBytes(
        fc.oneof(
          text.map((value) => Buffer.from(value)),
          fc.uint8Array({ maxLength: 40 }),
        ),
      ),
      (parts) => {
        const answer = new AnswerText<number>(['ab', 'c😀']);
        const pieces = [];
        for (const [index, part] of parts.entries()) {
          const piece = answer.push(part, index);
          pieces.push(piece);
          if (piece.stop !== undefined) break;
        }
        const stopped = pieces.at(-1)?.stop;
        if (stopped === undefined) pieces.push(answer.finish());
        const tokens = pieces.flatMap((piece) => piece.tokens);
        assert.deepEqual(tokens, [...tokens.keys()], 'in order, without gaps');
        if (stopped === undefined) assert.equal(tokens.length, parts.length);
        assert.equal(
          pieces.map((piece) => piece.text).join(''),
          cutAtStop(Buffer.concat(parts).toString(), ['ab', 'c😀']).text,
        );
      },
    ),
  );
});
