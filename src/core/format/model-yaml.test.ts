import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import { parseModelYaml } from './model-yaml.ts';

const BASE = 'name: acme/triage\nversion: 1.4.0\nlicense: Apache-2.0\nweights: model-f16.gguf\n';

function refusal(text: string): FreeholdError {
  try {
    parseModelYaml(text);
  } catch (error) {
    if (error instanceof FreeholdError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

test('the shortest model.yaml: the weights as they are', () => {
  assert.deepEqual(parseModelYaml(BASE), {
    name: 'acme/triage',
    version: '1.4.0',
    license: 'Apache-2.0',
    weights: 'model-f16.gguf',
    files: [],
    variants: [],
  });
});

test('variants by name, or with a name of their own', () => {
  const { variants } = parseModelYaml(
    `${BASE}variants: [q8_0, Q4_K_M, { name: edge, quantize: q4_0 }, { name: full }]\n`,
  );
  assert.deepEqual(
    variants.map(({ name, quantize }) => [name, quantize?.label]),
    [
      ['q8_0', 'Q8_0'],
      ['q4_k_m', 'Q4_K_M'],
      ['edge', 'Q4_0'],
      ['full', undefined],
    ],
  );
});

test('what this version does not do is refused by name, never left out', () => {
  for (const [line, key] of [
    ['seal: true', 'seal'],
    ['gates: { suite: s.yaml, minScore: 0.9 }', 'gates'],
    ['variants: [{ name: edge, quantize: q4_0, prune: { layers: 4 } }]', 'prune'],
  ] as const) {
    const error = refusal(`${BASE}${line}\n`);
    assert.equal(error.code, 'NOT_SUPPORTED');
    assert.match(error.message, new RegExp(key));
  }
  assert.equal(parseModelYaml(`${BASE}seal: false\n`).name, 'acme/triage');
});

test('a wrong key or value names its line and path, and what was probably meant', () => {
  const cases: [string, RegExp][] = [
    [`${BASE}licence: MIT\n`, /line 5.*"licence".*license/],
    [BASE.replace('1.4.0', '1.4'), /line 2.*version/],
    [BASE.replace('acme/triage', '../triage'), /name/],
    [`${BASE}variants: [q4_kk_m]\n`, /q4_kk_m/],
    [`${BASE}variants: [q4_0, { name: q4_0 }]\n`, /two are named q4_0/],
    [`${BASE}parameters: { temprature: 1 }\n`, /temprature.*temperature/],
    [`${BASE}parameters: { temperature: 9 }\n`, /temperature/],
    [`${BASE}files: [../../etc/passwd]\n`, /files/],
    [`${BASE}description: "a\\u001b[2Jb"\n`, /description/],
    ['just text', /.*/],
    [`${BASE}name: acme/other\n`, /.*/],
  ];
  for (const [text, pattern] of cases) {
    const error = refusal(text);
    assert.equal(error.code, 'CONFIG_INVALID', text);
    assert.match(`${error.message} ${error.hint}`, pattern);
  }
});
