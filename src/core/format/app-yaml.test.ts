import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FreeholdError } from '../base/errors.ts';
import { addModelText } from './app-document.ts';
import { parseAppYaml } from './app-yaml.ts';

function refusal(work: () => unknown): FreeholdError {
  try {
    work();
  } catch (error) {
    if (error instanceof FreeholdError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

test('models by reference, or as objects', () => {
  const { models, listen } = parseAppYaml(`
models:
  triage: oci://registry.acme.example/acme/triage:^1.4    # a remark
  coder: catalog:qwen2.5-coder-1.5b
  strict: { from: "oci://registry.acme.example/acme/strict:>=1.2 <2", variant: q4_0, suite: suites/s.yaml, channel: stable }
  named: oci://registry.acme.example/acme/triage:1.4.0#q8_0
  hub: hf://owner/repo:Q4_K_M
  own: file:../models/own
server: { listen: 127.0.0.1:9000 }
`);
  assert.equal(listen, '127.0.0.1:9000');
  assert.deepEqual(
    models.map(({ key, reference, variant, suite, channel }) => [
      key,
      reference.kind,
      variant,
      suite,
      channel,
    ]),
    [
      ['triage', 'registry', undefined, undefined, undefined],
      ['coder', 'catalog', undefined, undefined, undefined],
      ['strict', 'registry', 'q4_0', 'suites/s.yaml', 'stable'],
      ['named', 'registry', 'q8_0', undefined, undefined],
      ['hub', 'huggingface', undefined, undefined, undefined],
      ['own', 'file', undefined, undefined, undefined],
    ],
  );
  assert.deepEqual(models[2]?.reference.kind === 'registry' && models[2].reference.selector, {
    kind: 'range',
    range: '>=1.2 <2',
  });
});

test('an empty file asks for nothing', () => {
  assert.deepEqual(parseAppYaml(''), { models: [] });
  assert.deepEqual(parseAppYaml('models:\n'), { models: [] });
});

test('what cannot be followed is refused with its place', () => {
  const cases: [string, string, RegExp][] = [
    ['modles: {}', 'CONFIG_INVALID', /line 1.*unknown key "modles"; did you mean "models"/],
    [
      'models:\n  a: { frm: "catalog:x" }',
      'CONFIG_INVALID',
      /line 2.*unknown key "frm"; did you mean "from"/,
    ],
    ['models:\n  a: triage', 'CONFIG_INVALID', /models\.a.*does not say where/],
    ['models:\n  a: oci://r.example/x:>>1', 'CONFIG_INVALID', /not a range of versions/],
    ['models:\n  a: oci://r.example/x:^1#UP', 'CONFIG_INVALID', /not a variant name/],
    ['models:\n  A/b: catalog:x', 'CONFIG_INVALID', /not a name for a model/],
    ['models:\n  a: catalog:x\n  a: catalog:y', 'CONFIG_INVALID', /unique/],
    [
      'models:\n  a: { from: "oci://r.example/x:1.0.0#q4", variant: q8 }',
      'CONFIG_INVALID',
      /models\.a.*q4.*q8/,
    ],
    ['models:\n  a: { from: "catalog:x", channel: stable }', 'CONFIG_INVALID', /in none/],
    ['providers: { a: {} }', 'NOT_SUPPORTED', /providers: not supported in this version/],
    ['routes: {}', 'NOT_SUPPORTED', /routes: not supported in this version/],
    ['server: { listen: 1 }', 'CONFIG_INVALID', /server\.listen/],
  ];
  for (const [text, code, message] of cases) {
    const error = refusal(() => parseAppYaml(text));
    assert.equal(error.code, code, text);
    assert.match(error.message, message, text);
  }
  const many = Array.from({ length: 257 }, (_, index) => `  m${index}: catalog:x`).join('\n');
  assert.match(refusal(() => parseAppYaml(`models:\n${many}`)).message, /257 models, at most 256/);
});

test('adding a model keeps comments and order', () => {
  const text =
    '# Ours.\nserver: { listen: 127.0.0.1:9000 } # here\nmodels:\n  # The old one.\n  a: catalog:a # good\n';
  assert.equal(
    addModelText(text, 'b', 'oci://r.example/acme/b:^1.0.0'),
    `${text}  b: oci://r.example/acme/b:^1.0.0\n`,
  );
});

test('adding to nothing, to a comment, to models without any', () => {
  for (const text of ['', '# Ours.\n', 'models:\n', 'models: {}\n', 'models: # none yet\n']) {
    const edited = addModelText(text, 'a', 'catalog:a');
    assert.deepEqual(
      parseAppYaml(edited).models.map(({ key, text: from }) => [key, from]),
      [['a', 'catalog:a']],
      text,
    );
    assert.match(edited, /\n {2}a: catalog:a\n$/);
    for (const [comment] of text.matchAll(/# .*/g)) assert.ok(edited.includes(comment), text);
  }
});

test('adding what is there changes nothing; another source under its name is refused', () => {
  const text = 'models: { a: catalog:a }\n';
  assert.equal(addModelText(text, 'a', 'catalog:a'), text);
  assert.equal(refusal(() => addModelText(text, 'a', 'catalog:b')).code, 'ALREADY_EXISTS');
});

test('a file that an edit would turn into something else is left alone', () => {
  const text = 'models: &all\n  a: catalog:a\nserver: {}\n';
  assert.doesNotThrow(() => addModelText(text, 'b', 'catalog:b'));
  const aliased = 'models:\n  a: &object { from: "catalog:a" }\n  c: *object\n';
  assert.doesNotThrow(() => addModelText(aliased, 'b', 'catalog:b'));
});
