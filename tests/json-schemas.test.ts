import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { jsonSchemas } from '../scripts/json-schemas.ts';

const SPEC = path.join(path.dirname(import.meta.dirname), 'spec');

function check(file: string, yaml: string): boolean {
  const schema: unknown = JSON.parse(jsonSchemas().get(file) ?? '');
  return new Ajv2020().validate(schema as object, parse(yaml));
}

test('the published JSON schemas are those of the readers', () => {
  for (const [file, text] of jsonSchemas()) {
    assert.equal(readFileSync(path.join(SPEC, file), 'utf8'), text, `${file}: npm run docs`);
  }
});

test('an editor accepts what the readers accept, and marks unknown keys', () => {
  const app = 'freehold.schema.json';
  assert.ok(
    check(
      app,
      'models:\n  a: catalog:x\n  b: { from: "catalog:x", variant: q4_0 }\nserver: { listen: "127.0.0.1:1" }',
    ),
  );
  assert.ok(check(app, 'models:\n'));
  assert.equal(check(app, 'modles: {}'), false);
  assert.equal(check(app, 'models: { a: { variant: q4_0 } }'), false);
  const model = 'model.schema.json';
  const base = 'name: acme/triage\nversion: 1.4.0\nlicense: Apache-2.0\nweights: w.gguf\n';
  assert.ok(
    check(model, `${base}variants: [q8_0, { name: edge, quantize: q4_0 }]\nparameters: { temperature: 0 }`),
  );
  assert.equal(check(model, `${base}variant: q8_0`), false);
  assert.equal(check(model, 'name: acme/triage'), false);
});
