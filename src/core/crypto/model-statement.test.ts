import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Digest } from '../base/digest.ts';
import {
  compareNames,
  contentDigest,
  encodeModelStatement,
  type ModelStatement,
  parseModelStatement,
  RESOURCES_MAX,
  type SignedResource,
  STATEMENT_BYTES_MAX,
} from './model-statement.ts';

type Json = Record<string, unknown>;

const resource = (name: string, content = name): SignedResource => ({ name, digest: Digest.of(content) });
const FILES = [resource('weights.gguf'), resource('freehold.json'), resource('LICENSE')];
const encoded = (files: readonly SignedResource[] = FILES) =>
  encodeModelStatement('triage', files, ['model.sig']);
const parse = (bytes: Uint8Array): ModelStatement => parseModelStatement(bytes, 'model.sig');

/** A statement that the caller edits: what a hostile or careless signer may sign. */
function parseEdited(edit: (statement: Json) => void): ModelStatement {
  const statement = JSON.parse(encoded().toString()) as Json;
  edit(statement);
  return parse(Buffer.from(JSON.stringify(statement)));
}

const predicateOf = (statement: Json) => statement.predicate as { resources: Json[]; serialization: Json };
const subjectOf = (statement: Json) => (statement.subject as [Json])[0];

test('a statement comes back as it was encoded, sorted, whatever the order of its files', () => {
  const statement = parse(encoded());
  assert.deepEqual(statement, {
    subjectName: 'triage',
    subjectDigest: contentDigest(FILES),
    resources: [resource('LICENSE'), resource('freehold.json'), resource('weights.gguf')],
    ignorePaths: ['model.sig'],
  });
  assert.deepEqual(encoded(FILES.toReversed()), encoded());
});

test('the content digest is SHA-256 over the raw digests in the order of the names', () => {
  // printf %s a | sha256sum; printf %s b | sha256sum: both raw digests together, hashed again.
  assert.equal(
    contentDigest([resource('2', 'b'), resource('1', 'a')]),
    'sha256:e5a01fee14e0ed5c48714f22180f25ad8365b53f9779f79dc4a3d7e93963f94a',
  );
});

test('names are ordered by code points, as UTF-8 bytes are', () => {
  const names = ['d/x', 'd-1', 'd.txt', 'B', 'a', '\u{10000}', '\uffee', 'é'];
  const expected = ['B', 'a', 'd-1', 'd.txt', 'd/x', 'é', '\uffee', '\u{10000}'];
  assert.deepEqual(names.toSorted(compareNames), expected);
  const statement = parse(encoded(names.map((name) => resource(name))));
  assert.deepEqual(
    statement.resources.map(({ name }) => name),
    expected,
  );
});

