import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formCase } from '../../../tests/fixtures/form-cases.ts';
import { AutomatonBudget, accepts, intersection, withLength } from './automaton.ts';
import { searchAutomaton } from './pattern-automaton.ts';
import { PatternError, parsePattern } from './regular-expression.ts';
import { ENFORCED_FORMATS, formatAutomaton } from './string-format.ts';

const automatonOf = (source: string) => searchAutomaton(parsePattern(source), new AutomatonBudget());

/** Characters at the borders of the classes. */
const CHARACTERS = [
  'a',
  'b',
  'z',
  'A',
  '0',
  '9',
  '_',
  '-',
  '.',
  ' ',
  '\t',
  '\n',
  '\u2028',
  'é',
  '😀',
  '"',
  '\\',
  '/',
  'x',
  'y',
];
const text = () =>
  fc.array(fc.constantFrom(...CHARACTERS), { maxLength: 9 }).map((characters) => characters.join(''));

function agrees(source: string, texts: readonly string[]): void {
  const automaton = automatonOf(source);
  const expression = new RegExp(source, 'u');
  for (const value of texts) {
    assert.equal(
      accepts(automaton, value),
      expression.test(value),
      `/${source}/ on ${JSON.stringify(value)}`,
    );
  }
}

test('finds what the engine of JavaScript finds, for every construct', () => {
  const sources = [
    'a',
    '^a',
    'a$',
    '^a$',
    '^$',
    '$',
    '^',
    '',
    '^a|b$',
    '(^a|b$)',
    '^(a|b)$',
    'a|',
    '(?:)',
    '()',
    '(a)(b)',
    '(?<name>a)b',
    '^a*$',
    '^a+b?$',
    '^a{2}$',
    '^a{2,}$',
    '^a{1,3}b$',
    '^a{0}$',
    '^(ab){0,2}$',
    '^a*?$',
    '^a{2,3}?$',
    '(a*)*',
    '^(a|a)*$',
    '^((a|b)*b)+$',
    '.',
    '^.$',
    '^[^a]$',
    '[a-z]',
    '^[\\w-]+$',
    '^[^\\w]$',
    '[]',
    '[^]',
    '^[^]$',
    '[\\]\\\\^-]',
    '[a-]',
    '[-a]',
    '^[\\d\\-x]$',
    '\\d',
    '^\\D$',
    '^\\w$',
    '^\\W$',
    '^\\s$',
    '^\\S$',
    '\\t',
    '\\n',
    '\\x61',
    '\\u0061',
    '\\u{61}',
    '\\u{1F600}',
    '\\ud83d\\ude00',
    '😀',
    '^[😀é]$',
    '\\cI',
    '\\.',
    '\\/',
    '\\$',
    '\\^',
    '\\|',
    '\\(\\)',
    '^(?:a|ab)(?:c|bcd)?$',
    'a^',
    '$a',
    '(?:^|x)a',
    'a(?:$|b)',
    '^^a$$',
    '^(?:^a)$',
    '[\\b]',
  ];
  const random = fc.sample(text(), { seed: 1, numRuns: 150 });
  for (const source of sources)
    agrees(source, ['', ...CHARACTERS, 'ab', 'aab', 'abab', 'aaa', 'xab', 'abcd', ...random]);
});

test('agrees with the engine of JavaScript on random patterns and texts', () => {
  fc.assert(
    fc.property(
      formCase(),
      fc.array(text(), { minLength: 5, maxLength: 10 }),
      ({ keywords, samples }, texts) => {
        if (keywords.pattern !== undefined) agrees(keywords.pattern, [...texts, ...samples]);
      },
    ),
    { seed: 3, numRuns: 400 },
  );
});

test('lengths and several patterns at once', () => {
  const budget = new AutomatonBudget();
  const both = withLength(intersection(automatonOf('^[ab]*$'), automatonOf('b$'), budget), 2, 3, budget);
  for (const [value, isIn] of [
    ['b', false],
    ['ab', true],
    ['aab', true],
    ['aaab', false],
    ['ba', false],
    ['😀b', false],
  ] as const) {
    assert.equal(accepts(both, value), isIn, value);
  }
  const open = withLength(automatonOf('^a*$'), 2, undefined, budget);
  assert.ok(!accepts(open, 'a') && accepts(open, 'aa') && accepts(open, 'a'.repeat(50)));
  assert.deepEqual(intersection(automatonOf('^a$'), automatonOf('^b$'), budget), []);
});

