import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HEAD_BYTES_MAX, parseResponseHead } from './response-head.ts';

const parse = (text: string) => parseResponseHead(Buffer.from(text, 'latin1'));
const head = (...lines: string[]) => parse(['HTTP/1.1 200 OK', ...lines, '', ''].join('\r\n'));

test('a plain head is read: status, the first of each header, where the body begins', () => {
  const text = 'HTTP/1.1 206 Partial Content\r\nContent-Length:  12 \r\nETag: "a"\r\nX:\r\nx: 2\r\n\r\n';
  const parsed = parse(`${text}body\r\n\r\nmore`);
  assert.ok(typeof parsed === 'object');
  assert.equal(parsed.status, 206);
  assert.equal(parsed.bodyBytes, 12);
  assert.equal(parsed.headBytes, text.length);
  assert.deepEqual(
    [...parsed.headers],
    [
      ['content-length', '12'],
      ['etag', '"a"'],
      ['x', ''],
    ],
  );
});

test('a status line may have no reason; 0 is a length', () => {
  for (const line of ['HTTP/1.1 200', 'HTTP/1.0 200 ', 'HTTP/1.1 200 Très bien']) {
    const parsed = parse(`${line}\r\ncontent-length: 0\r\n\r\n`);
    assert.ok(typeof parsed === 'object', line);
    assert.equal(parsed.bodyBytes, 0);
  }
});

test("the body of a redirect, or of a failure that may pass, is nobody's, however long it is said to be", () => {
  for (const more of ['', 'Content-Length: 7\r\n', 'Transfer-Encoding: chunked\r\n']) {
    const parsed = parse(`HTTP/1.1 307 Temporary Redirect\r\nLocation: /there\r\n${more}\r\n`);
    assert.ok(typeof parsed === 'object');
    assert.equal(parsed.bodyBytes, 0);
    assert.equal(parsed.headers.get('location'), '/there');
    for (const line of ['429 Too Many Requests', '503']) {
      const refused = parse(`HTTP/1.1 ${line}\r\n${more}\r\n`);
      assert.ok(typeof refused === 'object' && refused.bodyBytes === 0, line);
    }
  }
});

test('attack: what leaves a doubt about where the body begins or ends is not read', () => {
  const doubtful: Record<string, string[]> = {
    'no length': ['Server: x'],
    'two lengths': ['Content-Length: 5', 'content-length: 6'],
    'the same length twice': ['Content-Length: 5', 'Content-Length: 5'],
    'a list of lengths': ['Content-Length: 5, 5'],
    'a signed length': ['Content-Length: +5'],
    'a negative length': ['Content-Length: -5'],
    'a hexadecimal length': ['Content-Length: 0x5'],
    'a length beyond all numbers': ['Content-Length: 99999999999999999999'],
    'chunks beside a length': ['Content-Length: 5', 'Transfer-Encoding: chunked'],
    chunks: ['Transfer-Encoding: chunked'],
    'a folded header': ['Content-Length: 5', ' 6'],
    'a space before the colon': ['Content-Length : 5'],
    'a header without a name': [': x', 'Content-Length: 5'],
    'a line without a colon': ['what', 'Content-Length: 5'],
    'a bare CR': ['X: a\rContent-Length: 5'],
    'a bare LF': ['X: a\nContent-Length: 5'],
    'a NUL': ['X: a\0', 'Content-Length: 5'],
  };
  for (const [name, lines] of Object.entries(doubtful)) assert.equal(head(...lines), 'unusable', name);
  assert.ok(typeof head('Content-Length: 5') === 'object');
  const statusLines = [
    'HTTP/2 200 OK',
    'HTTP/1.1 100 Continue',
    'HTTP/1.1 2000',
    'http/1.1 200',
    'ICY 200 OK',
    '',
  ];
  for (const line of statusLines) {
    assert.equal(parse(`${line}\r\ncontent-length: 5\r\n\r\n`), 'unusable', line);
  }
  assert.equal(parse('HTTP/1.1 200 OK\n\ncontent-length: 5\n\n'), 'incomplete', 'LF alone ends nothing');
});

test('attack: a head without end is given up', () => {
  const line = `x: ${'y'.repeat(100)}\r\n`;
  const endless = `HTTP/1.1 200 OK\r\n${line.repeat(Math.ceil(HEAD_BYTES_MAX / line.length))}`;
  assert.equal(parse(endless), 'unusable');
  assert.equal(parse(`${endless}content-length: 5\r\n\r\n`), 'unusable');
  assert.equal(parse(endless.slice(0, 1000)), 'incomplete');
});

test('attack: no bytes crash the reader, and a head means the same in whatever pieces it comes', () => {
  const fragment = fc.constantFrom(
    'HTTP/1.1 200 OK',
    'HTTP/1.1 302',
    '\r\n',
    '\n',
    '\r',
    'Content-Length: ',
    '5',
    'Transfer-Encoding: chunked',
    ':',
    ' ',
    '\0',
    'x: y',
    'é',
  );
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.array(fragment, { maxLength: 20 }).map((parts) => Buffer.from(parts.join(''), 'latin1')),
    fc
      .array(fragment, { maxLength: 9 })
      .map((parts) => Buffer.from(`HTTP/1.1 200 OK\r\n${parts.join('')}\r\n\r\n`, 'latin1')),
  );
  fc.assert(
    fc.property(bytes, fc.nat(), (all, cut) => {
      const whole = parseResponseHead(all);
      const part = parseResponseHead(all.subarray(0, all.length === 0 ? 0 : cut % all.length));
      if (part !== 'incomplete') assert.deepEqual(part, whole);
      if (typeof whole === 'string') return;
      assert.ok(Number.isSafeInteger(whole.bodyBytes) && whole.bodyBytes >= 0);
      assert.ok(whole.headBytes <= all.length && whole.status >= 200 && whole.status < 600);
      for (const value of whole.headers.values()) assert.doesNotMatch(value, /[\r\n\0]/);
    }),
    { numRuns: 2000 },
  );
});
