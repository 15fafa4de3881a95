import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  parseContentLength,
  parseContentRange,
  parseLastModified,
  parseRetryAfterMs,
  parseUnsatisfiedRange,
  strongEtag,
} from './http-headers.ts';

test('Content-Range is read when it makes sense', () => {
  assert.deepEqual(parseContentRange('bytes 10-19/20'), { startBytes: 10, endBytes: 19, totalBytes: 20 });
  const wrong = [
    'bytes 10-20/20',
    'bytes 11-10/20',
    'bytes 0-9/*',
    'bytes */20',
    'items 0-1/2',
    'bytes -1-2/3',
    '',
  ];
  for (const text of [...wrong, `bytes 0-1/${'9'.repeat(16)}`, undefined]) {
    assert.equal(parseContentRange(text), undefined, text);
  }
  assert.equal(parseUnsatisfiedRange('bytes */20'), 20);
  assert.equal(parseUnsatisfiedRange('bytes 0-1/20'), undefined);
});

test('Retry-After is seconds or a date', () => {
  const nowMs = Date.UTC(2025, 0, 1);
  assert.equal(parseRetryAfterMs('120', nowMs), 120_000);
  assert.equal(parseRetryAfterMs('Wed, 01 Jan 2025 00:00:07 GMT', nowMs), 7000);
  assert.equal(parseRetryAfterMs('Tue, 31 Dec 2024 00:00:00 GMT', nowMs), 0);
  for (const text of ['soon', '', '-5 s', undefined]) assert.equal(parseRetryAfterMs(text, nowMs), undefined);
});

test('lengths and entity tags', () => {
  assert.equal(parseContentLength('17'), 17);
  for (const text of ['', '-1', '1e3', '0x10', '1, 1', undefined])
    assert.equal(parseContentLength(text), undefined);
  assert.equal(strongEtag('"a-b"'), '"a-b"');
  for (const text of ['W/"a"', 'a', '"a"b"', '"a\r\nx: y"', undefined])
    assert.equal(strongEtag(text), undefined);
  const date = 'Tue, 01 Apr 2025 10:00:00 GMT';
  assert.equal(parseLastModified(date), date);
  for (const text of ['', 'yesterday', `${date}\r\nx: y`, '1'.repeat(200)])
    assert.equal(parseLastModified(text), undefined);
});

test('no header value makes a reader throw or return something odd', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      for (const value of [
        parseContentLength(text),
        parseUnsatisfiedRange(text),
        parseRetryAfterMs(text, 0),
      ]) {
        assert.ok(value === undefined || (Number.isFinite(value) && value >= 0));
      }
      strongEtag(text);
      parseContentRange(text);
      parseLastModified(text);
    }),
  );
});
