import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ScriptedModel } from '../../../tests/fixtures/scripted-host.ts';
import { judgeExactMatches, parseExactMatchSuite, scoreExactMatches } from './exact-match.ts';

const { signal } = new AbortController();
const YAML = `
minScore: 0.5
cases:
  - prompt: one
    expected: "1"
  - messages: [{ role: system, content: count }, { role: user, content: two }]
    expected: "2"
    tags: [numbers]
`;

describe('suites of exact matches', () => {
  test('are read from YAML and from lines', () => {
    const suite = parseExactMatchSuite(YAML, 'suite.yaml');
    assert.equal(suite.minScore, 0.5);
    assert.deepEqual(suite.cases[0], { messages: [{ role: 'user', content: 'one' }], expected: '1' });
    const lines = '{"prompt":"one","expected":"1"}\n\n{"prompt":"two","expected":"2"}\n';
    assert.equal(parseExactMatchSuite(lines, 'suite.jsonl').cases.length, 2);
  });

  test('say in which line they are wrong', () => {
    const bad = (text: string, label: string, message: RegExp) =>
      assert.throws(() => parseExactMatchSuite(text, label), { code: 'CONFIG_INVALID', message });
    bad('{"prompt":"one","expected":"1"}\n{"prompt":"two"}', 's.jsonl', /line 2: expected/);
    bad('{"prompt":"a","messages":[],"expected":"1"}', 's.jsonl', /line 1/);
    bad('', 's.jsonl', /0 cases/);
    bad('cases: []', 's.yaml', /cases/);
    bad('cases: [{ prompt: one, expect: "1" }]', 's.yaml', /did you mean/);
    bad('cases: [{ expected: "1" }]', 's.yaml', /either "prompt" or "messages"/);
  });

  test('are answered greedily, and blanks at the ends do not count', async () => {
    const model = new ScriptedModel((_request, order) => ({ pieces: order === 0 ? [' 1', '\n'] : ['two'] }));
    const score = await scoreExactMatches(model, parseExactMatchSuite(YAML, 'suite.yaml'), signal);
    assert.deepEqual(score, { right: 1, total: 2 });
    assert.deepEqual(model.requests[0]?.sampling, { temperature: 0 });
    assert.ok((model.requests[0]?.maxTokens ?? 0) > 0);
  });

  test('a candidate must be no worse than what is in use, and reach the mark', () => {
    const judge = (candidate: number, current?: number, minScore?: number) =>
      judgeExactMatches(
        { right: candidate, total: 10 },
        current === undefined ? undefined : { right: current, total: 10 },
        minScore,
      );
    assert.equal(judge(5, 5).accepted, true);
    assert.equal(judge(6, 5).accepted, true);
    assert.equal(judge(4, 5).accepted, false);
    assert.match(judge(4, 5).reason, /4 of 10 cases right, the version in use has 5/);
    assert.equal(judge(9, 5, 0.92).accepted, false);
    assert.equal(judge(10, 5, 0.92).accepted, true);
    assert.equal(judge(0).accepted, true);
    assert.deepEqual(judge(4, 5, 0.1).detail, { cases: 10, candidate: 4, current: 5, minScore: 0.1 });
  });
});
