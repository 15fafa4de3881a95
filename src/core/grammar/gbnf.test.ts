import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FreeholdError } from '../base/errors.ts';
import { requireGrammar } from './gbnf.ts';

function refuses(gbnf: string, message: RegExp): void {
  assert.throws(
    () => requireGrammar(gbnf),
    (error) => {
      assert.ok(error instanceof FreeholdError && error.code === 'GRAMMAR_INVALID', String(error));
      assert.match(error.message, message, gbnf.slice(0, 200));
      return true;
    },
  );
}

test('grammars as people write them', () => {
  const good = [
    'root ::= "yes" | "no"',
    'root ::= item+ # a comment\nitem ::= "- " [^\\n]+ "\\n"\n',
    '# only\r\nroot   ::=   ( "a"\r\n | "b" )* "."\r\n\r\n',
    'root ::=\n  "a" |\n  "b"',
    'root ::= object\nobject ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws\nvalue ::= object | array | string | ("true" | "false" | "null") ws\narray ::= "[" ws (value ("," ws value)*)? "]" ws\nstring ::= "\\"" ([^"\\\\\\x7F\\x00-\\x1F] | "\\\\" (["\\\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\\"" ws\nws ::= | " " | "\\n" [ \\t]{0,20}',
    'root ::= [a-zA-Z_] [\\]\\[\\\\"-]* .{3,5} "é😀" [\\u00e9-\\U0001F600]',
    'root ::= "a"{2} "b"{1,} "c"{0,3} ("d" | "")? unused-1\nunused-1 ::= "x"\nnever-used ::= "y"',
    'root ::= "" | "a" root',
    'root ::= "a"{1999}',
  ];
  for (const gbnf of good) requireGrammar(gbnf);
});

test('syntax errors name line and column', () => {
  refuses('', /no rule "root"/);
  refuses('main ::= "a"', /no rule "root"/);
  refuses('root = "a"', /line 1 column 6: expected "::="/);
  refuses('root ::= "a"\nb ::= )', /line 2 column 7: "\)" out of place/);
  refuses('root ::= ("a"\n | "b"', /line 2 column 7: expected "\)"/);
  refuses('root ::= "é😀" %', /line 1 column 15: "%"/);
  refuses('root ::= "abc', /line 1 column 10: expected " for what begins here/);
  refuses('root ::= [abc', /line 1 column 10: expected \] for/);
  refuses('root ::= "\\q"', /unknown escape/);
  refuses('root ::= "\\x4"', /unknown escape/);
  refuses('root ::= "\\U00110000"', /no text can have/);
  refuses('root ::= "a\\x00"', /no text can have/);
  refuses('root ::= "\0"', /no text can have/);
  refuses('root ::= "\ud800"', /no text can have/);
  refuses('root ::= [z-a]', /ends before it begins/);
  refuses('root ::= []', /without characters/);
  refuses('root ::= * "a"', /out of place/);
  refuses('root ::= "a" {2}x', /no rule "x"/);
  refuses('root ::= "a"{', /expected a number/);
  refuses('root ::= "a"{2', /expected "," or "}"/);
  refuses('root ::= "a"{2,x}', /expected "}"/);
  refuses('root ::= under_score', /"_" out of place/);
  refuses('root ::= <|im_start|> "a"', /tokens cannot be named/);
  refuses('root ::= "a"\nroot ::= "b"', /line 2 column 1: the rule "root" a second time/);
  refuses('root ::= "a" | missing', /line 1 column 16: there is no rule "missing"/);
});

test('repetitions that llama.cpp refuses, or takes for endless, or chokes on', () => {
  refuses('root ::= "a"{2000}', /2000 repetitions, at most 1999/);
  refuses('root ::= "a"{0,2001}', /2001 repetitions/);
  refuses('root ::= "a"{5,3}', /ends before it begins/);
  refuses('root ::= ("a"{0,50}){0,50}', /repetitions inside each other/);
  refuses('root ::= "a"{50}{50}', /repetitions inside each other/);
  refuses('root ::= ""{3}', /repetition of nothing/);
  refuses('root ::= ("a"?)*', /endless repetition of what can be empty/);
  refuses('root ::= (b c)+\nb ::= "x"*\nc ::= b | "y"', /endless repetition/);
  refuses(
    Array.from(
      { length: 2_000 },
      (_, index) => `${index === 0 ? 'root' : `r${index}`} ::= "aaaaaaaaaa"{1999}`,
    ).join('\n'),
    /written out/,
  );
});

test('rules that begin with themselves, directly or behind what can be empty', () => {
  refuses('root ::= root "a" | "b"', /line 1 column 1: the rule "root" begins with itself/);
  refuses('root ::= a\na ::= b "x"\nb ::= "y" | c\nc ::= a', /begins with itself/);
  refuses('root ::= a root | "x"\na ::= b\nb ::= ""', /begins with itself/);
  refuses('root ::= "a"? root "b" | "c"', /begins with itself/);
  refuses('root ::= "x"\nb ::= b "y" | "z"', /line 2 column 1/);
});

test('rules that never end', () => {
  refuses('root ::= "a" root', /line 1 column 1: the rule "root" never ends/);
  refuses('root ::= "a" | "b" c\nc ::= "x" d\nd ::= "y" c', /the rule "[cd]" never ends/);
});

test('hostile grammars end soon', () => {
  const startedMs = performance.now();
  const chain = (count: number) =>
    Array.from(
      { length: count },
      (_, index) => `${index === 0 ? 'root' : `r${index}`} ::= r${index + 1} "x" | "y"`,
    ).join('\n');
  refuses(`${chain(50_000)}\nr50000 ::= "z"`, /GRAMMAR|begin with each other|characters/);
  const doubling = Array.from(
    { length: 60 },
    (_, index) => `${index === 0 ? 'root' : `r${index}`} ::= r${index + 1} "x" | r${index + 1} "y"`,
  );
  refuses(`${doubling.join('\n')}\nr60 ::= "z"`, /begin with each other/);
  refuses(`root ::= ${'('.repeat(100_000)}`, /nested deeper/);
  refuses(`root ::= ${'"a" | '.repeat(400_000)}`, /characters, at most/);
  refuses(`root ::= ${'a '.repeat(200_000)}`, /no rule "a"/);
  requireGrammar(`root ::= ${'a '.repeat(200_000)}\na ::= "x"`);
  requireGrammar(`root ::= ${'a | '.repeat(200_000)}a\na ::= "x"`);
  refuses('root ::= '.repeat(50_000), /out of place|expected/);
  assert.ok(performance.now() - startedMs < 30_000);
});

test('whatever the text, the answer is yes or GRAMMAR_INVALID', () => {
  const pieces = [
    'root',
    ' ::= ',
    '"a"',
    '"',
    '[',
    ']',
    '[a-z]',
    '^',
    '-',
    '(',
    ')',
    '|',
    '*',
    '+',
    '?',
    '{2}',
    '{',
    ',',
    '}',
    '\n',
    '\\',
    'b',
    '#',
    '.',
    '\r',
    '<',
    '😀',
    '\\x',
    ' ',
  ];
  let accepted = 0;
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 14 }), (parts) => {
      try {
        requireGrammar(`root ::= ${parts.join('')}`);
        accepted++;
      } catch (error) {
        assert.ok(error instanceof FreeholdError && error.code === 'GRAMMAR_INVALID', String(error));
      }
    }),
    { seed: 4, numRuns: 3_000 },
  );
  assert.ok(accepted > 50, `${accepted}`);
});