test('what is not regular, or wrong, is refused with the place', () => {
  const wrong: Record<string, RegExp> = {
    'a(?=b)': /look-around/,
    '(?<!a)b': /look-around/,
    '(a)\\1': /"\\1" cannot/,
    'a\\b': /"\\b" cannot/,
    '\\p{L}': /"\\p" cannot/,
    '(?<n>a)\\k<n>': /cannot/,
    '(a': /without "\)"/,
    'a)': /"\)" without/,
    '[a': /without "\]"/,
    '*a': /"\*" out of place/,
    'a**': /out of place/,
    'a{2': /no quantifier/,
    'a{3,2}': /ends before/,
    '[b-a]': /ends before/,
    '[\\d-z]': /not characters/,
    '\\': /at the end/,
    '\\u12': /malformed/,
    '\\xg0': /malformed/,
    '\\u{110000}': /beyond/,
    '\\ud800': /half/,
    '(?i)a': /unknown kind/,
    '\\01': /octal/,
    ']': /out of place/,
    '}': /out of place/,
  };
  for (const [source, message] of Object.entries(wrong)) {
    assert.throws(
      () => parsePattern(source),
      (error) => error instanceof PatternError && message.test(error.message),
      source,
    );
  }
  assert.throws(() => parsePattern('(a'), /before character 3/);
});

test('too complex patterns are given up soon', () => {
  const startedMs = performance.now();
  for (const source of [
    '^[ab]*a[ab]{30}$',
    '((a{1,50}){1,50}){1,50}',
    '(a?){4000}',
    `${'(a|b|'.repeat(40)}c${')*'.repeat(40)}${'a?'.repeat(700)}`,
    '(x{0,99999}){0,99999}',
    '(){99999}',
  ]) {
    try {
      automatonOf(source);
    } catch (error) {
      assert.ok(error instanceof PatternError, String(error));
    }
  }
  assert.ok(performance.now() - startedMs < 20_000);
  assert.throws(() => parsePattern('a'.repeat(5_000)), /5000 characters/);
  assert.throws(() => parsePattern(`${'('.repeat(500)}${')'.repeat(500)}`), /nested deeper/);
});

test('formats take what they should and nothing else', () => {
  const cases: Record<string, readonly [fits: readonly string[], fails: readonly string[]]> = {
    date: [
      ['2024-02-29', '2000-02-29', '1900-02-28', '0001-12-31'],
      ['2023-02-29', '1900-02-29', '2024-13-01', '2024-04-31', '2024-1-1', '02024-01-01', '2024-00-10'],
    ],
    time: [
      ['00:00:00Z', '23:59:59.123456789+23:59'],
      ['24:00:00Z', '00:00:60Z', '00:00:00', '00:00:00.Z', '00:00Z'],
    ],
    'date-time': [
      ['2024-02-29T00:00:00Z'],
      ['2024-02-29 00:00:00Z', '2023-02-29T00:00:00Z', '2024-02-29T00:00:00'],
    ],
    duration: [
      ['P1D', 'PT36H', 'P1Y2M10DT2H30M', 'P4W'],
      ['P', 'PT', 'P1H', 'P1D2M', '1D', 'P1WT1H'],
    ],
    uuid: [
      ['123e4567-e89b-12d3-a456-426614174000'],
      ['123e4567e89b12d3a456426614174000', '123e4567-e89b-12d3-a456-42661417400g'],
    ],
    email: [
      ['a@b.example', 'first.last+x@a-b.co.uk'],
      ['a@b', 'a@@b.cd', '.a@b.cd', 'a.@b.cd', 'a@-b.cd', 'a@b..cd', 'a b@c.de', `${'a'.repeat(60)}@b.cd`],
    ],
    hostname: [
      ['a', 'a-b.example', 'x--y'],
      ['', '-a', 'a-', 'a..b', 'a_b', 'a.b.', 'x'.repeat(64)],
    ],
    ipv4: [
      ['0.0.0.0', '255.255.255.255', '192.168.10.1'],
      ['256.0.0.1', '01.2.3.4', '1.2.3', '1.2.3.4.5'],
    ],
    ipv6: [
      [
        '::',
        '::1',
        '1::',
        '1:2:3:4:5:6:7:8',
        '1::8',
        'fe80::1:2',
        '::1.2.3.4',
        '1:2:3:4:5:6:1.2.3.4',
        '1::2:3:4:5:6:7',
      ],
      [':', ':::', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1::2::3', '12345::', 'g::', '1:2:3:4:5:6:7::8'],
    ],
    uri: [
      ['https://example.org', 'http://localhost:8080/a/b?c=d&e#f', 'urn:isbn:0451450523', 'mailto:a@b.cd'],
      ['example.org', '//a', 'http:', '1a:b', 'http://a b', 'http://a/"', 'a:%zz'],
    ],
  };
  assert.deepEqual(Object.keys(cases).sort(), [...ENFORCED_FORMATS].sort());
  for (const [name, [fits, fails]] of Object.entries(cases)) {
    for (const value of fits) assert.ok(accepts(formatAutomaton(name), value), `${name}: ${value}`);
    for (const value of fails) assert.ok(!accepts(formatAutomaton(name), value), `${name}: ${value}`);
  }
});
