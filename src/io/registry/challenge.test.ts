import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from './challenge.ts';

const read = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

test('challenges are read as registries write them', () => {
  assert.deepEqual(
    read('Bearer realm="https://auth.acme.example/token",service="acme",scope="repository:a/b:pull,push"'),
    [
      [
        'bearer',
        { realm: 'https://auth.acme.example/token', service: 'acme', scope: 'repository:a/b:pull,push' },
      ],
    ],
  );
  assert.deepEqual(read('Basic realm="Registry Realm"'), [['basic', { realm: 'Registry Realm' }]]);
  assert.deepEqual(read('BASIC Realm=plain , bearer realm = "a \\"b\\"" , error=x'), [
    ['basic', { realm: 'plain' }],
    ['bearer', { realm: 'a "b"', error: 'x' }],
  ]);
  assert.deepEqual(read('Negotiate, Basic realm="x"'), [
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
  ]);
  assert.deepEqual(parseChallenges(undefined), []);
});

test('no header makes the reader throw, loop or take long', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(fc.constantFrom('Bearer', ' ', ',', '=', '"', '\\', 'realm', 'a', ';'))
      .map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(texts, (text) => {
      parseChallenges(text);
    }),
  );
  const startMs = performance.now();
  for (const part of [',', '"', 'a=', 'a="', ' ', 'a=b,']) parseChallenges(part.repeat(100_000));
  assert.ok(performance.now() - startMs < 1000);
});