const ODD_STATEMENTS: readonly (readonly [
  what: string,
  code: string,
  message: RegExp,
  edit: (statement: Json) => void,
])[] = [
  [
    'links',
    'NOT_SUPPORTED',
    /allow_symlinks true/,
    (s) => Object.assign(predicateOf(s).serialization, { allow_symlinks: true }),
  ],
  [
    'links as text',
    'SIGNATURE_MALFORMED',
    /allow_symlinks/,
    (s) => Object.assign(predicateOf(s).serialization, { allow_symlinks: 'false' }),
  ],
  [
    'shards',
    'NOT_SUPPORTED',
    /serialization method "shards"/,
    (s) => Object.assign(predicateOf(s).serialization, { method: 'shards', shard_size: 1e9 }),
  ],
  [
    'shard size alone',
    'SIGNATURE_MALFORMED',
    /shard_size/,
    (s) => Object.assign(predicateOf(s).serialization, { shard_size: 5 }),
  ],
  [
    'blake3',
    'NOT_SUPPORTED',
    /hash_type "blake3"/,
    (s) => Object.assign(predicateOf(s).serialization, { hash_type: 'blake3' }),
  ],
  [
    'mixed hashes',
    'SIGNATURE_MALFORMED',
    /algorithm "blake2b", not "sha256"/,
    (s) => Object.assign(predicateOf(s).resources[0] ?? {}, { algorithm: 'blake2b' }),
  ],
  [
    'version 0.2',
    'NOT_SUPPORTED',
    /model_signing 0\.2/,
    (s) => Object.assign(s, { predicateType: 'https://model_signing/Digests/v0.1' }),
  ],
  [
    'another predicate',
    'SIGNATURE_MALFORMED',
    /predicateType/,
    (s) => Object.assign(s, { predicateType: 'https://slsa.dev/provenance/v1' }),
  ],
  [
    'another statement',
    'SIGNATURE_MALFORMED',
    /_type/,
    (s) => Object.assign(s, { _type: 'https://in-toto.io/Statement/v0.1' }),
  ],
  ['no subject', 'SIGNATURE_MALFORMED', /subject/, (s) => Object.assign(s, { subject: [] })],
  [
    'two subjects',
    'SIGNATURE_MALFORMED',
    /subject/,
    (s) => Object.assign(s, { subject: [subjectOf(s), subjectOf(s)] }),
  ],
  [
    'wrong subject digest',
    'SIGNATURE_MALFORMED',
    /subject digest/,
    (s) => Object.assign(subjectOf(s), { digest: { sha256: '0'.repeat(64) } }),
  ],
  [
    'two subject digests',
    'SIGNATURE_MALFORMED',
    /sha512/,
    (s) => Object.assign(subjectOf(s).digest as Json, { sha512: '00' }),
  ],
  ['no files', 'SIGNATURE_MALFORMED', /resources/, (s) => Object.assign(predicateOf(s), { resources: [] })],
  [
    'files in another order',
    'SIGNATURE_MALFORMED',
    /order of their names/,
    (s) => predicateOf(s).resources.reverse(),
  ],
  [
    'one file twice',
    'SIGNATURE_MALFORMED',
    /twice/,
    (s) => predicateOf(s).resources.unshift({ ...predicateOf(s).resources[0] }),
  ],
  [
    'short digest',
    'SIGNATURE_MALFORMED',
    /no SHA-256 digest/,
    (s) => Object.assign(predicateOf(s).resources[0] ?? {}, { digest: 'ab' }),
  ],
  [
    'digest in capitals',
    'SIGNATURE_MALFORMED',
    /no SHA-256 digest/,
    (s) => Object.assign(predicateOf(s).resources[0] ?? {}, { digest: 'A'.repeat(64) }),
  ],
  [
    'unknown predicate field',
    'SIGNATURE_MALFORMED',
    /extra/,
    (s) => Object.assign(predicateOf(s), { extra: 1 }),
  ],
  [
    'unknown serialization field',
    'SIGNATURE_MALFORMED',
    /extra/,
    (s) => Object.assign(predicateOf(s).serialization, { extra: 1 }),
  ],
  [
    'single file',
    'NOT_SUPPORTED',
    /single file/,
    (s) =>
      Object.assign(predicateOf(s), {
        resources: [{ name: '.', algorithm: 'sha256', digest: '0'.repeat(64) }],
      }),
  ],
  ...[
    '/etc/passwd',
    '../x',
    'a/../b',
    'a//b',
    'a/',
    './a',
    'a\\b',
    'a\0b',
    'a\u001b[2J',
    '',
    'x'.repeat(5000),
  ].map(
    (name) =>
      [
        `name ${JSON.stringify(name.slice(0, 20))}`,
        'SIGNATURE_MALFORMED',
        /file name relative|resources\[0\]\.name/,
        (s: Json) => Object.assign(predicateOf(s).resources[0] ?? {}, { name }),
      ] as const,
  ),
];

for (const [what, code, message, edit] of ODD_STATEMENTS) {
  test(`a statement is refused: ${what}`, () => {
    assert.throws(() => parseEdited(edit), { code, message });
  });
}

test('a statement may carry more where the specification lets it (§5.2.1)', () => {
  const statement = parseEdited((json) => {
    Object.assign(predicateOf(json).resources[0] ?? {}, { annotations: { note: 'x' } });
    Object.assign(subjectOf(json), { uri: 'x' });
  });
  assert.deepEqual(statement, parse(encoded()));
});

test('JSON that two readers could read differently is refused', () => {
  const text = encoded().toString();
  const twice = text.replace('"predicateType":', '"predicate":{},"predicateType":');
  assert.throws(() => parse(Buffer.from(twice)), { code: 'SIGNATURE_MALFORMED', message: /second time/ });
  const prototype = text.replace('"_type":', '"__proto__":{},"_type":');
  assert.throws(() => parse(Buffer.from(prototype)), { code: 'SIGNATURE_MALFORMED', message: /__proto__/ });
});

test('limits: bytes of a statement, files in it', () => {
  const large = Buffer.alloc(STATEMENT_BYTES_MAX + 1, 0x20);
  assert.throws(() => parse(large), {
    code: 'SIGNATURE_MALFORMED',
    message: /1048577 bytes, at most 1048576/,
  });
  const many = Array.from({ length: RESOURCES_MAX }, (_, index) => resource(`file-${index}`));
  assert.equal(parse(encoded(many)).resources.length, RESOURCES_MAX);
  assert.throws(() => parse(encoded([...many, resource('one-more')])), {
    code: 'SIGNATURE_MALFORMED',
    message: /resources/,
  });
});
